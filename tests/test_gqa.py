"""gqa: every rung against the float64 oracle, and what the public functions promise."""

import re

import numpy as np
import pytest

from minikernels import gqa
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from minikernels.gqa import api, reference, tiled
from tests.gqa_cases import CASES, PROMPTS, label, made, prompt, right

HERE = api.DECODE.of_kind("numpy", "numba")  # rungs that run without a GPU
RAW = api.DECODE.of_kind("raw")
over = pytest.mark.parametrize


@over("case", CASES, ids=label)
@over("rung", HERE)
def test_rung_is_right_in_float32(rung, case):
    q, k, v, lengths = made(case)
    o = gqa.decode(q, k, v, lengths=lengths, rung=rung)
    assert o.dtype == q.dtype
    right(reference.judge(o, q, k, v, lengths, case[4] ** -0.5))


@over("case", CASES[1::3], ids=label)
@over("rung", HERE)
def test_rung_is_right_in_float16(rung, case):
    q, k, v, lengths = made(case, "float16")
    o = gqa.decode(q, k, v, lengths=lengths, rung=rung)
    assert o.dtype == q.dtype
    right(reference.judge(o, q, k, v, lengths, case[4] ** -0.5))


@over("case", PROMPTS, ids=label)
@over("dtype", ["float32", "float16"])
@over("rung", api.PREFILL)
def test_attention_is_right(rung, dtype, case):
    q, k, v = prompt(case, dtype)
    o = gqa.attention(q, k, v, causal=case[-1], rung=rung)
    assert o.dtype == q.dtype
    right(reference.judge_attention(o, q, k, v, case[-1], case[5] ** -0.5))


def test_numpy_rungs_keep_float64():
    q, k, v, lengths = made(CASES[1], "float64")
    for rung in ("reference", "tiled"):
        o = gqa.decode(q, k, v, lengths=lengths, rung=rung)
        assert o.dtype == np.float64
        np.testing.assert_allclose(o, reference.decode(q, k, v, lengths, 0.125), rtol=0, atol=1e-14)


@over("rung", HERE)
@over("scale", [0.0, 1.0, -0.7, 40.0], ids=lambda scale: f"scale{scale}")
def test_any_scale_is_right_and_large_scores_do_not_overflow(rung, scale):
    q, k, v, lengths = made((2, 4, 2, 45, 8, (45, 17)))
    right(reference.judge(gqa.decode(q, k, v, lengths=lengths, scale=scale, rung=rung), q, k, v, lengths, scale))


@over("block_s", [1, 7, 32, 500])
def test_the_split_of_the_keys_does_not_change_the_result(block_s):
    q, k, v, lengths = made((3, 6, 2, 70, 16, (70, 0, 33)))
    right(reference.judge(tiled.decode(q, k, v, lengths, 0.25, block_s), q, k, v, lengths, 0.25))
    q, k, v = prompt((1, 4, 2, 37, 53, 16, True))
    o = tiled.attention(q, k, v, True, 0.25, block_s, block_s)
    right(reference.judge_attention(o, q, k, v, True, 0.25))


