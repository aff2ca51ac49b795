"""selective_scan: every rung against the float64 oracle, and what the public function promises."""

import re

import numpy as np
import pytest

from minikernels import model
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from minikernels.model import layers
from minikernels.selective_scan import api, entry, reference, scan, tiled
from tests.selective_scan_cases import CASES, label, made, right

HERE = api.SCAN.of_kind("numpy", "numba")  # rungs that run without a GPU
NUMBA = api.SCAN.of_kind("numba")
RAW = api.SCAN.of_kind("raw")
over = pytest.mark.parametrize


def judged(rung, given):
    """Run a rung with its state returned, and fail unless both are right; return them."""
    o, state = scan(**given, return_state=True, rung=rung)
    assert o.dtype == given["u"].dtype
    assert state.dtype == np.result_type(o.dtype, np.float32)
    right(reference.judge(o, state, **given))
    return o, state


@over("case", CASES, ids=label)
@over("rung", HERE)
def test_rung_is_right_in_float32(rung, case):
    judged(rung, made(case))


@over("case", CASES[1::2], ids=label)
@over("rung", HERE)
def test_rung_is_right_in_float16(rung, case):
    judged(rung, made(case, "float16"))


def test_numpy_rungs_keep_float64():
    given = {name: x if isinstance(x, bool) else x.astype("float64") for name, x in made(CASES[1]).items()}
    exact, state = reference.scan(**given)
    for rung in ("reference", "tiled"):
        o, last = scan(**given, return_state=True, rung=rung)
        assert o.dtype == last.dtype == np.float64
        np.testing.assert_allclose(o, exact, rtol=0, atol=1e-13)
        np.testing.assert_allclose(last, state, rtol=0, atol=1e-13)


def test_the_oracle_is_the_recurrence_written_out():
    given = made((2, 7, 3, 4, ""))
    o, state = reference.scan(**given)
    x = {name: value.astype("float64") for name, value in given.items() if name != "delta_softplus"}
    for batch in range(2):
        for e in range(3):
            h = x["initial_state"][batch, e].copy()
            for t in range(7):
                step = np.log1p(np.exp(x["delta"][batch, t, e] + x["delta_bias"][e]))
                for n in range(4):
                    h[n] = np.exp(step * x["a"][e, n]) * h[n] + step * x["u"][batch, t, e] * x["b"][batch, t, n]
                y = float(h @ x["c"][batch, t]) + x["d"][e] * x["u"][batch, t, e]
                np.testing.assert_allclose(o[batch, t, e], y * x["z"][batch, t, e] / (1 + np.exp(-x["z"][batch, t, e])))
            np.testing.assert_allclose(state[batch, e], h)


@over("rung", HERE)
@over("cut", [1, 32])
def test_a_split_sequence_with_its_state_carried_is_the_whole(rung, cut):
    given = made((2, 45, 9, 3, ""))
    o, state = judged(rung, given)
    tokens = ("u", "delta", "b", "c", "z")
    first = given | {name: np.ascontiguousarray(given[name][:, :cut]) for name in tokens}
    rest = given | {name: np.ascontiguousarray(given[name][:, cut:]) for name in tokens}
    o1, carried = scan(**first, return_state=True, rung=rung)
    o2, last = scan(**{**rest, "initial_state": carried}, return_state=True, rung=rung)
    for found, whole in ((np.concatenate((o1, o2), axis=1), o), (last, state)):
        np.testing.assert_allclose(found, whole, rtol=0, atol=2e-6 * np.abs(whole).max())


@over("chunk", [1, 2, 7, 32, 500])
def test_the_chunk_does_not_change_the_result(chunk):
    given = made((2, 70, 9, 5, ""))
    right(reference.judge(*tiled.scan(**given, chunk=chunk), **given))


@over("rung", HERE)
def test_tokens_one_at_a_time_are_a_scan(rung):
    given = made((1, 4, 5, 3, "initial_state"))
    whole, state, outputs = *judged(rung, given), []
    carried = None
    for t in range(4):
        one = given | {name: given[name][:, t : t + 1] for name in ("u", "delta", "b", "c", "z")}
        o, carried = scan(**{**one, "initial_state": carried}, return_state=True, rung=rung)
        outputs.append(o)
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), whole, rtol=0, atol=1e-6)
    np.testing.assert_allclose(carried, state, rtol=0, atol=1e-6)


@over("rung", HERE)
@over("dtype", ["float16", "float32"])
def test_softplus_is_its_argument_above_20_and_nothing_overflows(rung, dtype):
    given = made((1, 8, 4, 3, "delta_bias"), dtype)
    given["delta"][0] = np.array([-1000, -100, -30, 19.9, 20, 20.1, 100, 60000])[:, None]
    o, state = judged(rung, given)
    assert np.isfinite(state).all()
    exact = reference.scan(**given)[1]
    np.testing.assert_allclose(state, exact, rtol=1e-6)


