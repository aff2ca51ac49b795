"""paged.decode: every rung against the float64 oracle, and what the public function promises."""

import re

import numpy as np
import pytest

from minikernels import gqa, paged
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from minikernels.paged import api, reference, tiled
from tests.paged_cases import CASES, label, made, right

HERE = api.DECODE.of_kind("numpy", "numba")  # rungs that run without a GPU
RAW = api.DECODE.of_kind("raw")
over = pytest.mark.parametrize


@over("case", CASES, ids=label)
@over("rung", HERE)
def test_rung_is_right_in_float32(rung, case):
    arrays = made(case)
    o = paged.decode(*arrays, rung=rung)
    assert o.dtype == arrays[0].dtype
    right(reference.judge(o, *arrays, case[4] ** -0.5))


@over("case", CASES[1::3], ids=label)
@over("rung", HERE)
def test_rung_is_right_in_float16(rung, case):
    arrays = made(case, "float16")
    o = paged.decode(*arrays, rung=rung)
    assert o.dtype == arrays[0].dtype
    right(reference.judge(o, *arrays, case[4] ** -0.5))


@over("P", [1, 2, 5, 16, 33, 64, 128])
@over("rung", HERE)
def test_the_page_size_does_not_change_the_result(rung, P):
    arrays = made((2, 4, 2, P, 16, (70, 33)))
    right(reference.judge(paged.decode(*arrays, rung=rung), *arrays, 0.25))


@over("rung", HERE)
def test_where_the_pages_lie_does_not_change_a_bit(rung):
    q, k_pages, v_pages, page_table, lengths = made((2, 6, 2, 8, 16, (70, 33)))
    expected = paged.decode(q, k_pages, v_pages, page_table, lengths, rung=rung)
    order = np.random.default_rng(7).permutation(len(k_pages))  # page i moves to place order[i]
    moved = [np.empty_like(x) for x in (k_pages, v_pages)]
    for there, x in zip(moved, (k_pages, v_pages), strict=True):
        there[order] = x
    table = np.where(page_table < 0, -1, order[page_table]).astype(np.int32)
    np.testing.assert_array_equal(paged.decode(q, *moved, table, lengths, rung=rung), expected)


@over("rung", HERE)
def test_pages_in_order_equal_a_contiguous_cache(rung):
    rng = np.random.default_rng(3)
    q, (k, v) = rng.standard_normal((2, 6, 16), np.float32), rng.standard_normal((2, 2, 2, 48, 16), np.float32)
    k_pages, v_pages = (np.ascontiguousarray(x.swapaxes(1, 2)).reshape(6, 16, 2, 16) for x in (k, v))
    table, lengths = np.arange(6, dtype=np.int32).reshape(2, 3), np.array([48, 37], np.int32)
    o = paged.decode(q, k_pages, v_pages, table, lengths, rung=rung)
    np.testing.assert_allclose(o, gqa.decode(q, k, v, lengths=lengths), rtol=0, atol=2e-6)


@over("rung", HERE)
def test_sequences_may_share_pages_and_repeat_them(rung):
    q, k_pages, v_pages, _, _ = made((3, 4, 2, 4, 8, (16, 16, 16)))
    k_pages, v_pages = np.nan_to_num(k_pages), np.nan_to_num(v_pages)
    table, lengths = np.array([[3, 1, 2], [3, 1, 5], [2, 2, 2]], np.int32), np.array([12, 9, 11], np.int32)
    o = paged.decode(q, k_pages, v_pages, table, lengths, rung=rung)
    right(reference.judge(o, q, k_pages, v_pages, table, lengths, 8**-0.5))


@over("rung", HERE)
@over("scale", [0.0, 1.0, -0.7, 40.0], ids=lambda scale: f"scale{scale}")
def test_any_scale_is_right_and_large_scores_do_not_overflow(rung, scale):
    arrays = made((2, 4, 2, 8, 8, (45, 17)))
    right(reference.judge(paged.decode(*arrays, scale=scale, rung=rung), *arrays, scale))


def test_numpy_rungs_keep_float64():
    arrays = made(CASES[1], "float64")
    for rung in ("reference", "tiled"):
        o = paged.decode(*arrays, rung=rung)
        assert o.dtype == np.float64
        np.testing.assert_allclose(o, reference.decode(*arrays, 0.125), rtol=0, atol=1e-14)


