"""gqa on a GPU: every rung against the float64 oracle, which one is the default, what comes back, what is refused."""

import numpy as np
import pytest

from minikernels import gqa, launch
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from minikernels.gqa import api, raw, reference
from tests.gqa_cases import CASES, PROMPTS, label, made, prompt, right

pytestmark = pytest.mark.gpu
over = pytest.mark.parametrize
NUMBA = api.DECODE.of_kind("numba")
RAW = api.DECODE.of_kind("raw")
WIDE = [  # B, H, G, S, D, lengths
    (1, 1, 1, 1, 64, None),
    (2, 8, 2, 70, 64, (70, 33)),
    (3, 12, 1, 137, 128, (0, 1, 137)),  # two blocks of heads, the last of them ragged
    (1, 32, 1, 1050, 128, None),  # H / G = 32
    (2, 6, 6, 333, 32, (332, 333)),
    (1, 6, 3, 2129, 40, (2127,)),  # rows of 80 bytes: idle lanes
    (4, 4, 1, 4097, 64, (0, 64, 4097, 31)),
    (2, 2, 1, 5, 64, (0, 0)),  # no key at all
    (1, 5, 1, 600, 96, (597,)),
    (64, 7, 1, 130, 64, tuple(2 * b for b in range(64))),
    (1, 16, 4, 1000, 128, (999,)),
]
ODD = [(1, 3, 1, 99, 8, (97,)), (1, 2, 1, 300, 256, (299,)), (1, 2, 1, 100, 16, None)]  # float16 alone takes 256
MANY = [(1, 70, 1, 600, 128, (597,)), (2, 40, 1, 333, 104, (300, 77))]  # more heads than one block of any rung holds
RUNS = [(rung, case, dtype) for rung in RAW for case in WIDE for dtype in ("float32", "float16")
        if rung not in raw.MMA or dtype == "float16"]
RUNS += [(rung, case, "float16") for rung in RAW for case in ODD + MANY if rung not in raw.MMA or case[4] <= 128]


def name(value):
    return label(value) if isinstance(value, tuple) else str(value)


def run(cp, rung, arrays, **options):
    """Return o as a NumPy array; cells that no thread wrote are NaN."""
    q, k, v, lengths = (cp.asarray(x) for x in arrays)
    return cp.asnumpy(gqa.decode(q, k, v, lengths=lengths, rung=rung, **options))


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


@over("case", PROMPTS, ids=label)
@over("dtype", ["float32", "float16"])
@over("rung", [None, "v1_head_per_block", "v2_group_per_block"])
def test_attention_is_within_the_error_budget(cp, rung, dtype, case):
    arrays, causal = prompt(case, dtype), case[-1]
    o = gqa.attention(*(cp.asarray(x) for x in arrays), causal=causal, rung=rung)
    right(reference.judge_attention(cp.asnumpy(o), *arrays, causal, case[5] ** -0.5))


@over("count", [1, 2, 5, 17, 128])
@over("lengths", [(1000, 999), (0, 1), (64, 1000)], ids=str)
def test_any_number_of_splits_is_right(cp, count, lengths):
    arrays = made((2, 8, 2, 1000, 64, lengths), "float16")
    q, k, v, n = (cp.asarray(x) for x in arrays)
    for launcher in (raw.launch_v5_split_kv, raw.launch_v7_mma_group):
        o = launcher(q, k, v, n.astype(np.int32), 0.125, count)
        right(reference.judge(cp.asnumpy(o), *arrays, 0.125))


@over("R", range(1, 41))
@over("rung", raw.MMA)
def test_any_number_of_heads_a_group_is_right(cp, rung, R):
    arrays = made((1, R, 1, 77, 32, None), "float16")
    right(reference.judge(run(cp, rung, arrays), *arrays, 32**-0.5))


