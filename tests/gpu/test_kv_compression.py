"""kv_compression on a GPU: every rung against the float64 oracle, caches made there, the default, what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from minikernels import kv_compression, launch
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from minikernels.kv_compression import api, raw, reference
from tests.kv_compression_cases import CASES, MIXED, Case, made, right

pytestmark = pytest.mark.gpu
over = pytest.mark.parametrize
NUMBA, RAW = (api.DECODE.of_kind(kind) for kind in ("numba", "raw"))
WIDE = [
    Case(1, 1, 1, 1, 64),  # nothing but a residual window
    Case(2, 8, 2, 150, 64, (150, 33)),
    Case(3, 12, 1, 337, 128, (0, 1, 337), 8),  # two blocks of heads, the last of them ragged
    Case(1, 32, 1, 1050, 128),  # H / G = 32
    Case(1, 32, 1, 1050, 128, None, 8, 32),
    Case(2, 6, 6, 333, 32, (332, 333), 4, 128),  # multi-head; a token is one load
    Case(4, 4, 1, 4097, 64, (0, 64, 4097, 31), 8, 64, 20),
    Case(1, 6, 3, 2129, 96, (2127,), 4, 32),  # three loads a token: idle lanes
    Case(2, 2, 1, 128, 64, (0, 0)),  # no key at all
    Case(64, 7, 1, 256, 64, tuple(4 * b for b in range(64)), 8),  # no residual window
    Case(1, 16, 4, 1000, 128, (999,), 4, 48, v_group=64),  # groups that no request divides; unlike boundaries
    Case(2, 4, 2, 300, 32, (300, 64), 8, 7, v_group=16),
]


def there(cp, cache):
    """Return a cache of the same bytes on the GPU."""
    return replace(cache, **{name: cp.asarray(x) for name, x in cache.arrays.items()})


def run(cp, rung, made_of, **options):
    """Return o as a NumPy array; cells that no thread wrote are NaN."""
    q, k_cache, v_cache, lengths = made_of
    caches = (there(cp, cache) for cache in (k_cache, v_cache))
    return cp.asnumpy(kv_compression.decode(cp.asarray(q), *caches, lengths=cp.asarray(lengths), rung=rung, **options))


def takes(rung, case):
    """Whether a rung takes a case that the other raw rungs take."""
    wide = (case.v_group or case.group) % 32 == 0 or (case.v_group or case.group) >= case.D
    return rung not in raw.MATRICES or (case.D in (32, 64, 128) and case.group % 16 == 0 and wide)


def dtype_of(rung):
    """Return float32, or float16 where a rung takes nothing else."""
    return "float32" if rung < "v7" else "float16"


# Every kernel of a case is compiled for it: float32 and the rungs that others are made of take every second one.
RUNS = [(rung, case, "float16") for rung in RAW for case in (WIDE if rung > "v5" else WIDE[::2]) if takes(rung, case)]
RUNS += [(rung, case, "float32") for rung in RAW if dtype_of(rung) == "float32"
         for case in WIDE[1 if rung > "v5" else 3 :: 2] if takes(rung, case)]


@over(("rung", "case", "dtype"), RUNS, ids=str)
def test_raw_rung_is_within_the_error_budget(cp, rung, case, dtype):
    inputs = made(case, dtype)
    o = run(cp, rung, inputs)
    assert o.dtype == inputs[0].dtype
    right(reference.judge(o, *inputs, case.D**-0.5))


@over(("case", "dtype"), [(case, ("float32", "float16")[n % 2]) for n, case in enumerate(CASES)], ids=str)
@over("rung", NUMBA)
def test_numba_rung_is_within_the_error_budget(cp, rung, case, dtype):
    inputs = made(case, dtype)
    right(reference.judge(run(cp, rung, inputs), *inputs, case.D**-0.5))


@over("case", MIXED, ids=str)
def test_scales_by_either_axis(cp, case):
    inputs = made(case, "float16")
    right(reference.judge(run(cp, None, inputs), *inputs, case.D**-0.5))


@over("rung", ["v5_split_kv", "v6_mma", "v8_ring"])
@over("count", [1, 2, 5, 17, 128])
@over("lengths", [(1000, 999), (0, 1), (257, 960)], ids=str)
def test_any_number_of_splits_is_right(cp, lengths, count, rung):
    q, k_cache, v_cache, n = made(Case(2, 8, 2, 1000, 64, lengths), "float16")
    caches = (there(cp, cache) for cache in (k_cache, v_cache))
    o = getattr(raw, f"launch_{rung}")(cp.asarray(q), *caches, cp.asarray(n, np.int32), 0.125, count)
    right(reference.judge(cp.asnumpy(o), q, k_cache, v_cache, n, 0.125))


@over("rung", [*NUMBA, *RAW])
@over("scale", [-0.3, 0.0, 2.0, 40.0])
def test_any_scale_is_right(cp, rung, scale):
    inputs = made(Case(2, 4, 2, 300, 64, (300, 170)), dtype_of(rung))
    right(reference.judge(run(cp, rung, inputs, scale=scale), *inputs, scale))


@over("axis", ["channel", "token"])
@over("bits", [8, 4])
@over("dtype", ["float16", "float32"])
def test_a_cache_made_on_the_gpu_is_the_one_made_on_the_cpu(cp, dtype, bits, axis):
    x = (3 * np.random.default_rng(0).standard_normal((2, 3, 300, 40))).astype(dtype)
    x[0, 0, :64, :5], x[1, 1, 7, 3], x[0, 2, 70, 9] = 2.5, np.nan, np.inf
    how = {"bits": bits, "axis": axis, "group": 16, "window": 5}
    here, on_gpu = (kv_compression.quantize(y[:, :, :200], **how) for y in (x, cp.asarray(x)))
    for tokens in (slice(200, 201), slice(201, 300)):
        here.append(x[:, :, tokens])
        on_gpu.append(cp.asarray(x)[:, :, tokens])
    for name, array in here.arrays.items():
        assert isinstance(getattr(on_gpu, name), cp.ndarray)
        np.testing.assert_array_equal(cp.asnumpy(getattr(on_gpu, name)), array)
    assert on_gpu.bytes() == here.bytes()
    back = cp.asnumpy(on_gpu.dequantize())
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(back, here.dequantize(), rtol=0, atol=16 * eps)  # a GPU may fuse multiply and add


@over("rung", RAW)
def test_arrays_that_are_not_contiguous_or_not_aligned(cp, rung):
    q, k_cache, v_cache, lengths = made(Case(2, 6, 3, 165, 64, (165, 40)), "float16")
    expected = run(cp, rung, (q, k_cache, v_cache, lengths))

    def odd(x):
        room = cp.empty(x.size + 1, x.dtype)
        room[1:] = cp.asarray(x).ravel()
        return room[1:].reshape(x.shape)

    def swapped(x):
        return cp.ascontiguousarray(cp.asarray(x).swapaxes(1, 2)).swapaxes(1, 2)

    for view in (odd, swapped):
        caches = (replace(c, **{name: view(x) for name, x in c.arrays.items()}) for c in (k_cache, v_cache))
        o = kv_compression.decode(cp.asarray(q), *caches, lengths=cp.asarray(lengths), rung=rung)
        np.testing.assert_array_equal(cp.asnumpy(o), expected)


@over("rung", RAW)
def test_nan_stays_in_its_head(cp, rung):
    q, k_cache, v_cache, lengths = made(Case(2, 8, 2, 200, 64), "float16")
    q[1, 5, 3] = np.nan
    o = run(cp, rung, (q, k_cache, v_cache, lengths))
    assert np.isnan(o[1, 5]).all()
    assert np.isfinite(np.delete(o.reshape(16, 64), 13, axis=0)).all()


@over("rung", [*NUMBA, *RAW])
def test_what_stands_past_a_length_is_not_read(cp, rung):
    q, k_cache, v_cache, _ = made(Case(2, 4, 2, 200, 64, None, 8, 64, 3), "float16")
    lengths = np.array([195, 70])
    expected = run(cp, rung, (q, k_cache, v_cache, lengths))
    for cache in (k_cache, v_cache):
        cache.recent[0, :, 195 - 192 :], cache.recent[1] = np.nan, np.nan
        cache.codes[1, :, 70:] = 255
        cache.scales[1, :, 70 if cache.axis == "token" else 2 :] = np.nan
    np.testing.assert_array_equal(run(cp, rung, (q, k_cache, v_cache, lengths)), expected)


@over("rung", [*NUMBA, *RAW])
def test_a_length_out_of_range_comes_out_as_nan(cp, rung):
    q, k_cache, v_cache, _ = made(Case(3, 4, 2, 80, 64), dtype_of(rung))
    o = run(cp, rung, (q, k_cache, v_cache, np.array([-1, 80, 81])))
    assert np.isnan(o[[0, 2]]).all()
    middle = [replace(c, **{n: x[1:2] for n, x in c.arrays.items()}) for c in (k_cache, v_cache)]
    right(reference.judge(o[1:2], q[1:2], *middle, np.array([80]), 0.125))


@over(("case", "rung"), [
    (Case(1, 2, 1, 70, 64), "v8_ring"), (Case(1, 2, 1, 70, 128, None, 8), "v8_ring"),
    (Case(1, 2, 1, 70, 96, None, 4, 32), "v5_split_kv"),
    (Case(1, 2, 1, 70, 64, None, 4, 24, v_group=64), "v5_split_kv"),
    (Case(1, 2, 1, 70, 40), "v2_folded_scales"), (Case(1, 2, 1, 70, 64, None, 4, v_bits=8), "v2_folded_scales"),
    (MIXED[0], "v1_dequantize"),
], ids=str)
def test_the_default_is_the_fastest_rung_that_takes_the_inputs(cp, case, rung):
    if launch.architecture() < api.RAW_NEEDS:
        pytest.skip(f"the raw rungs need compute capability {api.RAW_NEEDS}")
    inputs = made(case, "float16")
    np.testing.assert_array_equal(run(cp, None, inputs), run(cp, rung, inputs))


@over("rung", [None, *NUMBA, *RAW])
@over("case", [(1, 2, 1, 0, 32), (0, 2, 1, 4, 32), (1, 2, 1, 4, 0)], ids=str)
def test_an_empty_axis_gives_an_empty_result(cp, rung, case):
    o = run(cp, rung, made(Case(*case), "float16"))
    assert o.shape == (case[0], case[1], case[4])
    assert not o.any()


def test_torch_tensors_make_a_cache_of_torch_tensors(cp):
    torch = pytest.importorskip("torch", reason="PyTorch, whose tensors come through DLPack, is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    q, k_cache, v_cache, lengths = made(Case(2, 8, 2, 190, 64, (190, 33)), "float16")
    tensors = [torch.from_numpy(cache.dequantize()).cuda() for cache in (k_cache, v_cache)]
    axes = "channel", "token"
    caches = [kv_compression.quantize(x[:, :, :100], bits=4, axis=axis) for x, axis in zip(tensors, axes)]
    for cache, x in zip(caches, tensors):
        cache.append(x[:, :, 100:])
        assert isinstance(cache.codes, torch.Tensor)
        assert cache.shape == (2, 2, 190, 64)
        assert cache.dequantize().dtype == torch.float16
        assert cache.bytes() > 0
    o = kv_compression.decode(torch.from_numpy(q).cuda(), *caches, lengths=torch.from_numpy(lengths).cuda())
    assert isinstance(o, torch.Tensor)
    here = [replace(c, **{n: x.cpu().numpy() for n, x in c.arrays.items()}) for c in caches]
    right(reference.judge(o.cpu().numpy(), q, *here, lengths, 0.125))


def test_what_no_raw_rung_takes_is_refused(cp):
    def attempt(case):
        run(cp, "v4_half2", made(case, "float16"))

    with pytest.raises(ShapeError, match="D=48 must be a multiple of 32, the 4-bit codes of a 16-byte load of rung v4"):
        attempt(Case(1, 2, 1, 70, 48))
    with pytest.raises(ShapeError, match="D=160 must be at most 128"):
        attempt(Case(1, 2, 1, 70, 160))
    with pytest.raises(ShapeError, match="k_cache has 4 bits and v_cache 8; rung v4_half2 takes caches of equal bits"):
        attempt(Case(1, 2, 1, 70, 64, v_bits=8))
    with pytest.raises(ShapeError, match="v_cache has group=48; rung v4_half2 takes a multiple of 32, or D and more"):
        attempt(Case(1, 2, 1, 70, 64, v_group=48))
    with pytest.raises(ShapeError, match="D=96 must be 32, 64 or 128 for rung v6_mma; rung v5_split_kv takes it"):
        run(cp, "v6_mma", made(Case(1, 2, 1, 70, 96, None, 4, 32), "float16"))
    with pytest.raises(ShapeError, match="k_cache has group=24; rung v6_mma takes a multiple of 16"):
        run(cp, "v6_mma", made(Case(1, 2, 1, 70, 64, None, 4, 24, v_group=64), "float16"))
    with pytest.raises(DtypeError, match="q has dtype float32; rung v8_ring takes float16"):
        run(cp, "v8_ring", made(Case(1, 2, 1, 70, 64)))
    q, k_cache, v_cache, _ = made(Case(1, 2, 1, 70, 64))
    with pytest.raises(DeviceError, match="arrays live in different places"):
        kv_compression.decode(cp.asarray(q), k_cache, v_cache)
