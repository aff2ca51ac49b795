"""paged on a GPU: every rung against the float64 oracle, which one is the default, what comes back, what is refused."""

import numpy as np
import pytest

from minikernels import launch, paged
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from minikernels.paged import api, raw, reference
from tests.paged_cases import CASES, label, made, right

pytestmark = pytest.mark.gpu
over = pytest.mark.parametrize
NUMBA, RAW = api.DECODE.of_kind("numba"), api.DECODE.of_kind("raw")
WIDE = [  # B, H, G, P, D, lengths
    (1, 1, 1, 16, 64, (1,)),
    (2, 8, 2, 16, 64, (70, 33)),
    (3, 12, 1, 7, 128, (0, 1, 137)),  # two blocks of heads in v4, the last of them ragged
    (1, 32, 1, 16, 128, (1050,)),  # H / G = 32
    (2, 6, 6, 1, 32, (332, 333)),  # a page a token
    (1, 6, 3, 128, 40, (2127,)),  # rows of 80 bytes: idle lanes
    (4, 4, 1, 32, 64, (0, 64, 4097, 31)),
    (2, 2, 1, 4, 64, (0, 0)),  # no key at all
    (1, 5, 1, 24, 96, (597,)),  # pages that are no power of two
    (64, 7, 1, 16, 64, tuple(2 * b for b in range(64))),
    (1, 16, 4, 64, 128, (999,)),
    (2, 40, 1, 16, 128, (300, 77)),  # more heads than one block of any rung holds
    (1, 24, 1, 2, 32, (515,)),
]
ODD = [(1, 3, 1, 16, 8, (97,)), (1, 2, 1, 5, 16, (100,))]
VERY_WIDE = [(1, 2, 1, 16, 256, (299,))]  # float16, and not on tensor cores
RUNS = [(rung, case, dtype) for rung in RAW for case in WIDE for dtype in ("float32", "float16")
        if rung not in raw.MMA or dtype == "float16"]
RUNS += [(rung, case, "float16") for rung in RAW for case in ODD]
RUNS += [(rung, case, "float16") for rung in RAW if rung not in raw.MMA for case in VERY_WIDE]


def name(value):
    return label(value) if isinstance(value, tuple) else str(value)


def run(cp, rung, arrays, **options):
    """Return o as a NumPy array."""
    return cp.asnumpy(paged.decode(*(cp.asarray(x) for x in arrays), rung=rung, **options))


@over(("rung", "case", "dtype"), RUNS, ids=name)
def test_raw_rung_is_within_the_error_budget(cp, rung, case, dtype):
    arrays = made(case, dtype)
    o = run(cp, rung, arrays)
    assert o.dtype == arrays[0].dtype
    right(reference.judge(o, *arrays, case[4] ** -0.5))


@over("case", CASES, ids=label)
@over("dtype", ["float32", "float16"])
@over("rung", NUMBA)
def test_numba_rung_is_within_the_error_budget(cp, rung, dtype, case):
    arrays = made(case, dtype)
    right(reference.judge(run(cp, rung, arrays), *arrays, case[4] ** -0.5))


@over("P", [1, 2, 3, 8, 16, 17, 32, 64, 100, 128])
@over("rung", RAW)
def test_any_page_size_is_right(cp, rung, P):
    arrays = made((2, 8, 2, P, 64, (300, 129)), "float16")
    right(reference.judge(run(cp, rung, arrays), *arrays, 0.125))


@over("R", range(1, 41))
@over("rung", RAW)
def test_any_number_of_heads_a_group_is_right(cp, rung, R):
    arrays = made((1, R, 1, 16, 32, (77,)), "float16")
    right(reference.judge(run(cp, rung, arrays), *arrays, 32**-0.5))


@over("D", [32, 64, 128])
@over("R", [8, 16, 32])
def test_long_sequences_are_right(cp, R, D):
    arrays = made((1, R, 1, 16, D, (20_011,)), "float16")
    for rung in RAW:
        right(reference.judge(run(cp, rung, arrays), *arrays, D**-0.5))


