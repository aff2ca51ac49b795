"""kv_compression.decode: every rung against the float64 oracle, and what the public function promises."""

import re
from dataclasses import replace

import numpy as np
import pytest

from minikernels import kv_compression
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from minikernels.kv_compression import api, reference, tiled
from tests.kv_compression_cases import CASES, MIXED, Case, made, right

HERE = api.DECODE.of_kind("numpy", "numba")  # rungs that run without a GPU
RAW = api.DECODE.of_kind("raw")
NUMBA = api.DECODE.of_kind("numba")
over = pytest.mark.parametrize


@over("case", CASES, ids=str)
@over("rung", HERE)
def test_rung_is_right_in_float32(rung, case):
    q, k_cache, v_cache, lengths = made(case)
    o = kv_compression.decode(q, k_cache, v_cache, lengths=lengths, rung=rung)
    assert o.dtype == q.dtype
    right(reference.judge(o, q, k_cache, v_cache, lengths, case.D**-0.5))


@over("case", CASES[1::2], ids=str)
@over("rung", HERE)
def test_rung_is_right_in_float16(rung, case):
    q, k_cache, v_cache, lengths = made(case, "float16")
    o = kv_compression.decode(q, k_cache, v_cache, lengths=lengths, rung=rung)
    assert o.dtype == q.dtype
    right(reference.judge(o, q, k_cache, v_cache, lengths, case.D**-0.5))


@over("case", MIXED, ids=str)
@over("dtype", ["float32", "float16"])
@over("rung", ["reference", "tiled", "v1_dequantize"])
def test_scales_may_stand_by_either_axis(rung, dtype, case):
    q, k_cache, v_cache, lengths = made(case, dtype)
    o = kv_compression.decode(q, k_cache, v_cache, lengths=lengths, rung=rung)
    right(reference.judge(o, q, k_cache, v_cache, lengths, case.D**-0.5))


@over("case", MIXED, ids=str)
@over("rung", ["v2_folded_scales"])  # and the rungs after it, on a GPU
def test_a_rung_that_folds_scales_names_the_axis_it_needs(rung, case):
    q, k_cache, v_cache, lengths = made(case)
    with pytest.raises(ShapeError, match=r"cache has its scales by (channel|token) and rung v\d_.* takes them by"):
        kv_compression.decode(q, k_cache, v_cache, lengths=lengths, rung=rung)


def test_numpy_rungs_keep_float64():
    q, k_cache, v_cache, lengths = made(CASES[1], "float64")
    for rung in ("reference", "tiled"):
        o = kv_compression.decode(q, k_cache, v_cache, lengths=lengths, rung=rung)
        assert o.dtype == np.float64
        np.testing.assert_allclose(o, reference.decode(q, k_cache, v_cache, lengths, 0.125), rtol=0, atol=1e-14)


def test_the_reference_is_attention_over_the_dequantised_cache():
    q, k_cache, v_cache, _ = made(Case(1, 2, 1, 70, 8, group=16))
    k, v = (cache.dequantize(np.float64)[0, 0] for cache in (k_cache, v_cache))
    p = np.exp(q[0].astype(np.float64) @ k.T * 8**-0.5)
    expected = (p / p.sum(axis=1, keepdims=True)) @ v
    np.testing.assert_allclose(kv_compression.decode(q, k_cache, v_cache, rung="reference")[0], expected, atol=1e-7)


@over("rung", HERE)
@over("scale", [0.0, 1.0, -0.7, 40.0], ids=lambda scale: f"scale{scale}")
def test_any_scale_is_right_and_large_scores_do_not_overflow(rung, scale):
    q, k_cache, v_cache, lengths = made(Case(2, 4, 2, 45, 8, (45, 17), 8, 8))
    o = kv_compression.decode(q, k_cache, v_cache, lengths=lengths, scale=scale, rung=rung)
    right(reference.judge(o, q, k_cache, v_cache, lengths, scale))


@over("block_s", [1, 7, 32, 500])
def test_the_tile_does_not_change_the_result(block_s):
    q, k_cache, v_cache, lengths = made(Case(3, 6, 2, 70, 16, (70, 0, 33), 4, 8))
    o = tiled.decode(q, k_cache, v_cache, lengths, 0.25, block_s)
    right(reference.judge(o, q, k_cache, v_cache, lengths, 0.25))