@over("block_s", [1, 7, 32, 500])
def test_the_pages_of_a_step_do_not_change_the_result(block_s):
    arrays = made((3, 6, 2, 16, 16, (70, 0, 33)))
    right(reference.judge(tiled.decode(*arrays, 0.25, block_s), *arrays, 0.25))


@over("rung", HERE)
def test_a_nan_comes_out_where_it_went_in(rung):
    q, k_pages, v_pages, table, lengths = made((2, 4, 2, 8, 8, (40, 40)))
    q[0, 3, 2], v_pages[table[1, 1], 2, 0, 5] = np.nan, np.nan
    with np.errstate(invalid="ignore"):
        o = paged.decode(q, k_pages, v_pages, table, lengths, rung=rung)
    assert np.isnan(o[0, 3]).all()
    assert np.isfinite(o[0, :3]).all()
    assert np.isnan(o[1, :2, 5]).all()
    assert np.isfinite(o[1, 2:]).all()


@over("case", [(0, 2, 1, 4, 8, ()), (2, 0, 0, 4, 8, (5, 3)), (2, 0, 3, 4, 8, (5, 3)), (1, 2, 1, 4, 0, (5,)),
               (1, 2, 1, 4, 8, (0,))], ids=label)
@over("rung", [None, *HERE])
def test_an_empty_axis_gives_an_empty_result(rung, case):
    arrays = made(case)
    o = paged.decode(*arrays, rung=rung)
    assert o.shape == arrays[0].shape
    assert not o.any()


@over("rung", [None, *HERE])
def test_a_pool_or_a_page_without_room_gives_zeros(rung):
    q, table, none = np.ones((2, 4, 8), np.float32), np.full((2, 3), -1, np.int32), np.zeros(2, np.int32)
    for shape in ((0, 16, 2, 8), (5, 0, 2, 8)):
        o = paged.decode(q, *(np.zeros(shape, np.float32),) * 2, table, none, rung=rung)
        assert not o.any()


def test_the_default_on_numpy_arrays_is_tiled():
    arrays = made(CASES[1])
    np.testing.assert_array_equal(paged.decode(*arrays), paged.decode(*arrays, rung="tiled"))
    wide = *arrays[:3], *(x.astype(np.int64) for x in arrays[3:])
    np.testing.assert_array_equal(paged.decode(*arrays), paged.decode(*wide))


def arrays_of(**changed):
    """Return a small decoding step's arrays, some of them exchanged."""
    q, k_pages, v_pages, page_table, lengths = made((2, 4, 2, 4, 8, (7, 5)))
    given = {"q": q, "k_pages": k_pages, "v_pages": v_pages, "page_table": page_table, "lengths": lengths}
    return {**given, **changed}


@over("rung", [None, *api.DECODE])
@over(("name", "shape", "message"), [
    ("v_pages", (6, 4, 3, 8), "v_pages has shape (6, 4, 3, 8) = (pages, P, G, D); G=3 must equal G=2 of k_pages"),
    ("q", (2, 4, 1, 8), "q has shape (2, 4, 1, 8), 4 axes; it must be (B, H, D)"),
    ("q", (2, 5, 8), "G=2 must divide H=5"),
    ("v_pages", (6, 5, 2, 8), "v_pages has shape (6, 5, 2, 8) = (pages, P, G, D); P=5 must equal P=4 of k_pages"),
    ("v_pages", (6, 4, 2, 9), "D=9 must equal D=8 of q"),
], ids=["G", "four-axes", "G-divides-H", "P", "D"])
def test_a_wrong_shape_is_told_in_letters(rung, name, shape, message):
    with pytest.raises(ShapeError, match=re.escape(message)):
        paged.decode(**arrays_of(**{name: np.zeros(shape, np.float32)}), rung=rung)


@over(("page_table", "message"), [
    ([[0, 1]], "page_table has shape (1, 2) = (B, max_pages); B=1 must equal B=2 of q"),
    ([0, 1], "page_table has shape (2,), 1 axis; it must be (B, max_pages)"),
    ([[0, 1], [3, 6]], "page_table[1, 1] is 6; the pool has the pages 0 to 5"),
    ([[0, -1], [3, 4]], "page_table[0, 1] is -1; the pool has the pages 0 to 5"),
], ids=["B", "one-axis", "too-large", "negative"])
def test_a_bad_page_table_is_named(page_table, message):
    with pytest.raises(ShapeError, match=re.escape(message)):
        paged.decode(**arrays_of(page_table=np.array(page_table, np.int32)))