@over("count", [1, 2, 5, 17, 128])
@over("lengths", [(1000, 999), (0, 1), (64, 1000)], ids=str)
@over("rung", ["v5_split_kv", "v6_mma_group", "v7_async_ring"])
def test_any_number_of_shares_is_right(cp, rung, count, lengths):
    arrays = made((2, 8, 2, 16, 64, lengths), "float16")
    o = getattr(raw, f"launch_{rung}")(*(cp.asarray(x) for x in arrays), 0.125, count)
    right(reference.judge(cp.asnumpy(o), *arrays, 0.125))


@over("blocks", [1, 2, 3, 7, 50, 1000])
def test_any_number_of_runs_is_right(cp, blocks):
    arrays = made((5, 12, 1, 16, 64, (700, 0, 3, 64, 513)), "float16")
    o = raw.launch_v8_stream_k(*(cp.asarray(x) for x in arrays), 0.125, blocks)
    right(reference.judge(cp.asnumpy(o), *arrays, 0.125))


@over("rung", RAW)
@over("scale", [-0.3, 0.0, 2.0, 40.0])
def test_any_scale_is_right(cp, rung, scale):
    arrays = made((2, 4, 2, 16, 64, (300, 170)), "float16")
    right(reference.judge(run(cp, rung, arrays, scale=scale), *arrays, scale))


@over("rung", RAW)
def test_views_that_are_not_contiguous_or_not_aligned(cp, rung):
    given = [cp.asarray(x) for x in made((2, 6, 3, 16, 64, (65, 40)), "float16")]
    expected = paged.decode(*given, rung=rung)
    swapped = [cp.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1) if x.ndim > 1 else x for x in given]
    odd = []
    for x in given:
        room = cp.empty(x.size + 1, x.dtype)
        room[1:] = x.ravel()
        odd.append(room[1:].reshape(x.shape))
    for views in (swapped, odd, [*given[:3], *(x.astype(np.int64) for x in given[3:])]):
        cp.testing.assert_array_equal(paged.decode(*views, rung=rung), expected)


@over("rung", RAW)
def test_nan_stays_in_its_head(cp, rung):
    q, *rest = made((2, 8, 2, 16, 64, (200, 200)), "float16")
    q[1, 5, 3] = np.nan
    o = run(cp, rung, (q, *rest))
    assert np.isnan(o[1, 5]).all()
    assert np.isfinite(np.delete(o.reshape(16, 64), 13, axis=0)).all()


@over("rung", [*NUMBA, *RAW])
@over("kind", [np.int32, np.int64])
def test_what_leads_out_of_the_pool_comes_out_as_nan(cp, rung, kind):
    q, k_pages, v_pages, table, _ = made((5, 4, 2, 16, 64, (50,) * 5), "float16")
    lengths = np.array([-1, 48, 65, 50, 50])  # 48 tokens fill three pages
    table[3, 2], table[4, 3] = len(k_pages), -1
    arrays = q, k_pages, v_pages, table.astype(kind), lengths.astype(kind)
    o = run(cp, rung, arrays)
    assert np.isnan(o[[0, 2, 3, 4]]).all()
    table[1, 3:] = 10**6  # past the length: not looked at
    part = q[1:2], k_pages, v_pages, table[1:2], lengths[1:2]
    right(reference.judge(run(cp, rung, part), *part, 0.125))


@over(("dtype", "D", "rung"), [("float16", 64, "v8_stream_k"), ("float32", 64, "v5_split_kv"),
                               ("float16", 256, "v5_split_kv"), ("float16", 60, "v3_warp_key"),
                               ("float32", 256, "v3_warp_key"), ("float32", 300, "v2_page_table")])
def test_the_default_is_the_fastest_rung_that_takes_the_inputs(cp, dtype, D, rung):
    if launch.architecture() < raw.NEEDS:
        pytest.skip(f"the raw rungs need compute capability {raw.NEEDS}")
    given = [cp.asarray(x) for x in made((1, 2, 1, 16, D, (70,)), dtype)]
    assert api.fastest_on_gpu(*given[:3]) == rung
    cp.testing.assert_array_equal(paged.decode(*given), paged.decode(*given, rung=rung))


