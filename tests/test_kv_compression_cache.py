"""QuantizedCache: rounding, packing, the residual window, appending, bytes, and what is refused."""

import re

import numpy as np
import pytest

from minikernels import kv_compression
from minikernels.core.errors import DtypeError, ShapeError

over = pytest.mark.parametrize
SHAPES = [(1, 1, 1, 1), (2, 3, 64, 32), (1, 2, 130, 7), (2, 1, 65, 100), (1, 1, 200, 128), (1, 4, 63, 33), (1, 1, 0, 8)]


def made(shape, dtype="float32", seed=0, spread=1.0):
    return (spread * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def by_hand(x, bits, axis, group, window=0):
    """Return x after rounding, one group after another, in float64; and the scale of every number."""
    x, out = x.astype(np.float64), x.astype(np.float64).copy()
    B, G, S, D = x.shape
    scales = np.zeros(x.shape)
    N = max(0, S - window) // group * group
    for b, g in np.ndindex(B, G):
        for s in range(0, N, group if axis == "channel" else 1):
            for d in range(0, D, 1 if axis == "channel" else group):
                cell = (b, g, slice(s, s + group), d) if axis == "channel" else (b, g, s, slice(d, min(D, d + group)))
                low, high = x[cell].min(), x[cell].max()
                step = (high - low) / (2**bits - 1)
                scales[cell] = step
                out[cell] = low + step * np.round((x[cell] - low) / step) if step else low
    return out, scales


@over("dtype", ["float32", "float16"])
@over("axis", ["channel", "token"])
@over("bits", [8, 4])
@over(("shape", "group"), [((2, 3, 64, 32), 16), ((1, 2, 45, 7), 4), ((1, 1, 20, 33), 10), ((2, 1, 9, 5), 1)])
def test_rounds_each_group_between_its_least_and_greatest(shape, group, bits, axis, dtype):
    x = made(shape, dtype)
    cache = kv_compression.quantize(x, bits=bits, axis=axis, group=group)
    expected, scales = by_hand(x, bits, axis, group)
    back = cache.dequantize(np.float64)
    assert cache.shape == x.shape
    # the scale is rounded up to the dtype, an eps of it a level, so that a number may fall to the next level
    slack = 2 * 2**bits * np.finfo(dtype).eps * scales
    off = np.abs(back - expected)
    assert np.all((off <= slack) | (np.abs(off - scales) <= slack))
    assert dtype == "float16" or np.mean(off <= slack) > 0.99


@over("dtype", ["float32", "float16", "float64"])
@over("axis", ["channel", "token"])
@over("bits", [8, 4])
@over("shape", SHAPES, ids=str)
def test_every_number_comes_back_within_half_a_scale(shape, bits, axis, dtype):
    x = made(shape, dtype, spread=30.0)
    cache = kv_compression.quantize(x, bits=bits, axis=axis)
    assert (cache.shape, cache.dtype) == (x.shape, x.dtype)
    N = cache.quantized
    assert N == shape[2] // 64 * 64
    back = cache.dequantize(np.float64)
    np.testing.assert_array_equal(back[:, :, N:], x[:, :, N:])
    scale = np.repeat(cache.scales, 64, axis=2 if axis == "channel" else 3)[:, :, :N, : shape[3]].astype(np.float64)
    assert np.all(np.abs(back[:, :, :N] - x[:, :, :N]) <= scale / 2 * (1 + 2**-20))
    whole = cache.dequantize()
    assert whole.dtype == x.dtype
    np.testing.assert_allclose(whole, back, rtol=0, atol=np.finfo(dtype).eps * np.max(np.abs(x), initial=0))


@over("axis", ["channel", "token"])
@over("bits", [8, 4])
def test_scales_too_small_for_float16_still_reach_every_number(bits, axis):
    x = (1 + made((1, 1, 64, 64), seed=3) * 1e-6 * np.arange(64)).astype("float16")
    x[0, 0, :, :8] = made((64, 8)).astype("float16") * np.float16(6e-7)  # subnormal
    cache = kv_compression.quantize(x, bits=bits, axis=axis)
    scale = np.repeat(cache.scales, 64, axis=2 if axis == "channel" else 3).astype(np.float64)
    assert np.all(np.abs(cache.dequantize(np.float64) - x) <= scale / 2 * (1 + 1e-9))


@over("axis", ["channel", "token"])
@over("bits", [8, 4])
@over("dtype", ["float16", "float32"])
def test_equal_numbers_are_exact_and_extreme_ones_stay_finite(dtype, bits, axis):
    x = np.full((1, 2, 64, 64), -3.7, dtype)
    cache = kv_compression.quantize(x, bits=bits, axis=axis)
    np.testing.assert_array_equal(cache.dequantize(), x)
    assert not cache.scales.any()
    x[:, :, ::2], x[:, :, 1::2] = np.finfo(dtype).max, -np.finfo(dtype).max
    x[..., 1::3] *= -1
    back = kv_compression.quantize(x, bits=bits, axis=axis).dequantize()
    assert np.isfinite(back).all()
    np.testing.assert_allclose(back, x, rtol=2e-3)


@over("axis", ["channel", "token"])
@over("bad", [np.nan, np.inf, -np.inf], ids=str)
def test_a_group_with_a_nan_or_an_infinity_is_nan_and_no_other_is(axis, bad):
    x = made((1, 2, 40, 16))
    x[0, 1, 5, 3] = x[0, 0, 39, 9] = bad  # the second in the residual window
    back = kv_compression.quantize(x, bits=8, axis=axis, group=8).dequantize()
    hurt = np.zeros(x.shape, bool)
    hurt[(0, 1, slice(0, 8), 3) if axis == "channel" else (0, 1, 5, slice(0, 8))] = True
    hurt[0, 0, 32:] = hurt[0, 0, 32:] | (axis == "channel") & (np.arange(16) == 9)
    if axis == "token":
        hurt[0, 0, 39, 8:] = True
    assert np.isnan(back[hurt]).all()
    assert np.isfinite(back[~hurt]).all()
    tail = x[:, :, :39]
    tail[0, 1, 5, 3] = 0
    cache = kv_compression.quantize(tail, bits=8, axis=axis, group=8)
    cache.append(np.full((1, 2, 0, 16), 0, np.float32))
    assert np.isfinite(cache.dequantize()).all()


@over("axis", ["channel", "token"])
@over("bits", [8, 4])
@over("window", [0, 3, 20])
@over("steps", [[1] * 30, [7, 0, 13, 50, 1], [200]], ids=str)
def test_appending_in_any_steps_equals_quantising_at_once(steps, window, bits, axis):
    x = made((2, 2, 10 + sum(steps), 9), "float16")
    how = {"bits": bits, "axis": axis, "group": 8, "window": window}
    cache, end = kv_compression.quantize(x[:, :, :10], **how), 10
    for n in steps:
        cache.append(x[:, :, end : end + n])
        end += n
    whole = kv_compression.quantize(x, **how)
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(cache.arrays[name], array)
    assert cache.shape == x.shape
    assert window <= cache.recent.shape[2] < window + 8


def test_a_cache_starts_empty_and_holds_nothing_of_its_callers():
    x = made((1, 2, 0, 4), "float16")
    cache = kv_compression.quantize(x, bits=4, axis="token", group=2)
    assert (cache.shape, cache.bytes(), cache.dequantize().shape) == ((1, 2, 0, 4), 0, (1, 2, 0, 4))
    token = made((1, 2, 1, 4), "float16")
    cache.append(token)
    kept = token.copy()
    token[:] = 0
    np.testing.assert_array_equal(cache.dequantize(), kept)
    with pytest.raises(ShapeError, match=re.escape("x has shape (1, 3, 1, 4) = (B, G, n, D); G=3 must equal G=2")):
        cache.append(made((1, 3, 1, 4), "float16"))
    with pytest.raises(DtypeError, match="x has dtype float32; it must be float16"):
        cache.append(made((1, 2, 1, 4)))
    assert cache.shape == (1, 2, 1, 4)


@over(("bits", "axis", "codes", "shared"), [(8, "channel", 128, 2), (4, "channel", 64, 2), (4, "token", 64, 2)])
def test_bytes_are_those_of_the_arrays(bits, axis, codes, shared):
    cache = kv_compression.quantize(made((2, 3, 128 + 5, 128), "float16"), bits=bits, axis=axis)
    heads = 2 * 3
    assert cache.bytes() == heads * (128 * codes + 2 * 2 * 128 * shared + 5 * 128 * 2)
    said = f"128 tokens in {bits} bits by {axis}, groups of 64, {cache.bytes():,} bytes"
    assert repr(cache) == f"<QuantizedCache (2, 3, 133, 128) of float16: {said}>"
    ratio = heads * 128 * 128 * 2 / (cache.bytes() - heads * 5 * 128 * 2)
    assert round(ratio, 2) == {8: 1.88, 4: 3.56}[bits]  # bytes of 16 bits to those of codes, scales and minima


def test_two_codes_share_a_byte_the_even_channel_low():
    x = np.array([[0, 15, 3], [15, 0, 18]], np.float32).reshape(1, 1, 2, 3)
    cache = kv_compression.quantize(x, bits=4, axis="channel", group=2)
    assert cache.codes[0, 0].tolist() == [[0 | 15 << 4, 0], [15 | 0 << 4, 15]]
    assert cache.minima.ravel().tolist() == [0, 0, 3]


@over("dtype", ["float16", "float32"])
def test_any_range_of_tokens_is_part_of_the_whole(dtype):
    for axis in ("channel", "token"):
        cache = kv_compression.quantize(made((1, 2, 50, 6), dtype), bits=4, axis=axis, group=8)
        whole = cache.dequantize(np.float32)
        for start, stop in ((0, 50), (3, 3), (5, 30), (47, 49), (48, 50), (10, 50)):
            np.testing.assert_array_equal(cache.tokens(start, stop, np.float32), whole[:, :, start:stop])
        for count in (0, 16, 48):
            np.testing.assert_array_equal(cache.shortened(count).dequantize(), cache.dequantize())


@over(("options", "error", "message"), [
    ({"bits": 3}, ValueError, "bits is 3; it must be 8 or 4"),
    ({"bits": 4.0}, DtypeError, "bits is 4.0; it must be a whole number"),
    ({"bits": True}, DtypeError, "bits is True"),
    ({"axis": "head"}, ValueError, "axis is 'head'; it must be 'channel'"),
    ({"axis": 3}, ValueError, "axis is 3"),
    ({"group": 0}, ShapeError, "group is 0; it must be at least 1"),
    ({"group": 2.5}, DtypeError, "group is 2.5; it must be a whole number"),
    ({"window": -1}, ShapeError, "window is -1; it must be at least 0"),
])
def test_what_cannot_be_is_refused_by_name(options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        kv_compression.quantize(made((1, 1, 4, 4)), **{"bits": 8, "axis": "token", **options})


def test_an_array_of_another_kind_is_refused():
    with pytest.raises(ShapeError, match=re.escape("x has shape (4, 4), 2 axes; it must be (B, G, S, D)")):
        kv_compression.quantize(made((4, 4)), bits=8, axis="token")
    with pytest.raises(DtypeError, match="x has dtype int64"):
        kv_compression.quantize(np.zeros((1, 1, 4, 4), np.int64), bits=8, axis="token")
    with pytest.raises(DtypeError, match="x is of type list"):
        kv_compression.quantize([[[[1.0]]]], bits=8, axis="token")


@over("shape", [(0, 2, 70, 4), (2, 0, 70, 4), (2, 2, 0, 4), (2, 2, 70, 0)], ids=str)
@over("axis", ["channel", "token"])
def test_an_empty_axis_gives_an_empty_cache(shape, axis):
    x = made(shape)
    cache = kv_compression.quantize(x, bits=4, axis=axis)
    assert cache.shape == shape
    assert cache.dequantize().shape == shape
    cache.append(x)
    assert cache.shape == (shape[0], shape[1], 2 * shape[2], shape[3])


def test_views_give_what_their_copies_give():
    x = made((2, 3, 70, 8), "float16")
    views = [np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2), x[:, :, ::-1][:, :, ::-1], np.asfortranarray(x)]
    expected = kv_compression.quantize(x, bits=4, axis="token", group=4)
    for view in views:
        cache = kv_compression.quantize(view, bits=4, axis="token", group=4)
        for name, array in expected.arrays.items():
            np.testing.assert_array_equal(cache.arrays[name], array)


def test_what_comes_back_stays_in_the_range_of_the_dtype_asked_for():
    x = np.float32([1e6, -1e6, np.inf, 3, 70_000, -2]).reshape(1, 1, 6, 1)
    cache = kv_compression.quantize(x, bits=8, axis="channel", group=2, window=4)
    assert cache.quantized == 2
    most = np.finfo(np.float16).max
    with np.errstate(over="raise"):
        back = cache.dequantize(np.float16).ravel()
    np.testing.assert_array_equal(back, np.float16([most, -most, np.inf, 3, most, -2]))  # an infinity came as one
    np.testing.assert_array_equal(cache.dequantize(np.float64).ravel()[2:], x.ravel()[2:])


@over("bits", [8, 4])
@over("axis", ["channel", "token"])
def test_a_group_wider_than_the_largest_number_comes_back_within_half_a_scale(axis, bits):
    most = float(np.finfo(np.float32).max)
    x = (most * np.linspace(-1, 1, 64)).astype(np.float32).reshape(1, 1, 8, 8)
    cache = kv_compression.quantize(x, bits=bits, axis=axis, group=8)
    scale = cache.scales.astype(np.float64).max()
    assert np.all(np.abs(cache.dequantize().astype(np.float64) - x) <= scale / 2 * (1 + 1e-6))
