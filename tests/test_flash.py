"""flash.attention: every rung against the float64 oracle, and what the public function promises."""

import inspect
import re

import numpy as np
import pytest

from minikernels import flash
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from minikernels.flash import api, numba_cuda, online, raw, reference, tiled
from tests.flash_cases import CASES, label, made, right

HERE = api.FORWARD.of_kind("numpy", "numba")  # rungs that run without a GPU
over = pytest.mark.parametrize


@over("case", CASES, ids=label)
@over("rung", HERE)
def test_rung_is_right_in_float32(rung, case):
    q, k, v, _ = made(case)
    o, lse = flash.attention(q, k, v, causal=case[-1], return_lse=True, rung=rung)
    assert (o.dtype, lse.dtype) == (q.dtype, np.float32)
    right(reference.judge(o, lse, q, k, v, case[-1], case[5] ** -0.5))


@over("case", CASES[1::3], ids=label)
@over("rung", HERE)
def test_rung_is_right_in_float16(rung, case):
    q, k, v, _ = made(case, "float16")
    o, lse = flash.attention(q, k, v, causal=case[-1], return_lse=True, rung=rung)
    assert (o.dtype, lse.dtype) == (q.dtype, np.float32)
    right(reference.judge(o, lse, q, k, v, case[-1], case[5] ** -0.5))


@over("case", CASES[::3], ids=label)
@over("rung", ["reference", "online", "tiled_keys_outside", "tiled"])
def test_numpy_rungs_keep_float64(rung, case):
    q, k, v, _ = made(case, "float64")
    o, lse = flash.attention(q, k, v, causal=case[-1], return_lse=True, rung=rung)
    expected = reference.attention(q, k, v, case[-1], case[5] ** -0.5)
    assert (o.dtype, lse.dtype) == (np.float64, np.float64)
    np.testing.assert_allclose(o, expected[0], rtol=0, atol=1e-14)
    np.testing.assert_allclose(lse, expected[1], rtol=0, atol=1e-13)


@over("rung", HERE)
@over("scale", [0.0, 1.0, -0.7, 40.0], ids=lambda scale: f"scale{scale}")
def test_any_scale_is_right_and_large_scores_do_not_overflow(rung, scale):
    q, k, v, _ = made((1, 2, 1, 35, 40, 8, True))
    o, lse = flash.attention(q, k, v, causal=True, scale=scale, return_lse=True, rung=rung)
    right(reference.judge(o, lse, q, k, v, True, scale))


@over("function", [tiled.attention, tiled.attention_keys_outside], ids=lambda f: f.__name__)
@over("blocks", [(1, 1), (7, 3), (64, 32), (500, 500)], ids=lambda blocks: f"{blocks[0]}x{blocks[1]}")
def test_tile_sizes_do_not_change_the_result(function, blocks):
    q, k, v, _ = made((2, 4, 2, 37, 53, 16, True))
    right(reference.judge(*function(q, k, v, True, 0.25, *blocks), q, k, v, True, 0.25))


def test_one_row_streams_to_the_same_result():
    q, k, v, _ = made((1, 1, 1, 1, 70, 16, False))
    o, lse = online.row(q[0, 0, 0], k[0, 0], v[0, 0], 0.25)
    right(reference.judge(o[None, None, None], lse[None, None, None], q, k, v, False, 0.25))


@over("launch", [numba_cuda.launch_v2_tiled, numba_cuda.launch_v2_keys_outside], ids=lambda f: f.__name__)
def test_both_loop_orders_agree_at_the_same_tiles_to_the_last_bit(launch):
    q, k, v, _ = made((1, 2, 1, 130, 70, 16, True))
    expected = numba_cuda.launch_v2_tiled(q, k, v, True, 0.25, block_t=64)
    for x, y in zip(launch(q, k, v, True, 0.25, block_t=32), expected):
        np.testing.assert_array_equal(x, y)


@over("rung", HERE)
def test_the_future_is_not_seen(rung):
    q, k, v, _ = made((1, 2, 1, 40, 50, 8, True))
    before = flash.attention(q, k, v, causal=True, rung=rung)
    k[:, :, 40:], v[:, :, 40:] = 1e3, -1e3  # keys that only queries from 30 on may see
    after = flash.attention(q, k, v, causal=True, rung=rung)
    np.testing.assert_array_equal(before[:, :, :30], after[:, :, :30])
    assert np.abs(before[:, :, 30:] - after[:, :, 30:]).min() > 0


