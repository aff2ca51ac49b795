"""block_sparse on a GPU: every rung against the float64 oracle, lists made there, what comes back, what is refused."""

import numpy as np
import pytest

from minikernels import block_sparse, launch
from minikernels.block_sparse import api, lists, raw_wgmma, reference
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from tests.block_sparse_cases import CASES, Case, label, made, right

pytestmark = pytest.mark.gpu
over = pytest.mark.parametrize
NUMBA, RAW = api.ATTENTION.of_kind("numba"), api.ATTENTION.of_kind("raw")
TILES = [  # what the tensor-core tiles are cut for, and what they are not
    Case(1, 2, 1, 300, 257, 128, 128, 128),
    Case(1, 2, 2, 256, 256, 128, 128, 128, causal=True),
    Case(2, 2, 2, 500, 500, 64, 128, 64, causal=True),
    Case(1, 4, 2, 200, 333, 128, 64, 128),
    Case(1, 2, 1, 333, 200, 128, 64, 64, causal=True),  # the first 133 rows see no key
    Case(1, 2, 1, 100, 130, 64, 32, 48, causal=True),
    Case(2, 3, 1, 77, 90, 32, 16, 16, per_sequence=False),
    Case(1, 2, 1, 200, 170, 96, 96, 80, per_head=False, causal=True),
    Case(1, 1, 1, 700, 300, 40, 256, 128),  # a block row for two blocks of threads
    Case(1, 2, 2, 600, 160, 72, 300, 36, causal=True),  # for three; 36 keys in a tile of 48
    Case(1, 2, 1, 90, 90, 8, 24, 17, causal=True),
    Case(1, 2, 1, 64, 64, 100, 16, 32),  # 8 does not divide D
    Case(1, 2, 1, 50, 60, 1, 16, 16, causal=True),
    Case(1, 16, 2, 1024, 1024, 64, 64, 64, density=0.2),
    Case(1, 2, 2, 129, 129, 128, 112, 112, density=1.0, causal=True),
    Case(2, 2, 2, 140, 140, 64, 64, 64, density=0.0),
    Case(2, 4, 2, 700, 800, 96, 192, 192, per_sequence=False, causal=True),  # three tiles of 64 rows to a block row
    Case(3, 16, 4, 640, 900, 128, 128, 128, density=0.3, causal=True),  # more query tiles than multiprocessors
    Case(2, 9, 3, 700, 600, 64, 256, 256, per_head=False),
    Case(9, 16, 16, 64, 200, 128, 64, 128),  # tiles of one key tile or none
]


def attend(cp, case, arrays, rung, **options):
    """Return o and lse as NumPy arrays; cells that no thread wrote are NaN."""
    q, k, v, mask = (cp.asarray(x) for x in arrays)
    given = {"block": case.block, "causal": case.causal, "return_lse": True, "rung": rung, **options}
    return [cp.asnumpy(x) for x in block_sparse.attention(q, k, v, mask, **given)]


def takes(rung, case):
    """Skip where a rung refuses the case's blocks, or runs on other GPUs alone."""
    if rung == "v7_wgmma" and (case.R % 64 or case.C % 64):
        pytest.skip("R and C are multiples of 64")
    if rung == "v7_wgmma" and launch.architecture() != launch.HOPPER["min_arch"]:
        pytest.skip(f"needs compute capability {launch.HOPPER['min_arch']}")


def judged(case, arrays, outputs, scale=None):
    return reference.judge(*outputs, *arrays, case.block, case.causal, case.D**-0.5 if scale is None else scale)


@over("case", TILES + CASES, ids=label)
@over("rung", RAW)
def test_raw_rung_is_within_the_error_budget(cp, rung, case):
    takes(rung, case)
    if case.D > 128:
        pytest.skip("D is up to 128")
    arrays = made(case, "float16")
    o, lse = attend(cp, case, arrays, rung)
    assert (o.dtype, lse.dtype) == (np.float16, np.float32)
    right(judged(case, arrays, (o, lse)))