@over("rung", HERE)
def test_appending_token_by_token_decodes_as_the_whole(rung):
    """After each of the last tokens: what a model does, one step at a time."""
    rng = np.random.default_rng(5)
    k, v = rng.standard_normal((2, 1, 2, 40, 16)).astype(np.float32)
    how = {"bits": 4, "group": 8, "window": 3}
    caches = [kv_compression.quantize(x[:, :, :33], axis=axis, **how) for x, axis in ((k, "channel"), (v, "token"))]
    for s in range(33, 40):
        for cache, x in zip(caches, (k, v)):
            cache.append(x[:, :, s : s + 1])
        q = rng.standard_normal((1, 4, 16)).astype(np.float32)
        both = (k, "channel"), (v, "token")
        whole = [kv_compression.quantize(x[:, :, : s + 1], axis=axis, **how) for x, axis in both]
        o = kv_compression.decode(q, *caches, rung=rung)
        np.testing.assert_array_equal(o, kv_compression.decode(q, *whole, rung=rung))
        right(reference.judge(o, q, *caches, np.array([s + 1]), 0.25))


@over("rung", HERE)
def test_what_stands_past_a_length_is_not_read(rung):
    q, k_cache, v_cache, _ = made(Case(2, 4, 2, 40, 8, None, 4, 8, 3))
    lengths = np.array([38, 13])
    o = kv_compression.decode(q, k_cache, v_cache, lengths=lengths, rung=rung)
    for cache in (k_cache, v_cache):
        cache.recent[0, :, 38 - 32 :], cache.recent[1] = np.nan, np.nan
        cache.codes[1, :, 13:] = 255
        cache.scales[1, :, 13 if cache.axis == "token" else 2 :] = np.nan
    np.testing.assert_array_equal(kv_compression.decode(q, k_cache, v_cache, lengths=lengths, rung=rung), o)


@over("rung", HERE)
def test_a_nan_comes_out_where_it_went_in(rung):
    q, k_cache, v_cache, _ = made(Case(2, 4, 2, 40, 8, None, 8, 8))
    q[0, 3, 2], v_cache.minima[1, 0, 10, 0] = np.nan, np.nan
    with np.errstate(invalid="ignore"):
        o = kv_compression.decode(q, k_cache, v_cache, rung=rung)
    assert np.isnan(o[0, 3]).all()
    assert np.isfinite(o[0, :3]).all()
    assert np.isnan(o[1, :2]).all()  # all 8 channels share the minimum
    assert np.isfinite(o[1, 2:]).all()


@over("rung", HERE)
def test_a_sequence_without_keys_gives_zero(rung):
    q, k_cache, v_cache, lengths = made(Case(3, 4, 2, 10, 5, (0, 10, 0), 4, 4))
    o = kv_compression.decode(q, k_cache, v_cache, lengths=lengths, rung=rung)
    assert not o[[0, 2]].any()
    assert o[1].all()


@over("case", [(0, 2, 1, 4, 5), (2, 0, 0, 4, 5), (2, 0, 3, 4, 5), (1, 2, 1, 0, 5), (1, 2, 1, 4, 0), (0, 0, 0, 0, 0)],
      ids=str)
@over("rung", [None, *HERE])
def test_an_empty_axis_gives_an_empty_result(rung, case):
    q, k_cache, v_cache, _ = made(Case(*case, None, 4, 2))
    o = kv_compression.decode(q, k_cache, v_cache, rung=rung)
    assert o.shape == q.shape
    assert not o.any()


def test_the_default_on_numpy_arrays_is_tiled():
    q, k_cache, v_cache, _ = made(CASES[1])
    o = kv_compression.decode(q, k_cache, v_cache)
    np.testing.assert_array_equal(o, kv_compression.decode(q, k_cache, v_cache, rung="tiled"))
    whole = np.full(2, 150, np.int64)
    np.testing.assert_array_equal(o, kv_compression.decode(q, k_cache, v_cache, lengths=whole))


def pair(shape, dtype="float32", **how):
    options = {"bits": 4, "group": 4, **how}
    return [kv_compression.quantize(np.zeros(shape, dtype), axis=axis, **options) for axis in ("channel", "token")]


@over("rung", [None, *api.DECODE])
@over(("q", "k", "v", "message"), [
    ((1, 8, 64), (1, 3, 7, 64), (1, 3, 7, 64), "k_cache has shape (1, 3, 7, 64) = (B, G, S, D); G=3 must divide H=8"),
    ((1, 8, 64), (1, 0, 7, 64), (1, 0, 7, 64), "G=0 must divide H=8"),
    ((1, 8, 1, 64), (1, 8, 7, 64), (1, 8, 7, 64), "q has shape (1, 8, 1, 64), 4 axes; it must be (B, H, D)"),
    ((1, 8, 64), (2, 8, 7, 64), (2, 8, 7, 64), "k_cache has shape (2, 8, 7, 64) = (B, G, S, D); B=2 must equal B=1"),
    ((1, 8, 64), (1, 8, 7, 32), (1, 8, 7, 32), "D=32 must equal D=64 of q"),
    ((1, 8, 64), (1, 8, 7, 64), (1, 8, 6, 64), "v_cache has shape (1, 8, 6, 64) = (B, G, S, D); S=6 must equal S=7"),
], ids=["G-divides-H", "no-group", "four-axes", "B", "D", "S"])
def test_a_wrong_shape_is_told_in_letters(rung, q, k, v, message):
    with pytest.raises(ShapeError, match=re.escape(message)):
        kv_compression.decode(np.zeros(q, np.float32), pair(k)[0], pair(v)[1], rung=rung)