@over("rung", HERE)
def test_any_number_of_groups_equals_its_heads_repeated(rung):
    q, k, v, lengths = made((2, 12, 12, 40, 8, (40, 23)))
    for G in (1, 2, 3, 4, 6, 12):
        shared = np.ascontiguousarray(k[:, :G]), np.ascontiguousarray(v[:, :G])
        grouped = gqa.decode(q, *shared, lengths=lengths, rung=rung)
        alone = gqa.decode(q, *(np.repeat(x, 12 // G, axis=1) for x in shared), lengths=lengths, rung=rung)
        np.testing.assert_allclose(grouped, alone, rtol=0, atol=2e-6)


@over("rung", HERE)
def test_decode_is_the_last_row_of_causal_attention(rung):
    q, k, v = prompt((2, 6, 2, 9, 41, 16, True))
    o = gqa.attention(q, k, v, causal=True)
    for t in (0, 4, 8):  # query t sees 33 + t keys
        seen = np.full(2, 41 - 8 + t)
        one = gqa.decode(np.ascontiguousarray(q[:, :, t]), k, v, lengths=seen, rung=rung)
        np.testing.assert_allclose(one, o[:, :, t], rtol=0, atol=2e-6)


@over("rung", HERE)
def test_a_nan_comes_out_where_it_went_in(rung):
    q, k, v, lengths = made((2, 4, 2, 40, 8, None))
    q[0, 3, 2], v[1, 0, 10, 5] = np.nan, np.nan
    with np.errstate(invalid="ignore"):
        o = gqa.decode(q, k, v, rung=rung)
    assert np.isnan(o[0, 3]).all()
    assert np.isfinite(o[0, :3]).all()
    assert np.isnan(o[1, :2, 5]).all()
    assert np.isfinite(o[1, 2:]).all()


@over("rung", HERE)
def test_a_sequence_without_keys_gives_zero(rung):
    q, k, v, lengths = made((3, 4, 2, 6, 5, (0, 6, 0)))
    o = gqa.decode(q, k, v, lengths=lengths, rung=rung)
    assert not o[[0, 2]].any()
    assert o[1].all()


@over("case", [(0, 2, 1, 4, 5), (2, 0, 0, 4, 5), (2, 0, 3, 4, 5), (1, 2, 1, 0, 5), (1, 2, 1, 4, 0), (0, 0, 0, 0, 0)],
      ids=str)
@over("rung", [None, *HERE])
def test_an_empty_axis_gives_an_empty_result(rung, case):
    q, k, v, _ = made((*case, None))
    o = gqa.decode(q, k, v, rung=rung)
    assert o.shape == q.shape
    assert not o.any()
    with_rows = gqa.attention(*prompt((*case[:3], 3, *case[3:], True)), causal=True)
    assert not with_rows.any()


def test_the_default_on_numpy_arrays_is_tiled():
    q, k, v, lengths = made(CASES[1])
    np.testing.assert_array_equal(gqa.decode(q, k, v), gqa.decode(q, k, v, rung="tiled"))
    whole = np.full(2, 70, np.int32)
    np.testing.assert_array_equal(gqa.decode(q, k, v), gqa.decode(q, k, v, lengths=whole))


def arrays(*shapes, dtype="float32"):
    return [np.zeros(shape, dtype) for shape in shapes]


@over("rung", [None, *api.DECODE])
@over(("shapes", "message"), [
    (((1, 8, 64), (1, 3, 7, 64), (1, 3, 7, 64)), "k has shape (1, 3, 7, 64) = (B, G, S, D); G=3 must divide H=8"),
    (((1, 8, 64), (1, 0, 7, 64), (1, 0, 7, 64)), "G=0 must divide H=8"),
    (((1, 8, 1, 64), (1, 8, 7, 64), (1, 8, 7, 64)), "q has shape (1, 8, 1, 64), 4 axes; it must be (B, H, D)"),
    (((1, 8, 64), (2, 8, 7, 64), (2, 8, 7, 64)), "k has shape (2, 8, 7, 64) = (B, G, S, D); B=2 must equal B=1"),
    (((1, 8, 64), (1, 8, 7, 32), (1, 8, 7, 32)), "D=32 must equal D=64 of q"),
    (((1, 8, 64), (1, 8, 7, 64), (1, 8, 6, 64)), "v has shape (1, 8, 6, 64) = (B, G, S, D); S=6 must equal S=7"),
], ids=["G-divides-H", "no-group", "four-axes", "B", "D", "S"])
def test_a_wrong_shape_is_told_in_letters(rung, shapes, message):
    with pytest.raises(ShapeError, match=re.escape(message)):
        gqa.decode(*arrays(*shapes), rung=rung)


@over("lengths", [(-1, 3), (3, 8)], ids=str)
def test_a_length_out_of_range_is_named(lengths):
    q, k, v = arrays((2, 2, 4), (2, 1, 7, 4), (2, 1, 7, 4))
    b = 0 if lengths[0] < 0 else 1
    message = f"lengths[{b}] is {lengths[b]}; a sequence has 0 to S=7 keys"
    with pytest.raises(ShapeError, match=re.escape(message)):
        gqa.decode(q, k, v, lengths=np.array(lengths))


def test_lengths_of_another_kind_are_refused():
    q, k, v = arrays((2, 2, 4), (2, 1, 7, 4), (2, 1, 7, 4))
    with pytest.raises(DtypeError, match="lengths has dtype float64; it must be int32 or int64"):
        gqa.decode(q, k, v, lengths=np.array([1.0, 2.0]))
    with pytest.raises(DtypeError, match="lengths is of type list"):
        gqa.decode(q, k, v, lengths=[1, 2])
    with pytest.raises(ShapeError, match=r"lengths has shape \(3,\) = \(B,\); B=3 must equal B=2 of q"):
        gqa.decode(q, k, v, lengths=np.array([1, 2, 3]))


def test_a_wrong_dtype_is_named():
    q, k, v = arrays((1, 1, 2), (1, 1, 2, 2), (1, 1, 2, 2))
    with pytest.raises(DtypeError, match="k has dtype float16 and q has float32; q, k and v must share one dtype"):
        gqa.decode(q, k.astype("float16"), v)
    with pytest.raises(DtypeError, match="q has dtype int64; it must be float16, float32 or float64"):
        gqa.decode(*(x.astype("int64") for x in (q, k, v)))
    with pytest.raises(DtypeError, match="q has dtype float64; rung v3_warp_dot takes float16 and float32"):
        gqa.decode(*(x.astype("float64") for x in (q, k, v)), rung="v3_warp_dot")
    with pytest.raises(DtypeError, match="scale is of type str"):
        gqa.decode(q, k, v, scale="big")


def test_an_unknown_rung_lists_the_rungs():
    with pytest.raises(ValueError, match=f"there is no rung 'v9_magic' here; the rungs are {', '.join(api.DECODE)}"):
        gqa.decode(*arrays((1, 1, 2), (1, 1, 2, 2), (1, 1, 2, 2)), rung="v9_magic")


@over("rung", RAW)
def test_a_gpu_rung_on_numpy_arrays_says_so(rung):
    with pytest.raises(DeviceError, match=f"rung {rung} is CUDA C.* needs arrays on a GPU"):
        gqa.decode(*arrays((1, 1, 32), (1, 1, 2, 32), (1, 1, 2, 32)), rung=rung)


@over(("rung", "H", "D", "message"), [
    ("v1_block_per_head", 1, 1025, "D=1025 must be at most 1024 for rung v1_block_per_head; rung tiled takes more"),
    ("v2_shared_group", 64, 256, r"\(H/G\)\*D = 64\*256 queries do not fit into the 49152 bytes"),
    ("v3_warp_dot", 1, 257, "D=257 must be at most 256 for rung v3_warp_dot; rung v1_block_per_head takes more"),
])
def test_a_head_too_wide_for_a_rung_names_one_that_takes_it(rung, H, D, message):
    with pytest.raises(ShapeError, match=message):
        gqa.decode(*arrays((1, H, D), (1, 1, 2, D), (1, 1, 2, D)), rung=rung)


@over("rung", [rung for rung in HERE if rung.startswith("v")])
def test_more_sequences_than_a_grid_has_room_for_are_refused(rung):
    q, k = arrays((65_536, 1, 1), (65_536, 1, 1, 1))
    with pytest.raises(ShapeError, match="B=65536 must be at most 65535"):
        gqa.decode(q, k, k, rung=rung)


@over("dtype", ["float16", "float32", "float64"])
def test_pool_heads_means_the_heads_of_a_group(dtype):
    w = np.random.default_rng(0).standard_normal((8 * 5, 3)).astype(dtype)
    heads = w.reshape(8, 5, 3)
    for G in (1, 2, 4, 8):
        pooled = gqa.pool_heads(w, heads=8, groups=G)
        assert (pooled.shape, pooled.dtype) == ((G * 5, 3), w.dtype)
        for g in range(G):
            share = 8 // G
            expected = np.mean(heads[g * share : (g + 1) * share], axis=0, dtype=np.float64)
            eps = float(np.finfo(dtype).eps)
            np.testing.assert_allclose(pooled[g * 5 : g * 5 + 5], expected, rtol=0, atol=4 * eps)


def test_pooled_projections_give_the_mean_of_the_keys():
    rng = np.random.default_rng(1)
    w, x = rng.standard_normal((4 * 8, 6)), rng.standard_normal((10, 6))
    k = (x @ w.T).reshape(10, 4, 8)
    pooled = (x @ gqa.pool_heads(w, heads=4, groups=2).T).reshape(10, 2, 8)
    np.testing.assert_allclose(pooled, k.reshape(10, 2, 2, 8).mean(axis=2), atol=1e-14)


@over(("shape", "heads", "groups", "error", "message"), [
    ((12, 3), 4, 3, ShapeError, "groups=3 must divide heads=4"),
    ((13, 3), 4, 2, ShapeError, r"w has shape \(13, 3\); it must be \(H\*D, M\) with H = heads = 4"),
    ((12,), 4, 2, ShapeError, r"w has shape \(12,\); it must be"),
    ((12, 3), 4, 0, ShapeError, "groups is 0; it must be an integer of at least 1"),
    ((12, 3), 2.0, 1, ShapeError, "heads is 2.0; it must be an integer of at least 1"),
])
def test_what_cannot_be_pooled_is_refused(shape, heads, groups, error, message):
    with pytest.raises(error, match=message):
        gqa.pool_heads(np.zeros(shape), heads=heads, groups=groups)


def test_pool_heads_refuses_integers():
    with pytest.raises(DtypeError, match="w has dtype int64"):
        gqa.pool_heads(np.zeros((4, 2), np.int64), heads=2, groups=1)


def test_the_readme_examples_run(root):
    readme = (root / "minikernels/gqa/README.md").read_text("utf-8")
    names = {}
    for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        exec(compile(code, "minikernels/gqa/README.md", "exec"), names)
    np.testing.assert_allclose(names["same"], names["o"], rtol=0, atol=2e-6)
    assert names["fewer"].shape == (2 * 32, 64)
    assert names["stream"].makespan < names["fixed"].makespan