@over("D", [8, 24, 32, 64, 120, 128])
@over("rung", raw.MMA)
def test_long_sequences_are_right(cp, rung, D):
    arrays = made((2, 16, 1, 20_011, D, (20_011, 9_999)), "float16")
    right(reference.judge(run(cp, rung, arrays), *arrays, D**-0.5))


@over("rung", raw.MMA)
def test_more_sequences_than_a_warp_looks_at_once(cp, rung):
    arrays = made((70, 2, 1, 200, 64, tuple((37 * b) % 201 if b % 5 else 0 for b in range(70))), "float16")
    right(reference.judge(run(cp, rung, arrays), *arrays, 0.125))


@over("blocks", [1, 2, 3, 7, 50, 1000])
@over("D", [40, 64])  # rows of 40 are padded for mma
def test_any_number_of_runs_is_right(cp, D, blocks):
    arrays = made((5, 12, 1, 700, D, (700, 0, 3, 64, 513)), "float16")
    q, k, v, n = (cp.asarray(x) for x in arrays)
    for launcher in (raw.launch_v6_stream_k, raw.launch_v8_mma_stream_k):
        o = launcher(q, k, v, n.astype(np.int32), 0.125, blocks)
        right(reference.judge(cp.asnumpy(o), *arrays, 0.125))


@over("rung", RAW)
@over("case", [(3, 8, 2, 300, 64), (70, 2, 1, 65, 64), (1, 8, 1, 5000, 128)], ids=str)
def test_no_lengths_are_those_of_whole_sequences(cp, rung, case):
    q, k, v, lengths = (cp.asarray(x) for x in made((*case, None), "float16"))
    expected = gqa.decode(q, k, v, lengths=lengths, rung=rung)
    cp.testing.assert_array_equal(gqa.decode(q, k, v, rung=rung), expected)


@over("rung", RAW)
@over("scale", [-0.3, 0.0, 2.0, 40.0])
def test_any_scale_is_right(cp, rung, scale):
    arrays = made((2, 4, 2, 300, 64, (300, 170)), "float16" if rung in raw.MMA else "float32")
    right(reference.judge(run(cp, rung, arrays, scale=scale), *arrays, scale))


@over(("rung", "dtype"), [(rung, dtype) for rung in RAW for dtype in ("float32", "float16")
                          if rung not in raw.MMA or dtype == "float16"])
def test_views_that_are_not_contiguous_or_not_aligned(cp, rung, dtype):
    q, k, v, lengths = (cp.asarray(x) for x in made((2, 6, 3, 65, 64, (65, 40)), dtype))
    expected = gqa.decode(q, k, v, lengths=lengths, rung=rung)
    swapped = [cp.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2) for x in (q, k, v)]
    odd = []
    for x in (q, k, v):
        room = cp.empty(x.size + 1, x.dtype)
        room[1:] = x.ravel()
        odd.append(room[1:].reshape(x.shape))
    for views in (swapped, odd):
        cp.testing.assert_array_equal(gqa.decode(*views, lengths=lengths, rung=rung), expected)


@over("rung", RAW)
def test_nan_stays_in_its_head(cp, rung):
    q, k, v, lengths = made((2, 8, 2, 200, 64, None), "float16")
    q[1, 5, 3] = np.nan
    o = run(cp, rung, (q, k, v, lengths))
    assert np.isnan(o[1, 5]).all()
    assert np.isfinite(np.delete(o.reshape(16, 64), 13, axis=0)).all()


@over("rung", [*NUMBA, *RAW])
def test_a_length_out_of_range_comes_out_as_nan(cp, rung):
    q, k, v, _ = made((3, 4, 2, 50, 64, None), "float16")
    o = run(cp, rung, (q, k, v, np.array([-1, 50, 51])))
    assert np.isnan(o[[0, 2]]).all()
    right(reference.judge(o[1:2], q[1:2], k[1:2], v[1:2], np.array([50]), 0.125))