@over("case", CASES + TILES[:2], ids=label)
@over("dtype", ["float32", "float16"])
@over("rung", NUMBA)
def test_numba_rung_is_within_the_error_budget(cp, rung, dtype, case):
    arrays = made(case, dtype)
    right(judged(case, arrays, attend(cp, case, arrays, rung)))


@over("rung", RAW)
@over("scale", [-0.3, 0.0, 2.0, 40.0])
def test_any_scale_is_right(cp, rung, scale):
    case = Case(1, 4, 2, 100, 90, 64, 64, 64, causal=True)
    takes(rung, case)
    arrays = made(case, "float16")
    right(judged(case, arrays, attend(cp, case, arrays, rung, scale=scale), scale))


@over("case", TILES + CASES, ids=label)
def test_lists_are_those_of_numpy(cp, case):
    mask = made(case)[3]
    there = lists.block_lists(cp.asarray(mask), case.T, case.S, case.block, case.causal)
    here = lists.block_lists(mask, case.T, case.S, case.block, case.causal)
    for name, found, wanted in zip(here._fields, there, here, strict=True):
        assert isinstance(found, cp.ndarray), name
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(cp.asnumpy(found)[: len(wanted)], wanted)


@over("rung", RAW)
def test_lists_made_beforehand_give_the_same(cp, rung):
    case = TILES[2]
    takes(rung, case)
    q, k, v, mask = (cp.asarray(x) for x in made(case, "float16"))
    if rung == "v7_wgmma":
        made_before = raw_wgmma.sorted_lists(q, k, mask, case.block, case.causal)
    else:
        made_before = lists.block_lists(mask, case.T, case.S, case.block, case.causal)
    found = api.ATTENTION.function(rung)(q, k, v, mask, case.block, case.causal, 0.125, made_before)
    expected = block_sparse.attention(q, k, v, mask, block=case.block, causal=case.causal, return_lse=True, rung=rung)
    for x, y in zip(found, expected, strict=True):
        cp.testing.assert_array_equal(x, y)


@over("case", [TILES[16], TILES[17], TILES[19]], ids=label)
def test_any_order_of_rows_gives_the_same(cp, case):
    takes("v7_wgmma", case)
    arrays = made(case, "float16")
    arrays[3][:, ::2, :1] = False  # rows without a key, which stand last where lists are sorted
    q, k, v, mask = (cp.asarray(x) for x in arrays)
    given = q, k, v, mask, case.block, case.causal, 0.125
    listed, order = raw_wgmma.sorted_lists(*given[:2], mask, case.block, case.causal)
    expected = api.ATTENTION.function("v7_wgmma")(*given, raw_wgmma.SortedLists(listed, order))
    for other in (order[::-1].copy(), order[cp.asarray(np.random.default_rng(0).permutation(len(order)))]):
        found = api.ATTENTION.function("v7_wgmma")(*given, raw_wgmma.SortedLists(listed, other))
        for x, y in zip(found, expected, strict=True):
            cp.testing.assert_array_equal(x, y)


@over("rung", RAW)
def test_views_that_are_not_contiguous_or_not_aligned(cp, rung):
    case = Case(2, 4, 2, 65, 80, 64, 64, 64, causal=True)
    takes(rung, case)
    q, k, v, mask = (cp.asarray(x) for x in made(case, "float16"))
    options = {"block": case.block, "causal": True, "rung": rung}
    expected = block_sparse.attention(q, k, v, mask, **options)
    swapped = [cp.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2) for x in (q, k, v, mask)]
    odd = []
    for x in (q, k, v):
        room = cp.empty(x.size + 1, x.dtype)
        room[1:] = x.ravel()
        odd.append(room[1:].reshape(x.shape))
    for views in (swapped, [*odd, mask]):
        cp.testing.assert_array_equal(block_sparse.attention(*views, **options), expected)