@over("rung", [None, *NUMBA, *RAW])
@over("case", [(0, 2, 1, 4, 8, ()), (1, 2, 1, 4, 0, (5,)), (1, 2, 1, 4, 8, (0,))], ids=label)
def test_an_empty_axis_gives_an_empty_result(cp, rung, case):
    given = [cp.asarray(x) for x in made(case, "float16")]
    o = paged.decode(*given, rung=rung)
    assert isinstance(o, cp.ndarray)
    assert o.shape == given[0].shape
    assert not o.any()


def test_a_pool_on_the_gpu_shares_and_copies(cp):
    pool = paged.PagePool(12, 4, 2, 8, np.float16, like=cp.zeros(1))
    rng = np.random.default_rng(0)
    k, v = (cp.asarray(rng.standard_normal((9, 2, 8)), np.float16) for _ in "kv")
    first, second = pool.allocate(k, v), pool.allocate(k[:6], v[:6])
    third = pool.fork(first)
    pool.append(third, k[0], v[0])
    pool.overwrite(second, 1, k[8], v[8])
    assert isinstance(pool.k_pages, cp.ndarray)
    assert pool.used_pages == 3 + 1 + 1 + 1  # first; second's ragged page and its copy; third's last page
    for sequence, order in ((first, range(9)), (second, [0, 8, 2, 3, 4, 5]), (third, [*range(9), 0])):
        cp.testing.assert_array_equal(pool.gather(sequence)[0], k[list(order)])
    q = cp.asarray(rng.standard_normal((3, 4, 8)), np.float16)
    page_table, lengths = pool.table([first, second, third])
    o = paged.decode(q, pool.k_pages, pool.v_pages, page_table, lengths)
    arrays = [cp.asnumpy(x) for x in (q, pool.k_pages, pool.v_pages, page_table, lengths)]
    right(reference.judge(cp.asnumpy(o), *arrays, 8**-0.5))
    with pytest.raises(DeviceError, match="arrays live in different places"):
        pool.append(first, cp.asnumpy(k), cp.asnumpy(v))


def test_torch_tensors_come_back_as_torch_tensors(cp):
    torch = pytest.importorskip("torch", reason="PyTorch, whose tensors come through DLPack, is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    arrays = made((2, 8, 2, 16, 64, (90, 33)), "float16")
    for kind in (torch.int32, torch.int64):
        given = [torch.from_numpy(x).cuda() for x in arrays]
        o = paged.decode(*given[:3], *(x.to(kind) for x in given[3:]))
        assert isinstance(o, torch.Tensor)
        assert o.is_cuda
        assert o.dtype == torch.float16
        right(reference.judge(o.cpu().numpy(), *arrays, 0.125))


def test_mixed_homes_are_refused(cp):
    arrays = made((1, 2, 1, 4, 8, (6,)))
    with pytest.raises(DeviceError, match="arrays live in different places"):
        paged.decode(*(cp.asarray(x) for x in arrays[:4]), arrays[4])
    with pytest.raises(DeviceError, match="rung tiled is NumPy's and the arrays live on the GPU"):
        paged.decode(*(cp.asarray(x) for x in arrays), rung="tiled")


def test_what_no_raw_rung_takes_is_refused_in_letters(cp):
    def attempt(D, dtype, rung="v4_fetch_ahead"):
        run(cp, rung, made((1, 2, 1, 4, D, (4,)), dtype))

    with pytest.raises(ShapeError, match="D=12 must be a multiple of 8, and not 0, for float16 in rung v4_fetch_ahead"):
        attempt(12, "float16")
    with pytest.raises(ShapeError, match="D=132 must be at most 128: v4_fetch_ahead reads a row of float32"):
        attempt(132, "float32")
    with pytest.raises(ShapeError, match="D=136 must be at most 128: v6_mma_group keeps the output"):
        attempt(136, "float16", "v6_mma_group")
    with pytest.raises(DtypeError, match="q has dtype float64; rung v4_fetch_ahead takes"):
        attempt(64, "float64")
    with pytest.raises(DtypeError, match="q has dtype float32; rung v6_mma_group takes float16"):
        attempt(64, "float32", "v6_mma_group")