def test_lengths_that_cannot_be_are_named():
    q = np.zeros((2, 2, 4), np.float32)
    caches = pair((2, 1, 7, 4))
    with pytest.raises(ShapeError, match=re.escape("lengths[1] is 8; a sequence has 0 to S=7 keys")):
        kv_compression.decode(q, *caches, lengths=np.array([3, 8]))
    with pytest.raises(DtypeError, match="lengths has dtype float64; it must be int32 or int64"):
        kv_compression.decode(q, *caches, lengths=np.array([1.0, 2.0]))
    with pytest.raises(DtypeError, match="lengths is of type list"):
        kv_compression.decode(q, *caches, lengths=[1, 2])
    with pytest.raises(ShapeError, match=r"lengths has shape \(3,\) = \(B,\); B=3 must equal B=2 of q"):
        kv_compression.decode(q, *caches, lengths=np.array([1, 2, 3]))


def test_what_is_no_cache_or_of_another_dtype_is_named():
    q = np.zeros((1, 1, 4), np.float32)
    k_cache, v_cache = pair((1, 1, 7, 4))
    with pytest.raises(DtypeError, match="k_cache is of type ndarray; it must be a QuantizedCache"):
        kv_compression.decode(q, np.zeros((1, 1, 7, 4), np.float32), v_cache)
    with pytest.raises(DtypeError, match="v_cache has dtype float16 and q has float32"):
        kv_compression.decode(q, k_cache, pair((1, 1, 7, 4), "float16")[1])
    wide = pair((1, 1, 7, 4), "float64")
    with pytest.raises(DtypeError, match="q has dtype float64; rung v1_dequantize takes float16 and float32"):
        kv_compression.decode(q.astype("float64"), *wide, rung="v1_dequantize")
    with pytest.raises(DtypeError, match="scale is of type str"):
        kv_compression.decode(q, k_cache, v_cache, scale="big")


def test_an_unknown_rung_lists_the_rungs():
    with pytest.raises(ValueError, match=f"there is no rung 'v9_magic' here; the rungs are {', '.join(api.DECODE)}"):
        kv_compression.decode(np.zeros((1, 1, 4), np.float32), *pair((1, 1, 7, 4)), rung="v9_magic")


@over("rung", RAW)
def test_a_gpu_rung_on_numpy_arrays_says_so(rung):
    with pytest.raises(DeviceError, match=f"rung {rung} is CUDA C.* needs arrays on a GPU"):
        kv_compression.decode(np.zeros((1, 1, 32), np.float32), *pair((1, 1, 7, 32)), rung=rung)


@over("rung", NUMBA)
def test_limits_of_a_rung_are_told(rung):
    with pytest.raises(ShapeError, match=f"D=257 must be at most 256 for rung {rung}; rung tiled takes more"):
        kv_compression.decode(np.zeros((1, 1, 257), np.float32), *pair((1, 1, 2, 257)), rung=rung)
    with pytest.raises(ShapeError, match="B=65536 must be at most 65535"):
        kv_compression.decode(np.zeros((65_536, 1, 1), np.float32), *pair((65_536, 1, 1, 1)), rung=rung)


@over("rung", NUMBA)
def test_a_cache_and_its_copy_in_another_order_decode_alike(rung):
    q, k_cache, v_cache, lengths = made(Case(2, 4, 2, 70, 16, (70, 33), 8, 16))
    expected = kv_compression.decode(q, k_cache, v_cache, lengths=lengths, rung=rung)
    other = [replace(c, **{n: np.asfortranarray(x) for n, x in c.arrays.items()}) for c in (k_cache, v_cache)]
    o = kv_compression.decode(np.asfortranarray(q), *other, lengths=lengths, rung=rung)
    np.testing.assert_array_equal(o, expected)


def test_the_readme_examples_run(root):
    readme = (root / "minikernels/kv_compression/README.md").read_text("utf-8")
    names = {}
    for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        exec(compile(code, "minikernels/kv_compression/README.md", "exec"), names)
    np.testing.assert_allclose(names["same"], names["o"], rtol=0, atol=4e-6)