def test_an_entry_past_a_length_is_not_looked_at():
    given = arrays_of(lengths=np.array([7, 4], np.int32))
    expected = paged.decode(**given)
    given["page_table"][1, 1] = 10**6
    for rung in HERE:
        np.testing.assert_allclose(paged.decode(**given, rung=rung), expected, rtol=0, atol=1e-6)


@over("lengths", [(-1, 3), (3, 9)], ids=str)
def test_a_length_out_of_range_is_named(lengths):
    b = 0 if lengths[0] < 0 else 1
    message = f"lengths[{b}] is {lengths[b]}; a sequence has 0 to max_pages*P = 2*4 = 8 tokens"
    with pytest.raises(ShapeError, match=re.escape(message)):
        paged.decode(**arrays_of(lengths=np.array(lengths)))


def test_a_wrong_dtype_is_named():
    given = arrays_of()
    for name, found, message in [
        ("k_pages", given["k_pages"].astype("float16"), "k_pages has dtype float16 and q has float32"),
        ("q", np.ones((2, 4, 8), np.int64), "q has dtype int64; it must be float16, float32 or float64"),
        ("page_table", given["page_table"].astype(float), "page_table has dtype float64; it must be int32 or int64"),
        ("lengths", given["lengths"].astype(float), "lengths has dtype float64; it must be int32 or int64"),
        ("lengths", [7, 5], "lengths is of type list"),
        ("lengths", None, "lengths is None; it must be an array"),
    ]:
        with pytest.raises(DtypeError, match=re.escape(message)):
            paged.decode(**{**given, name: found})
    wide = {name: x.astype(float) if x.dtype == np.float32 else x for name, x in given.items()}
    with pytest.raises(DtypeError, match="q has dtype float64; rung v3_warp_key takes float16 and float32"):
        paged.decode(**wide, rung="v3_warp_key")
    with pytest.raises(DtypeError, match="scale is of type str"):
        paged.decode(**given, scale="big")


def test_an_unknown_rung_lists_the_rungs():
    with pytest.raises(ValueError, match=f"there is no rung 'v9_magic' here; the rungs are {', '.join(api.DECODE)}"):
        paged.decode(**arrays_of(), rung="v9_magic")


@over("rung", RAW)
def test_a_gpu_rung_on_numpy_arrays_says_so(rung):
    with pytest.raises(DeviceError, match=f"rung {rung} is CUDA C.* needs arrays on a GPU"):
        paged.decode(**arrays_of(), rung=rung)


@over(("rung", "D", "message"), [
    ("v1_gather", 4097, "D=4097 must be at most 4096 for rung v1_gather; rung tiled takes more"),
    ("v2_page_table", 4097, "D=4097 must be at most 4096 for rung v2_page_table; rung tiled takes more"),
    ("v3_warp_key", 257, "D=257 must be at most 256 for rung v3_warp_key; rung v2_page_table takes more"),
])
def test_a_head_too_wide_for_a_rung_names_one_that_takes_it(rung, D, message):
    with pytest.raises(ShapeError, match=message):
        paged.decode(*made((1, 1, 1, 4, D, (2,))), rung=rung)


@over("rung", [rung for rung in HERE if rung.startswith("v")])
def test_more_sequences_than_a_grid_has_room_for_are_refused(rung):
    q, pages = np.zeros((65_536, 1, 1), np.float32), np.zeros((1, 1, 1, 1), np.float32)
    with pytest.raises(ShapeError, match="B=65536 must be at most 65535"):
        paged.decode(q, pages, pages, np.zeros((65_536, 1), np.int32), np.ones(65_536, np.int32), rung=rung)


@over("rung", [rung for rung in HERE if rung.startswith("v")])
def test_a_kernel_makes_nan_of_what_leads_out_of_the_pool(rung):
    """On a GPU such a sequence has length -1 when the kernel sees it."""
    arrays = made((2, 4, 2, 8, 16, (20, 33)))
    arrays[4][0] = -1
    o = api.DECODE.function(rung)(*arrays, 0.25)
    assert np.isnan(o[0]).all()
    part = arrays[0][1:], *arrays[1:3], arrays[3][1:], arrays[4][1:]
    right(reference.judge(o[1:], *part, 0.25))


def test_the_readme_examples_run(root, capsys):
    readme = (root / "minikernels/paged/README.md").read_text("utf-8")
    names = {}
    for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        exec(compile(code, "minikernels/paged/README.md", "exec"), names)
    np.testing.assert_allclose(names["same"], names["o"], rtol=0, atol=2e-6)
    assert "5 pages, where 9 would be" in capsys.readouterr().out
