"""block_sparse: every rung against the float64 oracle, and what the public function promises."""

import re

import numpy as np
import pytest

from minikernels import block_sparse, flash
from minikernels.block_sparse import api, patterns, reference
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from tests.block_sparse_cases import CASES, Case, label, made, right

HERE = api.ATTENTION.of_kind("numpy", "numba")  # rungs that run without a GPU
RAW = api.ATTENTION.of_kind("raw")
over = pytest.mark.parametrize


def attend(case, arrays, rung, **options):
    q, k, v, mask = arrays
    given = {"block": case.block, "causal": case.causal, "return_lse": True, "rung": rung, **options}
    return block_sparse.attention(q, k, v, mask, **given)


def judged(case, arrays, outputs, scale=None):
    return reference.judge(*outputs, *arrays, case.block, case.causal, case.D**-0.5 if scale is None else scale)


@over("case", CASES, ids=label)
@over("rung", HERE)
def test_rung_is_right_in_float32(rung, case):
    arrays = made(case)
    o, lse = attend(case, arrays, rung)
    assert (o.dtype, lse.dtype) == (np.float32, np.float32)
    right(judged(case, arrays, (o, lse)))


@over("case", CASES[1::3], ids=label)
@over("rung", HERE)
def test_rung_is_right_in_float16(rung, case):
    arrays = made(case, "float16")
    o, lse = attend(case, arrays, rung)
    assert (o.dtype, lse.dtype) == (np.float16, np.float32)
    right(judged(case, arrays, (o, lse)))