@over("rung", HERE)
def test_a_huge_step_forgets_and_gives_no_nan(rung):
    given = made((1, 40, 4, 16, "delta_bias softplus z d"))
    given["delta"][0, 20] = 1e30  # a state of 0 times everything before
    given["u"][0, 20] = 0
    o, state = judged(rung, given)
    later = {name: given[name][:, 21:] for name in ("u", "delta", "b", "c")}
    fresh, _ = scan(**later, a=given["a"], return_state=True)
    np.testing.assert_allclose(o[:, 21:], fresh, rtol=0, atol=1e-6)


@over("rung", HERE)
def test_large_gates_neither_overflow_nor_pass(rung):
    given = made((1, 5, 6, 2, ""))
    given["z"][0] = np.array([-10000, -90, 0, 90, 10000])[:, None]
    o, _ = judged(rung, given)
    assert not o[0, :3].any()


@over("rung", HERE)
def test_a_nan_stays_in_its_channel_and_after_its_token(rung):
    given = made((2, 40, 10, 4, ""))
    given["u"][1, 17, 3] = np.nan
    o, state = scan(**given, return_state=True, rung=rung)
    assert np.isnan(o[1, 17:, 3]).all() and np.isnan(state[1, 3]).all()
    o[1, 17:, 3], state[1, 3] = 0, 0
    assert np.isfinite(o).all() and np.isfinite(state).all()


@over("rung", HERE)
def test_rates_of_the_tokens_dtype_are_taken(rung):
    given = made((2, 5, 6, 3, ""), "float16")
    halves = {name: given[name].astype("float16") for name in api.PARAMETERS}
    widened = {name: x.astype("float32") for name, x in halves.items()}
    o, state = scan(**{**given, **halves}, return_state=True, rung=rung)
    expected, last = scan(**{**given, **widened}, return_state=True, rung=rung)
    np.testing.assert_array_equal(o, expected)
    np.testing.assert_array_equal(state, last)
    assert state.dtype == np.float32


@over("rung", [None, *HERE])
@over("case", [(0, 3, 4, 2), (2, 0, 4, 2), (2, 3, 0, 2), (0, 0, 0, 0)], ids=str)
def test_an_empty_axis_gives_an_empty_result(rung, case):
    given = made((*case, ""))
    o, state = scan(**given, return_state=True, rung=rung)
    assert o.shape == given["u"].shape
    np.testing.assert_array_equal(state, given["initial_state"])
    assert state is not given["initial_state"]


@over("rung", [None, *HERE])
@over("left_out", ["", "d", "z", "d z"])
def test_without_states_the_direct_share_is_left(rung, left_out):
    given = made((2, 3, 4, 0, left_out))
    o, state = scan(**given, return_state=True, rung=rung)
    right(reference.judge(o, state, **given))


def test_the_state_is_returned_when_asked_for():
    given = made(CASES[1])
    o, state = scan(**given, return_state=True)
    np.testing.assert_array_equal(scan(**given), o)
    assert state.shape == (2, 24, 16)


def test_the_default_on_numpy_arrays_is_tiled():
    given = made(CASES[1])
    np.testing.assert_array_equal(scan(**given), scan(**given, rung="tiled"))


@over("rung", [None, *api.SCAN])
@over(("name", "shape", "message"), [
    ("u", (2, 3), "u has shape (2, 3), 2 axes; it must be (B, T, E)"),
    ("delta", (2, 4, 4), "delta has shape (2, 4, 4) = (B, T, E); T=4 must equal T=3 of u"),
    ("a", (5, 2), "a has shape (5, 2) = (E, N); E=5 must equal E=4 of u"),
    ("b", (1, 3, 2), "b has shape (1, 3, 2) = (B, T, N); B=1 must equal B=2 of u"),
    ("c", (2, 3, 3), "c has shape (2, 3, 3) = (B, T, N); N=3 must equal N=2 of a"),
    ("d", (3,), "d has shape (3,) = (E,); E=3 must equal E=4 of u"),
    ("z", (2, 3, 1), "z has shape (2, 3, 1) = (B, T, E); E=1 must equal E=4 of u"),
    ("initial_state", (2, 2, 4), "initial_state has shape (2, 2, 4) = (B, E, N); E=2 must equal E=4 of u"),
], ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "")
def test_a_wrong_shape_is_told_in_letters(rung, name, shape, message):
    given = made((2, 3, 4, 2, "")) | {name: np.zeros(shape, np.float32)}
    with pytest.raises(ShapeError, match=re.escape(message)):
        scan(**given, rung=rung)


