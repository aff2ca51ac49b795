"""linear_attention's gradients: the oracle against differences of the forward pass, the rungs against the oracle."""

import re

import numpy as np
import pytest

from minikernels import linear_attention as la
from minikernels import simt
from minikernels.core.errors import DtypeError, ShapeError
from minikernels.core.traffic import Traffic
from minikernels.linear_attention import api, reference, reference_backward, tiled_backward, traffic_backward
from tests.linear_attention_cases import CASES, label, made, right

HERE = api.BACKWARD.of_kind("numpy", "numba")
FIELDS = ["load_requests", "load_sectors", "load_bytes", "store_requests", "store_sectors", "store_bytes", "barriers"]
over = pytest.mark.parametrize


def upstream(case, dtype="float32"):
    """Return the gradients by o and, where there is an initial state, by the last state."""
    B, H, T, D, _, begun = case
    rng = np.random.default_rng(9)
    do = rng.standard_normal((B, H, T, D)).astype(dtype)
    return do, rng.standard_normal((B, H, D, D)).astype("float32") if begun else None


def gradients(rung, inputs, do, dstate):
    """Return all five gradients through the public function; None where it returns none."""
    q, k, v, decay, gate, scale, state = inputs
    found = la.attention_backward(q, k, v, do, decay=decay, gate=gate, scale=scale, initial_state=state, dstate=dstate,
                                  rung=rung)
    rest = iter(found[3:])
    return (*found[:3], None if gate is None else next(rest), None if state is None else next(rest))


@over("gates", [None, "random", "mixed"])
def test_the_oracle_is_the_derivative_of_the_forward_pass(gates):
    case = (1, 2, 6, 3, gates, True)
    inputs = [x if x is None or np.isscalar(x) else x.astype(np.float64) for x in made(case, "float64")]
    q, k, v, decay, gate, scale, state = inputs
    do, dstate = (x.astype(np.float64) for x in upstream(case))

    def loss(**changed):
        names = {"q": q, "k": k, "v": v, "gate": gate, "state": state} | changed
        o, last = reference.recurrent(names["q"], names["k"], names["v"], decay, names["gate"], scale, names["state"])
        return np.sum(o * do) + np.sum(last * dstate)

    grads = reference_backward.attention_backward(q, k, v, do, decay, gate, scale, state, dstate)
    for name, x, grad in zip(("q", "k", "v", "gate", "state"), (q, k, v, gate, state), grads, strict=True):
        if x is None:
            continue
        for index in list(np.ndindex(x.shape))[::5]:
            step = np.zeros_like(x)
            step[index] = 1e-6
            slope = (loss(**{name: x + step}) - loss(**{name: x - step})) / 2e-6
            assert abs(slope - grad[index]) < 1e-6 * max(1, abs(slope)), (name, index)


@over("case", CASES, ids=label)
@over("dtype", ["float32", "float16"])
@over("rung", HERE)
def test_gradients_are_right(rung, dtype, case):
    inputs = made(case, dtype)
    do, dstate = upstream(case, dtype)
    grads = gradients(rung, inputs, do, dstate)
    assert [x.dtype for x in grads[:3]] == [inputs[0].dtype] * 3
    q, k, v, decay, gate, scale, state = inputs
    right(reference_backward.judge_backward(grads, q, k, v, do, decay, gate, scale, state, dstate))


@over("chunk", [1, 7, 64, 500])
@over("gates", [None, "mixed"])
def test_the_size_of_a_chunk_does_not_change_the_gradients(gates, chunk):
    case = (1, 2, 70, 12, gates, True)
    q, k, v, decay, gate, scale, state = made(case)
    do, dstate = upstream(case)
    grads = tiled_backward.attention_backward(q, k, v, do, decay, gate, scale, state, dstate, chunk=chunk)
    right(reference_backward.judge_backward(grads, q, k, v, do, decay, gate, scale, state, dstate))


@over("case", CASES[:6], ids=label)
@over("dtype", ["float32", "float16"])
def test_predicted_traffic_equals_counted(dtype, case):
    inputs = made(case, dtype)
    do, dstate = upstream(case, dtype)
    with simt.collect() as launches:
        gradients("v1_recurrent", inputs, do, dstate)
    assert not [finding for launch in launches for finding in launch.findings]
    size = inputs[0].itemsize
    predicted = traffic_backward.v1_recurrent(*case[:4], size, size if case[4] else 0, case[5], dstate is not None)
    counted = sum((launch.traffic for launch in launches), Traffic())
    assert {f: getattr(predicted, f) for f in FIELDS} == {f: getattr(counted, f) for f in FIELDS}


def test_the_forms_of_the_numpy_rungs_are_their_schedules():
    B, H, T, D = 2, 3, 40, 16
    row, state = B * H * T * D * 4, B * H * D * D * 4
    form = traffic_backward.tiled(B, H, T, D)
    assert (form.load_bytes, form.store_bytes) == (7 * row + H * 4, 3 * row + state)
    more = traffic_backward.reference(B, H, T, D)
    assert more.store_bytes - form.store_bytes == 2 * (T - 1) * state


@over("case", [(0, 2, 4, 5), (2, 2, 0, 5), (2, 2, 4, 0)], ids=str)
@over("rung", [None, *HERE])
def test_an_empty_axis_gives_empty_gradients(rung, case):
    whole = (*case, "mixed", True)
    inputs, (do, dstate) = made(whole), upstream(whole)
    grads = gradients(rung, inputs, do, dstate)
    assert [x.shape for x in grads] == [inputs[0].shape] * 4 + [dstate.shape]
    assert not any(x.any() for x in grads[:4])
    np.testing.assert_array_equal(grads[4], dstate)  # no token stands between the two states


def test_what_does_not_fit_is_refused():
    q = np.zeros((1, 2, 3, 4), np.float32)
    with pytest.raises(ShapeError, match=re.escape("do has shape (1, 2, 2, 4) = (B, H, T, D); T=2 must equal T=3")):
        la.attention_backward(q, q, q, q[:, :, :2])
    with pytest.raises(DtypeError, match="do has dtype float16 and q has float32"):
        la.attention_backward(q, q, q, q.astype("float16"))
    with pytest.raises(ValueError, match="no rung 'v2_chunk' here; the rungs are reference, tiled, v1_recurrent"):
        la.attention_backward(q, q, q, q, rung="v2_chunk")