@over("rung", [*NUMBA, *RAW])
def test_nan_stays_in_its_head_and_in_kept_blocks(cp, rung):
    case = Case(1, 4, 4, 128, 128, 64, 64, 64)
    takes(rung, case)
    q, k, v, mask = made(case, "float16")
    mask[:] = np.eye(2, dtype=bool)
    q[0, 3, 5], v[0, 0, 100] = np.nan, np.nan
    o, _ = attend(cp, case, (q, k, v, mask), rung)
    assert np.isnan(o[0, 3, 5]).all()
    assert np.isfinite(o[0, 1:3]).all() and np.isfinite(np.delete(o[0, 3], 5, axis=0)).all()
    assert np.isnan(o[0, 0, 64:]).all()
    assert rung == "v1_masked_dense" or np.isfinite(o[0, 0, :64]).all()


@over(("dtype", "D", "R", "rung"), [
    ("float16", 64, 64, "v7_wgmma"), ("float16", 100, 128, "v7_wgmma"), ("float16", 64, 32, "v6_async"),
    ("float16", 100, 96, "v6_async"), ("float32", 64, 64, "v4_full_partial"), ("float16", 200, 64, "v4_full_partial")])
def test_the_default_is_the_fastest_rung_that_takes_the_inputs(cp, dtype, D, R, rung):
    if launch.architecture() < api.RAW_NEEDS["v6_async"]:
        pytest.skip(f"the raw rungs need compute capability {api.RAW_NEEDS['v6_async']}")
    case = Case(1, 2, 1, 70, 70, D, R, 64)
    takes(rung, case)
    q, k, v, mask = (cp.asarray(x) for x in made(case, dtype))
    assert api.fastest_on_gpu(q, k, v, case.block) == rung
    cp.testing.assert_array_equal(block_sparse.attention(q, k, v, mask, block=case.block),
                                  block_sparse.attention(q, k, v, mask, block=case.block, rung=rung))


@over("rung", [None, *NUMBA, *RAW])
@over("empty", ["B", "T", "S", "D"])
def test_an_empty_axis_gives_an_empty_result(cp, rung, empty):
    case = Case(**{letter: 0 if letter == empty else 4 for letter in "BHGTSD"}, R=3, C=2)
    arrays = made(case, "float16")
    outputs = attend(cp, case, arrays, rung)
    assert not outputs[0].any()
    right(judged(case, arrays, outputs, 1.0))


def test_torch_tensors_come_back_as_torch_tensors(cp):
    torch = pytest.importorskip("torch", reason="PyTorch, whose tensors come through DLPack, is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    case = Case(2, 4, 2, 90, 100, 64, 32, 16, causal=True)
    arrays = made(case, "float16")
    q, k, v, mask = (torch.from_numpy(x).cuda() for x in arrays)
    o, lse = block_sparse.attention(q, k, v, mask, block=case.block, causal=True, return_lse=True)
    assert isinstance(o, torch.Tensor) and o.is_cuda and o.dtype == torch.float16
    right(judged(case, arrays, (o.cpu().numpy(), lse.cpu().numpy())))


def test_mixed_homes_are_refused(cp):
    q, k, v, mask = made(Case(1, 2, 1, 16, 16, 8, 8, 8))
    with pytest.raises(DeviceError, match="arrays live in different places"):
        block_sparse.attention(*(cp.asarray(x) for x in (q, k, v)), mask, block=(8, 8))
    with pytest.raises(DeviceError, match="rung tiled is NumPy's and the arrays live on the GPU"):
        block_sparse.attention(*(cp.asarray(x) for x in (q, k, v, mask)), block=(8, 8), rung="tiled")


@over("rung", RAW)
def test_what_no_raw_rung_takes_is_refused_in_letters(cp, rung):
    def attempt(D, dtype):
        case = Case(1, 2, 1, 16, 16, D, 64, 64)
        takes(rung, case)
        block_sparse.attention(*(cp.asarray(x) for x in made(case, dtype)), block=case.block, rung=rung)

    with pytest.raises(ShapeError, match=f"D=136 must be at most 128: {rung} keeps a row's outputs in registers"):
        attempt(136, "float16")
    with pytest.raises(DtypeError, match=f"q has dtype float32; rung {rung} takes float16"):
        attempt(64, "float32")