def test_a_wrong_dtype_is_named():
    given = made((2, 3, 4, 2, ""))
    with pytest.raises(DtypeError, match="b has dtype float16 and u has float32; u, delta, b, c and z must share one"):
        scan(**{**given, "b": given["b"].astype("float16")})
    with pytest.raises(DtypeError, match="a has dtype float64; beside u of float32 it must be float32"):
        scan(**{**given, "a": given["a"].astype("float64")})
    with pytest.raises(DtypeError, match="d has dtype int32; beside u of float16 it must be float32 or float16"):
        scan(**{**made((2, 3, 4, 2, ""), "float16"), "d": np.zeros(4, np.int32)})
    with pytest.raises(DtypeError, match="u has dtype int64; it must be float16, float32 or float64"):
        scan(**{**given, "u": given["u"].astype("int64")})
    with pytest.raises(DtypeError, match="c is of type list"):
        scan(**{**given, "c": given["c"].tolist()})
    wide = {name: x if isinstance(x, bool) else x.astype("float64") for name, x in given.items()}
    with pytest.raises(DtypeError, match="u has dtype float64; rung v2_token_major takes float16 and float32"):
        scan(**wide, rung="v2_token_major")


def test_an_unknown_rung_lists_the_rungs():
    with pytest.raises(ValueError, match=f"there is no rung 'v9_magic' here; the rungs are {', '.join(api.SCAN)}"):
        scan(**made(CASES[0]), rung="v9_magic")


@over("rung", RAW)
def test_a_gpu_rung_on_numpy_arrays_says_so(rung):
    with pytest.raises(DeviceError, match=f"rung {rung} is CUDA C.* needs arrays on a GPU"):
        scan(**made(CASES[0]), rung=rung)


@over("rung", ["reference", "tiled", *NUMBA[:3]])
def test_256_states_are_taken(rung):
    judged(rung, made((1, 3, 2, 256, "z")))


@over("rung", NUMBA)
def test_too_many_states_name_a_rung_that_takes_them(rung):
    given = made((1, 2, 1, 257, ""))
    with pytest.raises(ShapeError, match=f"N=257 must be at most 256 for rung {rung}; rung tiled takes more"):
        scan(**given, rung=rung)
    right(reference.judge(*scan(**given, return_state=True), **given))


@over("rung", NUMBA)
def test_more_sequences_than_a_grid_has_room_for_are_refused(rung):
    with pytest.raises(ShapeError, match="B=65536 must be at most 65535"):
        scan(**made((65_536, 1, 1, 1, "")), rung=rung)


def test_channel_major_memory_is_not_copied():
    from minikernels.selective_scan.numba_sequential import channel_major

    x = np.zeros((2, 5, 3)).transpose(0, 2, 1)
    assert np.shares_memory(channel_major(x), x)
    assert not np.shares_memory(channel_major(np.zeros((2, 3, 5))), x)


def test_the_cuda_rungs_logarithm_is_good_to_a_unit_in_the_last_place(root):
    """log1p_small of scan.cuh, with its coefficients as they stand there and each step rounded to float32."""
    text = (root / "minikernels/selective_scan/scan.cuh").read_text("utf-8")
    body = text.partition("float log1p_small(float w) {")[2].partition("}")[0]
    first, *others = (np.float64(x) for x in re.findall(r"-?0\.\d+", body))
    assert len(others) == 6
    w = np.linspace(0, 0.5, 100_001, dtype=np.float32)[1:].astype(np.float64)
    q = np.full_like(w, np.float32(first))
    for x in others:
        q = (q * w + np.float32(x)).astype(np.float32).astype(np.float64)  # a fused multiply-add rounds once
    found = ((w * w).astype(np.float32) * q + w).astype(np.float32)
    assert np.max(np.abs(found / np.log1p(w) - 1)) < 2.0**-23


def test_the_models_mamba_layers_are_scans():
    tiny = model.load("hybrid")
    for layer, kind in enumerate(tiny.config.layers):
        if kind != "mamba":
            with pytest.raises(ShapeError, match="this layer of the model is an attention layer"):
                entry.activations(tiny.activations(b"import os", layer))
            continue
        given = entry.activations(tiny.activations(b"import os\n\n\ndef scan(path):\n", layer))
        o, state = scan(**given, delta_softplus=True, return_state=True)
        expected, h = layers.scan(**given, h=np.zeros_like(state))
        np.testing.assert_allclose(o, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
        np.testing.assert_allclose(state, h, rtol=0, atol=1e-5 * np.abs(h).max())


def test_the_readme_examples_run(root):
    readme = (root / "minikernels/selective_scan/README.md").read_text("utf-8")
    names = {}
    for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        exec(compile(code, "minikernels/selective_scan/README.md", "exec"), names)
    np.testing.assert_allclose(names["same"], names["o"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(names["both"], names["o"], rtol=0, atol=1e-5)
    assert f"# {1e3 * names['by_bytes']:.3f} ms, {1e3 * names['by_exponentials']:.3f} ms on an H200" in readme