def test_the_oracle_is_attention_cell_by_cell():
    case = CASES[3]
    q, k, v, mask = made(case, "float64")
    o, lse = attend(case, (q, k, v, mask), "reference")
    assert lse.dtype == np.float64
    for b, h, t in np.ndindex(o.shape[:3]):
        seen = [s for s in range(case.S) if mask[b, 0, t // case.R, s // case.C] and s <= t + case.S - case.T]
        weights = np.exp(k[b, 0, seen] @ q[b, h, t] * case.D**-0.5)
        expected = weights @ v[b, 0, seen] / weights.sum() if seen else np.zeros(case.D)
        np.testing.assert_allclose(o[b, h, t], expected, rtol=0, atol=1e-13)
        assert np.isclose(lse[b, h, t], np.log(weights.sum()) if seen else -np.inf)


@over("rung", HERE)
@over("scale", [0.0, 1.0, -0.7, 40.0], ids=lambda scale: f"scale{scale}")
def test_any_scale_is_right_and_large_scores_do_not_overflow(rung, scale):
    case = Case(1, 4, 2, 45, 37, 8, 16, 16, causal=True)
    arrays = made(case)
    right(judged(case, arrays, attend(case, arrays, rung, scale=scale), scale))


@over("rung", HERE)
@over("causal", [False, True])
def test_a_mask_that_keeps_everything_is_flash(rung, causal):
    case = Case(2, 4, 2, 50, 61, 16, 16, 32, density=1.0, causal=causal)
    q, k, v, mask = made(case)
    expected = flash.attention(q, k, v, causal=causal, return_lse=True)
    for found, wanted in zip(attend(case, (q, k, v, mask), rung), expected):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=4e-6)


@over("rung", HERE)
def test_one_plane_of_the_mask_serves_all_sequences_and_heads(rung):
    q, k, v, _ = made(Case(2, 4, 2, 40, 40, 8, 16, 16))
    mask = np.random.default_rng(1).random((2, 4, 3, 3)) < 0.5
    for planes in (mask[:1, :1], mask[:1], mask[:, :1]):
        spread = np.broadcast_to(planes, mask.shape)
        alike = [block_sparse.attention(q, k, v, m, block=(16, 16), rung=rung) for m in (planes, spread)]
        np.testing.assert_array_equal(*alike)


@over("rung", HERE)
def test_rows_that_see_nothing_give_zero_and_minus_infinity(rung):
    case = Case(1, 2, 1, 40, 24, 8, 8, 8, causal=True)  # the first 16 rows see no key, whatever the mask
    q, k, v, mask = made(case)
    mask[:] = True
    mask[0, 1, 3] = False  # and in head 1 rows 24 to 31 keep no block
    o, lse = attend(case, (q, k, v, mask), rung)
    empty = np.zeros((1, 2, 40), bool)
    empty[:, :, :16] = empty[:, 1, 24:32] = True
    assert not o[empty].any()
    assert (lse[empty] == -np.inf).all()
    assert np.isfinite(lse[~empty]).all()


@over("rung", HERE)
def test_a_nan_comes_out_in_its_row_and_in_rows_that_see_it(rung):
    case = Case(1, 4, 2, 32, 32, 8, 16, 16)
    q, k, v, mask = made(case)
    mask[:] = np.eye(2, dtype=bool)
    q[0, 3, 2] = np.nan
    with np.errstate(invalid="ignore"):
        o, _ = attend(case, (q, k, v, mask), rung)
    assert np.isnan(o[0, 3, 2]).all()
    assert np.isfinite(np.delete(o[0, 3], 2, axis=0)).all()
    assert np.isfinite(o[0, :3]).all()


@over("rung", [rung for rung in HERE if rung not in ("reference", "v1_masked_dense")])
def test_blocks_that_are_left_out_are_not_looked_at(rung):
    case = Case(1, 2, 1, 32, 48, 8, 16, 16)
    q, k, v, mask = made(case)
    mask[:] = [[True, False, False], [False, False, True]]
    expected = attend(case, (q, k, v, mask), rung)
    k[:, :, 16:32] = v[:, :, 16:32] = np.nan
    for found, wanted in zip(attend(case, (q, k, v, mask), rung), expected):
        np.testing.assert_array_equal(found, wanted)


@over("rung", [None, *HERE])
@over("empty", ["B", "T", "S", "D", "HG", "BHGTSD"])
def test_an_empty_axis_gives_an_empty_result(rung, empty):
    case = Case(**{letter: 0 if letter in empty else 4 for letter in "BHGTSD"}, R=3, C=2)
    arrays = made(case)
    o, lse = attend(case, arrays, rung)
    assert (o.shape, lse.shape) == (arrays[0].shape, arrays[0].shape[:3])
    assert not o.any()
    right(judged(case, arrays, (o, lse), 1.0))


def test_the_default_on_numpy_arrays_is_tiled():
    case = CASES[1]
    arrays = made(case)
    np.testing.assert_array_equal(attend(case, arrays, None)[0], attend(case, arrays, "tiled")[0])
    o = block_sparse.attention(*arrays, block=list(case.block), causal=case.causal)  # a list is a pair, too
    np.testing.assert_array_equal(o, attend(case, arrays, "tiled")[0])


def arrays(*shapes, dtype="float32"):
    return [np.zeros(shape, dtype) for shape in shapes]


QKV = (2, 4, 37, 8), (2, 2, 53, 8), (2, 2, 53, 8)
SPELLED = "= (B, H, ceil(T/R), ceil(S/C)); "


@over("rung", [None, *api.ATTENTION])
@over(("shapes", "mask", "message"), [
    (((1, 8, 5, 64), (1, 3, 7, 64), (1, 3, 7, 64)), (1, 1, 1, 1),
     "k has shape (1, 3, 7, 64) = (B, G, S, D); G=3 must divide H=8"),
    (((1, 8, 64), (1, 8, 7, 64), (1, 8, 7, 64)), (1, 1, 1, 1),
     "q has shape (1, 8, 64), 3 axes; it must be (B, H, T, D)"),
    (((1, 2, 5, 4), (1, 2, 7, 4), (1, 2, 6, 4)), (1, 1, 1, 1),
     "v has shape (1, 2, 6, 4) = (B, G, S, D); S=6 must equal"),
    (QKV, (2, 4, 3), "mask has shape (2, 4, 3), 3 axes; it must be (B, H, ceil(T/R), ceil(S/C))"),
    (QKV, (2, 4, 2, 4), f"mask has shape (2, 4, 2, 4) {SPELLED}ceil(T/R)=2 must be 3: T=37 in blocks of R=16"),
    (QKV, (2, 4, 3, 5), f"mask has shape (2, 4, 3, 5) {SPELLED}ceil(S/C)=5 must be 4: S=53 in blocks of C=16"),
    (QKV, (3, 4, 3, 4), f"mask has shape (3, 4, 3, 4) {SPELLED}B=3 must be 1, or B=2 of q"),
    (QKV, (2, 2, 3, 4), f"mask has shape (2, 2, 3, 4) {SPELLED}H=2 must be 1, or H=4 of q"),
], ids=["G-divides-H", "three-axes", "S", "mask-axes", "mask-rows", "mask-columns", "mask-B", "mask-H"])
def test_a_wrong_shape_is_told_in_letters(rung, shapes, mask, message):
    with pytest.raises(ShapeError, match=re.escape(message)):
        block_sparse.attention(*arrays(*shapes), np.ones(mask, bool), block=(16, 16), rung=rung)


@over("block", [16, (16,), (16, 0), (16, -1), (16, 16.0), (True, 16), None, "ab"], ids=str)
def test_a_block_that_is_no_pair_of_sizes_is_refused(block):
    message = f"block is {block!r}; it must be (R, C), two integers of at least 1: queries by keys"
    with pytest.raises(ShapeError, match=re.escape(message)):
        block_sparse.attention(*arrays(*QKV), np.ones((1, 1, 3, 4), bool), block=block)


def test_a_wrong_dtype_is_named():
    q, k, v = arrays(*QKV)
    mask = np.ones((1, 1, 3, 4), bool)
    with pytest.raises(DtypeError, match="mask has dtype uint8; it must be bool"):
        block_sparse.attention(q, k, v, mask.astype("uint8"), block=(16, 16))
    with pytest.raises(DtypeError, match="k has dtype float16 and q has float32; q, k and v must share one dtype"):
        block_sparse.attention(q, k.astype("float16"), v, mask, block=(16, 16))
    with pytest.raises(DtypeError, match="q has dtype float64; rung v2_skip_test takes float16 and float32"):
        block_sparse.attention(*(x.astype("float64") for x in (q, k, v)), mask, block=(16, 16), rung="v2_skip_test")
    with pytest.raises(DtypeError, match="scale is of type str"):
        block_sparse.attention(q, k, v, mask, block=(16, 16), scale="big")
    with pytest.raises(DtypeError, match="mask is of type list"):
        block_sparse.attention(q, k, v, mask.tolist(), block=(16, 16))


def test_an_unknown_rung_lists_the_rungs():
    with pytest.raises(ValueError, match=f"there is no rung 'v9_magic' here; the rungs are {', '.join(api.ATTENTION)}"):
        block_sparse.attention(*arrays(*QKV), np.ones((1, 1, 3, 4), bool), block=(16, 16), rung="v9_magic")


@over("rung", RAW)
def test_a_gpu_rung_on_numpy_arrays_says_so(rung):
    with pytest.raises(DeviceError, match=f"rung {rung} is CUDA C.* needs arrays on a GPU"):
        block_sparse.attention(*arrays(*QKV), np.ones((1, 1, 3, 4), bool), block=(16, 16), rung=rung)


@over("rung", api.ATTENTION.of_kind("numba"))
def test_what_does_not_fit_a_kernel_names_what_does(rung):
    def attempt(*shapes):
        block_sparse.attention(*arrays(*shapes), np.ones((1, 1, 1, 1), bool), block=(16, 16), rung=rung)

    with pytest.raises(ShapeError, match=f"D=257 must be at most 256 for rung {rung}; rung tiled takes any D"):
        attempt(*[(1, 1, 2, 257)] * 3)
    with pytest.raises(ShapeError, match="B=65536 must be at most 65535"):
        attempt(*[(65_536, 1, 1, 1)] * 3)


def test_the_readme_example_runs(root):
    readme = (root / "minikernels/block_sparse/README.md").read_text("utf-8")
    names = {}
    for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        exec(compile(code, "minikernels/block_sparse/README.md", "exec"), names)
    np.testing.assert_allclose(names["same"], names["o"], rtol=0, atol=2e-6)
    assert patterns.local(4, 4, block=(1, 1), window=1).sum() == 4
