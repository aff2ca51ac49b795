"""linear_attention: every rung against the float64 recurrence, the forms that agree, and what the functions promise."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikernels import linear_attention as la
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from minikernels.linear_attention import api, reference, tiled
from tests.linear_attention_cases import CASES, gate, label, made, options, right

HERE = api.FORWARD.of_kind("numpy", "numba")  # rungs that run without a GPU
RAW = api.FORWARD.of_kind("raw")
over = pytest.mark.parametrize


def run(inputs, rung=None):
    """Return o and the last state of one rung."""
    return la.attention(*inputs[:3], **options(inputs), return_state=True, rung=rung)


@over("case", CASES, ids=label)
@over("dtype", ["float32", "float16"])
@over("rung", HERE)
def test_rung_is_right(rung, dtype, case):
    inputs = made(case, dtype)
    o, state = run(inputs, rung)
    assert (o.dtype, state.dtype) == (inputs[0].dtype, np.float32) or rung == "reference"
    assert (o.shape, state.shape) == (inputs[0].shape, (*inputs[0].shape[:2], case[3], case[3]))
    right(reference.judge(o, state.astype(np.float32, copy=False), *inputs))


@over("case", CASES, ids=label)
def test_the_three_forms_agree(case):
    inputs = made(case, "float64")
    o, state = reference.recurrent(*inputs)
    for form in (reference.quadratic, reference.chunked):
        other, last = form(*inputs)
        np.testing.assert_allclose(other, o, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(last, state, rtol=1e-9, atol=1e-11)


@over("chunk", [1, 7, 16, 64, 500])
@over("gates", [None, "mixed"])
def test_the_size_of_a_chunk_does_not_change_the_result(gates, chunk):
    inputs = made((2, 2, 70, 12, gates, True))
    right(reference.judge(*tiled.attention(*inputs, chunk=chunk), *inputs))


def test_numpy_rungs_keep_float64():
    inputs = made(CASES[2], "float64")
    exact = reference.attention(*inputs)
    for rung in ("reference", "tiled"):
        for found, wanted in zip(run(inputs, rung), exact, strict=True):
            assert found.dtype == np.float64
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


@over("rung", HERE)
@over("cuts", [(0,), (1,), (16,), (5, 40), (33, 33)], ids=str)
def test_a_sequence_in_parts_with_the_state_handed_on_is_the_whole(rung, cuts):
    q, k, v, decay, gates, scale, state = made((2, 2, 49, 16, "random", True))
    whole = q, k, v, decay, gates, scale, state
    parts = []
    for first, last in zip((0, *cuts), (*cuts, 49), strict=True):
        piece = [x[:, :, first:last] for x in (q, k, v, gates)]
        o, state = run((*piece[:3], decay, piece[3], scale, state), rung)
        parts.append(o)
    right(reference.judge(np.concatenate(parts, axis=2), state.astype(np.float32), *whole))


@over("rung", HERE)
@over("gates", ["strong", "mixed"])
def test_gates_of_minus_20_neither_overflow_nor_leave_the_budget(rung, gates):
    q, k, v, *_ = made((1, 2, 100, 16, None, False))
    g = gate(np.random.default_rng(3), q.shape, gates, "float32")
    inputs = q, k, v, np.ones(2, np.float32), g, 1.0, None
    o, state = run(inputs, rung)
    assert np.isfinite(o).all() and np.isfinite(state).all()
    right(reference.judge(o, state.astype(np.float32), *inputs))


@over("rung", HERE)
def test_decay_is_what_a_token_leaves(rung):
    k = v = np.zeros((1, 2, 6, 1), np.float32)
    k[:, :, 0] = v[:, :, 0] = 1  # one token, remembered
    o = la.attention(np.ones_like(k), k, v, decay=np.array([0.5, 1.0], np.float32), rung=rung)
    np.testing.assert_allclose(o[0, :, :, 0], [0.5 ** np.arange(6), np.ones(6)], rtol=1e-6)


@over("rung", HERE)
def test_a_decay_is_a_gate_of_its_logarithm(rung):
    q, k, v, decay, _, scale, state = made((2, 3, 37, 8, None, True))
    gates = np.broadcast_to(np.log(decay)[:, None, None], q.shape).astype(np.float32)
    by_decay = run((q, k, v, decay, None, scale, state), rung)
    by_gate = run((q, k, v, None, gates, scale, state), rung)
    for one, other in zip(by_decay, by_gate, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-4)


@over("rung", HERE)
@over("scale", [0.0, 1, -0.7, 1e-4, None], ids=lambda scale: f"scale{scale}")
def test_any_scale_is_right(rung, scale):
    q, k, v, decay, gates, _, state = made((1, 2, 30, 16, None, True))
    o, last = run((q, k, v, decay, gates, scale, state), rung)
    factor = 0.25 if scale is None else scale
    right(reference.judge(o, last.astype(np.float32), q, k, v, decay, gates, factor, state))


@over("rung", HERE)
def test_gates_and_states_have_dtypes_of_their_own(rung):
    q, k, v, decay, _, scale, _ = made((1, 2, 20, 8, None, True), "float16")
    rng = np.random.default_rng(0)
    gates, state = gate(rng, q.shape, "random", "float32"), rng.standard_normal((1, 2, 8, 8)).astype("float16")
    inputs = q, k, v, decay.astype("float64"), gates, scale, state
    o, last = run(inputs, rung)
    right(reference.judge(o, last.astype(np.float32), *inputs))


@over("rung", HERE)
def test_a_nan_reaches_what_comes_after_it_and_nothing_else(rung):
    q, k, v, decay, gates, scale, _ = made((2, 2, 100, 8, None, False))
    q[0, 0, 5, 2], v[1, 1, 80, 3] = np.nan, np.nan
    o, state = run((q, k, v, decay, gates, scale, None), rung)
    assert np.isnan(o[0, 0, 5]).all() and np.isnan(o[1, 1, 80:, 3]).all()
    assert np.isfinite(np.delete(o[0, 0], 5, axis=0)).all() and np.isfinite(o[1, 1, :64]).all()  # the chunks before
    assert np.isfinite(np.delete(o[1, 1], 3, axis=1)).all() and np.isfinite(o[0, 1]).all()
    assert np.isfinite(state[0]).all() and np.isnan(state[1, 1, :, 3]).all()


@over("case", [(0, 2, 4, 5), (2, 0, 4, 5), (2, 2, 0, 5), (2, 2, 4, 0), (0, 0, 0, 0)], ids=str)
@over("rung", [None, *HERE])
def test_an_empty_axis_gives_an_empty_result(rung, case):
    q, k, v, decay, gates, scale, state = made((*case, "mixed", True))
    o, last = run((q, k, v, decay, gates, scale, state), rung)
    assert o.shape == q.shape and not o.any()
    np.testing.assert_array_equal(last, state)  # no token came
    assert not run((q, k, v, decay, gates, scale, None), rung)[1].any()


def test_the_default_on_numpy_arrays_is_tiled():
    q, k, v, *_ = made(CASES[1])
    np.testing.assert_array_equal(la.attention(q, k, v), la.attention(q, k, v, rung="tiled"))
    assert isinstance(la.attention(q, k, v), np.ndarray)
    ones = np.ones(3, np.float32)
    np.testing.assert_array_equal(la.attention(q, k, v), la.attention(q, k, v, decay=ones, scale=1.0))


@over("H", [1, 3, 8, 16])
def test_slopes_are_those_of_the_paper(H):
    found = la.slopes(H)
    assert (found.shape, found.dtype) == ((H,), np.float32)
    np.testing.assert_allclose(found, [2 ** (-8 * (h + 1) / H) for h in range(H)], rtol=1e-6)
    np.testing.assert_allclose(la.slopes(H, layer=3, layers=4), found / 4, rtol=1e-6)


@over(("arguments", "message"), [
    (((0,), {}), "heads is 0; it must be at least 1"),
    (((4,), {"layer": 4, "layers": 4}), "layer is 4; there are layers 0 to 3"),
    (((4,), {"layer": -1}), "layer is -1; there are layers 0 to 0"),
    (((4,), {"layers": 0}), "layers is 0; it must be at least 1"),
])
def test_slopes_of_what_is_not_there_are_refused(arguments, message):
    with pytest.raises(ShapeError, match=message):
        la.slopes(*arguments[0], **arguments[1])


def zeros(*shapes, dtype="float32"):
    return [np.zeros(shape, dtype) for shape in shapes]


GOOD = (2, 3, 5, 4)


@over("rung", [None, *api.FORWARD])
@over(("shapes", "options", "message"), [
    ((GOOD, (2, 3, 6, 4), GOOD), {}, "k has shape (2, 3, 6, 4) = (B, H, T, D); T=6 must equal T=5 of q"),
    ((GOOD, GOOD, (2, 3, 5, 8)), {}, "v has shape (2, 3, 5, 8) = (B, H, T, D); D=8 must equal D=4 of q"),
    ((GOOD[1:], GOOD, GOOD), {}, "q has shape (3, 5, 4), 3 axes; it must be (B, H, T, D)"),
    ((GOOD,) * 3, {"decay": (4,)}, "decay has shape (4,) = (H,); H=4 must equal H=3 of q"),
    ((GOOD,) * 3, {"gate": (2, 3, 5, 1)}, "gate has shape (2, 3, 5, 1) = (B, H, T, D); D=1 must equal D=4 of q"),
    ((GOOD,) * 3, {"initial_state": (2, 3, 4, 5)}, "initial_state has shape (2, 3, 4, 5) = (B, H, D, D); D=5"),
], ids=["T", "D", "axes", "decay", "gate", "state"])
def test_a_wrong_shape_is_told_in_letters(rung, shapes, options, message):
    with pytest.raises(ShapeError, match=re.escape(message)):
        la.attention(*zeros(*shapes), **{name: np.ones(shape, "float32") for name, shape in options.items()}, rung=rung)


def test_a_wrong_dtype_is_named():
    q, k, v = zeros(GOOD, GOOD, GOOD)
    with pytest.raises(DtypeError, match="k has dtype float16 and q has float32; q, k and v must share one dtype"):
        la.attention(q, k.astype("float16"), v)
    with pytest.raises(DtypeError, match="gate has dtype int64; it must be float16, float32 or float64"):
        la.attention(q, k, v, gate=np.zeros(GOOD, np.int64))
    with pytest.raises(DtypeError, match="decay is of type list"):
        la.attention(q, k, v, decay=[1.0, 1.0, 1.0])
    with pytest.raises(DtypeError, match="q has dtype float64; rung v2_chunk takes float16 and float32"):
        la.attention(*(x.astype("float64") for x in (q, k, v)), rung="v2_chunk")
    with pytest.raises(DtypeError, match="gate has dtype float64; it must be float16 or float32"):
        la.attention(q, k, v, gate=np.zeros(GOOD), rung="v1_recurrent")
    with pytest.raises(DtypeError, match="scale is of type str"):
        la.attention(q, k, v, scale="big")


@over(("name", "value", "message"), [
    ("decay", (0.5, 1.5, 0.5), r"decay\[1\] is 1.5; it must be in \(0, 1\]"),
    ("decay", (0.5, 0.5, 0.0), r"decay\[2\] is 0; it must be in \(0, 1\]"),
    ("gate", 0.25, r"gate\[0, 0, 0, 0\] is 0.25; a log-gate is at most 0"),
])
def test_what_is_no_decay_or_no_log_gate_is_named(name, value, message):
    given = np.asarray(value, "float32") if name == "decay" else np.full(GOOD, value, "float32")
    with pytest.raises(ValueError, match=message):
        la.attention(*zeros(GOOD, GOOD, GOOD), **{name: given})


def test_an_unknown_rung_lists_the_rungs():
    with pytest.raises(ValueError, match=f"there is no rung 'v9_magic' here; the rungs are {', '.join(api.FORWARD)}"):
        la.attention(*zeros(GOOD, GOOD, GOOD), rung="v9_magic")


@over("rung", RAW)
def test_a_gpu_rung_on_numpy_arrays_says_so(rung):
    with pytest.raises(DeviceError, match=f"rung {rung} is CUDA C.* needs arrays on a GPU"):
        la.attention(*zeros(GOOD, GOOD, GOOD, dtype="float16"), rung=rung)


@over(("rung", "D", "message"), [
    ("v1_recurrent", 1025, "D=1025 must be at most 1024 for rung v1_recurrent; rung tiled takes more"),
    ("v2_chunk", 129, "D=129 must be at most 128 for rung v2_chunk; rung v1_recurrent takes more"),
])
def test_a_head_too_wide_for_a_rung_names_one_that_takes_it(rung, D, message):
    with pytest.raises(ShapeError, match=message):
        la.attention(*zeros(*[(1, 1, 2, D)] * 3), rung=rung)


@over("rung", [rung for rung in HERE if rung.startswith("v")])
def test_more_sequences_than_a_grid_has_room_for_are_refused(rung):
    q, k, v = zeros(*[(65_536, 1, 1, 1)] * 3)
    with pytest.raises(ShapeError, match="B=65536 must be at most 65535"):
        la.attention(q, k, v, rung=rung)


def test_the_readme_example_runs(root):
    readme = (root / "minikernels/linear_attention/README.md").read_text("utf-8")
    names = {}
    for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        exec(compile(code, "minikernels/linear_attention/README.md", "exec"), names)
    np.testing.assert_allclose(names["same"], names["o"], rtol=0, atol=1e-3)
    q, k, v, gates = (names[x] for x in ("q", "k", "v", "gate"))
    whole = reference.attention(q, k, v, np.ones(4), gates, 1.0)[0]
    np.testing.assert_allclose(np.concatenate([names["first"], names["rest"]], axis=2), whole, rtol=0, atol=1e-3)


SIZES = {"B": st.integers(1, 2), "H": st.integers(1, 3), "T": st.integers(0, 90), "D": st.integers(1, 20)}


@settings(max_examples=60, deadline=None)
@given(**SIZES, gates=st.sampled_from([None, "ones", "strong", "mixed", "random"]), begun=st.booleans(),
       dtype=st.sampled_from(["float32", "float16"]), seed=st.integers(0, 9))
def test_any_sizes_and_gates_are_right(B, H, T, D, gates, begun, dtype, seed):
    inputs = made((B, H, T, D, gates, begun), dtype, seed)
    right(reference.judge(*run(inputs), *inputs))