@over(("dtype", "D", "rung"), [("float16", 64, "v7_mma_group"), ("float32", 64, "v5_split_kv"),
                               ("float16", 256, "v5_split_kv"), ("float16", 60, "v3_warp_dot"),
                               ("float32", 256, "v3_warp_dot"), ("float32", 300, "v1_block_per_head")])
def test_the_default_is_the_fastest_rung_that_takes_the_inputs(cp, dtype, D, rung):
    if launch.architecture() < raw.NEEDS:
        pytest.skip(f"the raw rungs need compute capability {raw.NEEDS}")
    q, k, v, lengths = (cp.asarray(x) for x in made((1, 2, 1, 70, D, None), dtype))
    assert api.fastest_on_gpu(q, k, v) == rung
    assert api.fastest_on_gpu(q, k, v, ragged=True) == rung.replace("v7_mma_group", "v8_mma_stream_k")
    cp.testing.assert_array_equal(gqa.decode(q, k, v), gqa.decode(q, k, v, lengths=lengths, rung=rung))


@over("rung", [None, *NUMBA, *RAW])
@over("case", [(1, 2, 1, 0, 8), (0, 2, 1, 4, 8), (1, 2, 1, 4, 0)], ids=str)
def test_an_empty_axis_gives_an_empty_result(cp, rung, case):
    q, k, v, _ = (cp.asarray(x) for x in made((*case, None), "float16"))
    lengths = cp.full(case[0], case[3], cp.int32)
    o = gqa.decode(q, k, v, lengths=lengths, rung=rung)
    assert isinstance(o, cp.ndarray)
    assert o.shape == q.shape
    assert not o.any()


def test_torch_tensors_come_back_as_torch_tensors(cp):
    torch = pytest.importorskip("torch", reason="PyTorch, whose tensors come through DLPack, is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    arrays = made((2, 8, 2, 90, 64, (90, 33)), "float16")
    q, k, v, lengths = (torch.from_numpy(x).cuda() for x in arrays)
    for n in (lengths, lengths.int(), None):
        o = gqa.decode(q, k, v.nan_to_num(), lengths=n)
        assert isinstance(o, torch.Tensor)
        assert o.is_cuda
        assert o.dtype == torch.float16
    o = gqa.decode(q, k, v, lengths=lengths)
    right(reference.judge(o.cpu().numpy(), *arrays, 0.125))
    w = torch.ones(32, 5, device="cuda", dtype=torch.float16)
    assert gqa.pool_heads(w, heads=4, groups=2).shape == (16, 5)


def test_mixed_homes_are_refused(cp):
    q, k, v, lengths = made((1, 2, 1, 6, 8, None))
    with pytest.raises(DeviceError, match="arrays live in different places"):
        gqa.decode(*(cp.asarray(x) for x in (q, k, v)), lengths=lengths)
    with pytest.raises(DeviceError, match="rung tiled is NumPy's and the arrays live on the GPU"):
        gqa.decode(*(cp.asarray(x) for x in (q, k, v)), rung="tiled")


def test_what_no_raw_rung_takes_is_refused_in_letters(cp):
    def attempt(D, dtype, rung="v4_wide_loads"):
        gqa.decode(*(cp.asarray(x) for x in made((1, 2, 1, 4, D, None), dtype)[:3]), rung=rung)

    with pytest.raises(ShapeError, match="D=12 must be a multiple of 8, and not 0, for float16 in rung v4_wide_loads"):
        attempt(12, "float16")
    with pytest.raises(ShapeError, match="D=132 must be at most 128: v4_wide_loads reads a row of float32"):
        attempt(132, "float32")
    with pytest.raises(ShapeError, match="D=136 must be at most 128: v8_mma_stream_k keeps the output"):
        attempt(136, "float16", "v8_mma_stream_k")
    with pytest.raises(DtypeError, match="q has dtype float32; rung v7_mma_group takes float16"):
        attempt(64, "float32", "v7_mma_group")
    with pytest.raises(DtypeError, match="q has dtype float64; rung v4_wide_loads takes"):
        attempt(64, "float64")