@over("rung", HERE)
def test_a_head_reads_the_group_it_belongs_to(rung):
    q, k, v, _ = made((1, 6, 2, 20, 20, 8, False))
    grouped = flash.attention(q, k, v, rung=rung)
    alone = flash.attention(q, np.repeat(k, 3, axis=1), np.repeat(v, 3, axis=1), rung=rung)
    np.testing.assert_allclose(grouped, alone, rtol=0, atol=2e-6)
    for h in range(6):
        one = flash.attention(q[:, h : h + 1], k[:, h // 3, None], v[:, h // 3, None], rung=rung)
        np.testing.assert_allclose(grouped[:, h : h + 1], one, rtol=0, atol=2e-6)


@over("rung", HERE)
def test_rows_that_see_no_key_give_zero_and_minus_infinity(rung):
    q, k, v, _ = made((1, 2, 1, 9, 4, 5, True))
    o, lse = flash.attention(q, k, v, causal=True, return_lse=True, rung=rung)
    assert not o[:, :, :5].any()
    assert np.all(lse[:, :, :5] == -np.inf)
    assert np.isfinite(lse[:, :, 5:]).all()


@over("rung", HERE)
def test_a_nan_comes_out_where_it_went_in(rung):
    q, k, v, _ = made((1, 2, 1, 20, 20, 8, True))
    q[0, 1, 3, 2], v[0, 0, 10, 5] = np.nan, np.nan
    with np.errstate(invalid="ignore"):
        o = flash.attention(q, k, v, causal=True, rung=rung)
    assert np.isnan(o[0, 1, 3]).all()
    assert np.isnan(o[0, 0, 10:, 5]).all()
    assert np.isfinite(o[0, 0, :, :5]).all()


@over("case", [(0, 2, 1, 3, 4, 5), (2, 0, 0, 3, 4, 5), (2, 0, 3, 3, 4, 5), (1, 2, 1, 0, 4, 5), (1, 2, 1, 3, 0, 5),
               (1, 2, 1, 3, 4, 0), (1, 2, 1, 4, 2, 0), (0, 0, 0, 0, 0, 0)], ids=lambda case: label((*case, True)))
@over("rung", [None, *HERE])
def test_an_empty_axis_gives_an_empty_result(rung, case):
    q, k, v, do = made((*case, True))
    o, lse = flash.attention(q, k, v, causal=True, return_lse=True, rung=rung)
    expected = reference.attention(q, k, v, True, 1.0)
    np.testing.assert_array_equal(o, expected[0])
    np.testing.assert_array_equal(lse, expected[1].astype(np.float32))
    assert (o.shape, lse.shape, lse.dtype) == (q.shape, q.shape[:3], np.float32)


def test_the_default_on_numpy_arrays_is_tiled():
    q, k, v, _ = made((1, 2, 1, 33, 40, 8, True))
    np.testing.assert_array_equal(flash.attention(q, k, v), flash.attention(q, k, v, rung="tiled"))
    assert isinstance(flash.attention(q, k, v), np.ndarray)


def test_lse_is_returned_only_when_asked_for():
    q, k, v, _ = made((1, 2, 1, 3, 4, 8, True))
    o, lse = flash.attention(q, k, v, return_lse=True)
    np.testing.assert_array_equal(flash.attention(q, k, v), o)
    assert lse.shape == (1, 2, 3)


def arrays(*shapes, dtype="float32"):
    return [np.zeros(shape, dtype) for shape in shapes]


@over("rung", [None, *api.FORWARD])
@over(("shapes", "message"), [
    (((1, 8, 5, 64), (1, 3, 7, 64), (1, 3, 7, 64)), "k has shape (1, 3, 7, 64) = (B, G, S, D); G=3 must divide H=8"),
    (((1, 8, 5, 64), (1, 0, 7, 64), (1, 0, 7, 64)), "G=0 must divide H=8"),
    (((8, 5, 64), (1, 8, 7, 64), (1, 8, 7, 64)), "q has shape (8, 5, 64), 3 axes; it must be (B, H, T, D)"),
    (((1, 8, 5, 64), (2, 8, 7, 64), (2, 8, 7, 64)), "k has shape (2, 8, 7, 64) = (B, G, S, D); B=2 must equal B=1"),
    (((1, 8, 5, 64), (1, 8, 7, 32), (1, 8, 7, 32)), "D=32 must equal D=64 of q"),
    (((1, 8, 5, 64), (1, 8, 7, 64), (1, 8, 6, 64)), "v has shape (1, 8, 6, 64) = (B, G, S, D); S=6 must equal S=7"),
    (((1, 8, 5, 64), (1, 8, 7, 64), (1, 8, 7, 32)), "v has shape (1, 8, 7, 32) = (B, G, S, D); D=32"),
], ids=["G-divides-H", "no-group", "three-axes", "B", "D", "S", "D-of-v"])
def test_a_wrong_shape_is_told_in_letters(rung, shapes, message):
    with pytest.raises(ShapeError, match=re.escape(message)):
        flash.attention(*arrays(*shapes), rung=rung)


def test_a_wrong_dtype_is_named():
    q, k, v = arrays(*[(1, 1, 2, 2)] * 3)
    with pytest.raises(DtypeError, match="k has dtype float16 and q has float32; q, k and v must share one dtype"):
        flash.attention(q, k.astype("float16"), v)
    with pytest.raises(DtypeError, match="q has dtype int64; it must be float16, float32 or float64"):
        flash.attention(*(x.astype("int64") for x in (q, k, v)))
    with pytest.raises(DtypeError, match="q has dtype float64; rung v2_tiled takes float16 and float32"):
        flash.attention(*(x.astype("float64") for x in (q, k, v)), rung="v2_tiled")
    with pytest.raises(DtypeError, match="q is of type list"):
        flash.attention(q.tolist(), k, v)
    with pytest.raises(DtypeError, match="scale is of type str"):
        flash.attention(q, k, v, scale="big")


def test_an_unknown_rung_lists_the_rungs():
    with pytest.raises(ValueError, match="there is no rung 'v9_magic' here; the rungs are reference, online, .*v5_mma"):
        flash.attention(*arrays(*[(1, 1, 2, 2)] * 3), rung="v9_magic")


@over("rung", list(api.RAW_NEEDS))
def test_the_default_asks_for_the_architecture_that_the_rung_needs(rung):
    needed = re.search(r"min_arch=\((\d+), (\d+)\)", inspect.getsource(getattr(raw, f"launch_{rung}")))
    assert tuple(map(int, needed.groups())) == api.RAW_NEEDS[rung]


@over("rung", list(api.RAW_NEEDS))
def test_a_gpu_rung_on_numpy_arrays_says_so(rung):
    with pytest.raises(DeviceError, match=f"rung {rung} is CUDA C.* needs arrays on a GPU"):
        flash.attention(*arrays(*[(1, 1, 2, 8)] * 3, dtype="float16"), rung=rung)


@over("rung", ["v2_tiled", "v2_keys_outside", "v3_split_rows"])
def test_a_head_too_wide_for_a_rung_names_one_that_takes_it(rung):
    with pytest.raises(ShapeError, match=f"D=257 must be at most 256 for rung {rung}; rung v1_three_pass takes any D"):
        flash.attention(*arrays(*[(1, 1, 2, 257)] * 3), rung=rung)
    q, k, v, _ = made((1, 1, 1, 3, 4, 257, True))
    right(reference.judge(*flash.attention(q, k, v, return_lse=True, rung="v1_three_pass"), q, k, v, False, 257**-0.5))


@over("rung", [rung for rung in HERE if rung.startswith("v")])
def test_more_heads_than_a_grid_has_room_for_are_refused(rung):
    q = np.zeros((65_536, 1, 1, 1), np.float32)
    with pytest.raises(ShapeError, match="B=65536 must be at most 65535"):
        flash.attention(q, q, q, rung=rung)


def test_the_readme_example_runs(root):
    readme = (root / "minikernels/flash/README.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names = {}
    exec(compile(code, "minikernels/flash/README.md", "exec"), names)
    np.testing.assert_allclose(names["same"], names["o"], rtol=0, atol=2e-6)
    assert names["dk"].shape == names["k"].shape
