"""What ``cuda.<name>`` does on the machine, each against a NumPy or plain-Python definition."""

import math

import numpy as np
import pytest

from minikernels import simt
from minikernels.launch import cuda, float16, float32, float64, int32, int64, uint32, uint64
from minikernels.simt.names import ATOMICS, CUDA_CALLS, FP16

FULL = 0xFFFFFFFF
TABLE = np.array([[1.5, 2.5], [3.5, 4.5]], np.float32)
K = 4


def clean(kernel, grid, block, *arguments, **options):
    """Run a kernel that has no finding but float64."""
    launch = simt.run(kernel, grid, block, *arguments, **options)
    assert [f for f in launch.findings if f.kind != "float64"] == []
    return launch


def shuffles(x, out):
    i = cuda.grid(1)
    v = x[i]
    out[i, 0] = cuda.shfl_sync(FULL, v, 5)
    out[i, 1] = cuda.shfl_sync(FULL, v, (i * 7) % 40)
    out[i, 2] = cuda.shfl_up_sync(FULL, v, 3)
    out[i, 3] = cuda.shfl_down_sync(FULL, v, 3)
    out[i, 4] = cuda.shfl_xor_sync(FULL, v, 6)
    out[i, 5] = cuda.shfl_down_sync(FULL, v, 0)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
def test_shuffles_move_values_inside_a_warp(dtype):
    x, out = np.arange(96, dtype=dtype) * 3, np.zeros((96, 6), dtype)
    clean(shuffles, 1, 96, x, out)
    lane, warp = np.arange(96) % 32, np.arange(96) // 32 * 32
    sources = [np.full(96, 5), (np.arange(96) * 7) % 40 % 32, np.where(lane < 3, lane, lane - 3),
               np.where(lane > 28, lane, lane + 3), lane ^ 6, lane]
    for column, source in enumerate(sources):
        assert (out[:, column] == x[warp + source]).all(), column


def half_warp(x, out):
    i = cuda.threadIdx.x
    v = x[i]
    if i < 16:
        w = cuda.shfl_down_sync(0xFFFF, v, 8)
        out[i] = w if i < 8 else v
    else:
        out[i] = cuda.shfl_xor_sync(0xFFFF0000, v, 1)


def test_shuffles_with_a_mask_of_the_lanes_inside_a_branch():
    x, out = np.arange(32.0), np.zeros(32)
    clean(half_warp, 1, 32, x, out)
    assert out.tolist() == [8 + i if i < 8 else i for i in range(16)] + (np.arange(16, 32) ^ 1).tolist()


def small_tree(x, out):
    i = cuda.threadIdx.x
    v = x[cuda.grid(1)]
    k = 8
    while k > 0:
        v += cuda.shfl_down_sync(FULL, v, k)
        k //= 2
    if i == 0:
        out[cuda.blockIdx.x] = v
    if i == 9:
        out[2 + cuda.blockIdx.x] = v


def test_undefined_lanes_of_a_small_tree_matter_only_where_they_are_stored():
    x, out = np.arange(32.0), np.full(4, 7.0)
    launch = simt.run(small_tree, 2, 16, x, out)
    assert out[:2].tolist() == [120, 376] and np.isnan(out[2:]).all()
    assert [(f.kind, f.threads[0][1]) for f in launch.findings] == [("uninitialised", (8, 0, 0))]
    assert "does not execute it" in launch.findings[0].message


def votes(x, out):
    i = cuda.grid(1)
    p = x[i] > 0
    out[i, 0] = cuda.all_sync(FULL, p)
    out[i, 1] = cuda.any_sync(FULL, p)
    out[i, 2] = cuda.eq_sync(FULL, p)
    out[i, 3] = cuda.ballot_sync(FULL, p)
    out[i, 4] = cuda.activemask()
    out[i, 5] = cuda.match_any_sync(FULL, x[i])
    bits, same = cuda.match_all_sync(FULL, x[i])
    out[i, 6] = bits
    out[i, 7] = same


def test_votes_and_matches():
    x = np.concatenate([np.ones(32), np.zeros(32), np.arange(32) % 3 - 1, np.full(8, 2)]).astype(np.int64)
    out = np.zeros((104, 8), np.int64)
    simt.run(votes, 1, 104, x, out)
    for first in range(0, 104, 32):
        lanes = x[first : first + 32]
        p, alive = lanes > 0, (1 << len(lanes)) - 1
        bits = sum(1 << k for k in np.flatnonzero(p).tolist())
        uniform = len(set(lanes.tolist())) == 1
        for k, v in enumerate(lanes):
            match = sum(1 << j for j in np.flatnonzero(lanes == v).tolist())
            assert out[first + k].tolist() == [p.all(), p.any(), p.all() or not p.any(), signed(bits), alive,
                                               signed(match), signed(alive) if uniform else 0, uniform]


def signed(bits):
    """Return 32 bits as the int32 that numba makes of votes and matches; ``activemask`` alone is unsigned."""
    return bits - (bits >> 31 << 32)


def mask_in_a_branch(out):
    i = cuda.grid(1)
    out[i] = 0
    if i % 3 == 0:
        out[i] = cuda.activemask()


def test_activemask_names_the_lanes_of_the_branch():
    out = np.zeros(64, np.uint32)
    clean(mask_in_a_branch, 1, 64, out)
    for w in (0, 32):
        mask = sum(1 << k for k in range(32) if (w + k) % 3 == 0)
        assert [int(v) for v in out[w : w + 32]] == [mask if (w + k) % 3 == 0 else 0 for k in range(32)]


def block_votes(x, out):
    i = cuda.grid(1)
    out[i, 0] = cuda.syncthreads_count(x[i] > 4)
    out[i, 1] = cuda.syncthreads_and(x[i] >= 0)
    out[i, 2] = cuda.syncthreads_or(x[i] == 55)


def test_barriers_that_count_vote_over_the_block():
    x, out = np.arange(90) % 56, np.zeros((90, 3), np.int32)
    launch = clean(block_votes, 2, 45, x, out)
    for first in (0, 45):
        b = x[first : first + 45]
        assert (out[first : first + 45] == [(b > 4).sum(), (b >= 0).all(), (b == 55).any()]).all()
    assert launch.traffic.barriers == 6


ATOMIC = {  # name -> (the value after x was applied to old)
    "add": lambda old, x: old + x, "sub": lambda old, x: old - x, "max": max, "min": min,
    "and_": lambda old, x: old & x, "or_": lambda old, x: old | x, "xor": lambda old, x: old ^ x,
    "exch": lambda old, x: x, "nanmax": max, "nanmin": min,
    "inc": lambda old, x: 0 if old >= x else old + 1, "dec": lambda old, x: x if old == 0 or old > x else old - 1,
}


@pytest.mark.parametrize("name", ATOMIC)
@pytest.mark.parametrize("space", ["global", "shared"])
def test_atomics_serialise_the_lanes_that_meet(name, space):
    text = f"""
def k(x, where, state, found):
    s = cuda.shared.array({K}, uint32)
    i = cuda.grid(1)
    t = cuda.threadIdx.x
    if t < {K}:
        s[t] = state[t]
    cuda.syncthreads()
    found[i] = cuda.atomic.{name}({'s' if space == 'shared' else 'state'}, where[i], x[i])
    cuda.syncthreads()
    if t < {K} and {space == 'shared'}:
        state[t] = s[t]
"""
    rng = np.random.default_rng(len(name))
    x, where = rng.integers(1, 9, 50).astype(np.uint32), rng.integers(0, K, 50)
    state, found = np.array([7, 0, 3, 100], np.uint32), np.zeros(50, np.uint32)
    now = [7, 0, 3, 100]
    launch = simt.run_source(text, "k", 1, 50, x, where, state, found, strict=True)
    assert launch.findings == []
    for i in range(50):
        assert found[i] == now[where[i]] % 2**32
        now[where[i]] = ATOMIC[name](int(found[i]), int(x[i])) % 2**32
    assert state.tolist() == now
    requests = launch.traffic.atomic_requests or launch.traffic.shared_atomic_requests
    assert requests == 2


def tickets(counter, found, grid):
    i = cuda.grid(1)
    found[i] = cuda.atomic.add(counter, (0, 1), 1)
    cuda.atomic.add(grid, (i % 2, i % 3), float32(0.5))


def test_tickets_are_a_permutation_and_floats_add_up():
    counter, found, grid = np.zeros((1, 2), np.int32), np.zeros(5 * 64, np.int32), np.zeros((2, 3), np.float32)
    clean(tickets, 5, 64, counter, found, grid)
    assert sorted(found.tolist()) == list(range(320))
    assert counter.tolist() == [[0, 320]]
    assert grid.sum() == 160


def swaps(owner, lock, found):
    i = cuda.grid(1)
    found[i, 0] = cuda.atomic.compare_and_swap(lock, 0, i + 1)
    found[i, 1] = cuda.atomic.cas(owner, i % 2, -1, i)


def test_compare_and_swap_is_won_once():
    owner, lock, found = np.full(2, -1, np.int32), np.zeros(1, np.int32), np.zeros((40, 2), np.int32)
    clean(swaps, 1, 40, owner, lock, found)
    assert (found[:, 0] == 0).sum() == 1 and lock[0] == 1
    assert owner.tolist() == [0, 1] and (found[:, 1] == -1).sum() == 2


@pytest.mark.parametrize(("name", "dtype"), [("add", "int8"), ("and_", "float32"), ("inc", "int32"), ("max", "float16"),
                                             ("exch", "float32")])
def test_atomics_that_hardware_lacks_are_refused(name, dtype):
    text = f"def k(x):\n    cuda.atomic.{name}(x, 0, x[0])\n"
    with pytest.raises(simt.KernelError, match=rf"cuda.atomic.{name} takes an array of .*x is {dtype}"):
        simt.run_source(text, "k", 1, 32, np.zeros(4, dtype))


def bits(x, out):
    i = cuda.grid(1)
    out[i, 0] = cuda.popc(x[i])
    out[i, 1] = cuda.clz(x[i])
    out[i, 2] = cuda.ffs(x[i])
    out[i, 3] = cuda.brev(x[i])
    out[i, 4] = cuda.selp(x[i] == 0, 11, 12)


@pytest.mark.parametrize(("dtype", "width"), [("int32", 32), ("uint32", 32), ("int64", 64), ("uint64", 64)])
def test_bit_intrinsics(dtype, width):
    info = np.iinfo(dtype)
    x = np.array([0, 1, 2, 3, 0x80, 0x12345678, info.max, info.min], dtype)
    out = np.zeros((8, 5), dtype)
    clean(bits, 1, 8, x, out)
    for value, row in zip(x.tolist(), out.tolist()):
        text = format(value % 2**width, f"0{width}b")
        assert row[0] == text.count("1")
        assert row[1] == (text.index("1") if "1" in text else width)
        assert row[2] == (text[::-1].index("1") + 1 if "1" in text else 0)
        assert row[3] % 2**width == int(text[::-1], 2)
        assert row[4] == (11 if value == 0 else 12)


def fused(a, b, c, out):
    i = cuda.grid(1)
    out[i] = cuda.fma(a[i], b[i], c[i])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fma_rounds_once(dtype):
    eps = np.finfo(dtype).eps
    a = np.array([1 + eps, 3.0, 0.1], dtype)
    b = np.array([1 - eps, 2.0, 10.0], dtype)
    c = np.array([-1.0, 1.0, -1.0], dtype)
    out = np.zeros(3, dtype)
    launch = clean(fused, 1, 3, a, b, c, out)
    assert out[0] == -(eps**2)  # 0 if the product were rounded first
    assert out[1] == 7
    assert launch.traffic.flop == 6


def half_precision(a, b, out):
    i = cuda.grid(1)
    x, y = a[i], b[i]
    out[i, 0] = cuda.fp16.hadd(x, y)
    out[i, 1] = cuda.fp16.hsub(x, y)
    out[i, 2] = cuda.fp16.hmul(x, y)
    out[i, 3] = cuda.fp16.hdiv(x, y)
    out[i, 4] = cuda.fp16.hfma(x, y, float16(1))
    out[i, 5] = cuda.fp16.hmax(x, y) + cuda.fp16.hmin(x, y)
    out[i, 6] = cuda.fp16.habs(cuda.fp16.hneg(x)) + cuda.fp16.hfloor(y) + cuda.fp16.hceil(y)
    out[i, 7] = cuda.fp16.hsqrt(x) + cuda.fp16.hexp(y) + cuda.fp16.hlog(x)
    out[i, 8] = cuda.fp16.hgt(x, y) + 2 * cuda.fp16.heq(x, x) + 4 * cuda.fp16.hlt(x, y)


def test_half_precision_intrinsics():
    a, b = np.float16([1.5, 0.3, 7]), np.float16([0.7, -1.2, 7])
    out = np.zeros((3, 9), np.float16)
    launch = clean(half_precision, 1, 3, a, b, out)
    wanted = np.stack([a + b, a - b, a * b, a / b, (a.astype("f8") * b + 1).astype("f2"), a + b,
                       np.abs(a) + np.floor(b) + np.ceil(b), np.sqrt(a) + np.exp(b) + np.log(a),
                       (a > b) + 2.0 + 4.0 * (a < b)], 1)
    np.testing.assert_array_equal(out, wanted.astype(np.float16))
    assert launch.traffic.flop64 == launch.traffic.flop32 == 0


def memories(x, out):
    s = cuda.shared.array((2, K), dtype=float32)
    d = cuda.shared.array(shape=0, dtype=float64)
    a = cuda.local.array(shape=(K, 2), dtype=int32)
    c = cuda.const.array_like(TABLE)
    i = cuda.threadIdx.x
    for j in range(K):
        a[j, 0] = j + i
        a[j, 1] = a[j, 0] * 2
    if i < K:
        s[0, i] = x[i]
        s[1, i] = c[i // 2, i % 2]
    d[i] = float64(x[i]) * float64(a[i % K, 1])
    cuda.syncthreads()
    out[i, 0] = s[0, (i + 1) % K]
    out[i, 1] = s[1, i % K]
    out[i, 2] = d[d.size - 1 - i]
    out[i, 3] = s.shape[1] + a.ndim + c.size


def test_shared_dynamic_local_and_constant_memory():
    x, out = np.arange(40, dtype=np.float32), np.zeros((40, 4), np.float32)
    launch = clean(memories, 1, 40, x, out, shared_bytes=40 * 8)
    i = np.arange(40)
    a = (i % K + i) * 2
    assert (out == np.stack([(i + 1) % K, TABLE.reshape(-1)[i % K], (x * a)[::-1], np.full(40, K + 2 + 4)], 1)).all()
    assert set(launch.by_array) == {"x", "out", "s", "d"}  # registers and constants make no traffic
    assert launch.by_array["s"].shared_load_requests == 4


def places(out):
    i = cuda.grid(1)
    out[i, 0] = cuda.laneid + 100 * cuda.warpsize
    out[i, 1] = cuda.gridsize(1)
    out[i, 2] = cuda.threadIdx.x + cuda.blockIdx.x * cuda.blockDim.x
    out[i, 3] = cuda.lanemask_lt()


def test_lanes_warps_and_grid():
    out = np.zeros((150, 4), np.int64)
    clean(places, 3, 50, out)
    i = np.arange(150)
    lane = i % 50 % 32
    assert (out == np.stack([lane + 3200, np.full(150, 150), i, 2**lane - 1], 1)).all()


def quiet(x):
    cuda.threadfence()
    cuda.threadfence_block()
    cuda.threadfence_system()
    cuda.syncwarp()
    cuda.nanosleep(20)
    x[cuda.grid(1)] = 1


def test_fences_and_sleep_change_nothing():
    x = np.zeros(64)
    clean(quiet, 2, 32, x)
    assert (x == 1).all()


def other_math(x, out):
    i = cuda.grid(1)
    out[i, 0] = cuda.rsqrt(x[i])
    out[i, 1] = cuda.cbrt(x[i])
    whole, part = math.modf(x[i])
    out[i, 2] = whole + 10 * part
    mantissa, exponent = math.frexp(x[i])
    out[i, 3] = mantissa * 100 + exponent
    out[i, 4] = math.lgamma(x[i]) + math.gamma(x[i]) + math.erfc(x[i])
    out[i, 5] = math.log2(x[i]) + math.log1p(x[i]) + math.expm1(x[i]) + math.degrees(x[i])


def test_more_math_equals_python():
    x, out = np.linspace(0.3, 5, 20), np.zeros((20, 6))
    clean(other_math, 1, 20, x, out)
    for v, row in zip(x.tolist(), out.tolist()):
        fraction, whole = math.modf(v)
        mantissa, exponent = math.frexp(v)
        wanted = [v**-0.5, v ** (1 / 3), fraction + 10 * whole, mantissa * 100 + exponent,
                  math.lgamma(v) + math.gamma(v) + math.erfc(v),
                  math.log2(v) + math.log1p(v) + math.expm1(v) + math.degrees(v)]
        assert row == pytest.approx(wanted, rel=1e-14)


def domain(x, out):
    i = cuda.grid(1)
    if x[i] > 0:
        out[i] = math.gamma(x[i]) + math.log(x[i])


def test_lanes_that_are_switched_off_cannot_fail():
    out = np.zeros(4)
    clean(domain, 1, 4, np.array([-1.0, 0.0, 2.0, 500.0]), out)
    assert out.tolist() == [0, 0, 1 + math.log(2), math.inf]


def test_every_intrinsic_of_the_language_is_in_this_file(root):
    text = (root / "tests" / "test_simt_intrinsics.py").read_text("utf-8")
    text += (root / "tests" / "simt_bank" / "broken.py").read_text("utf-8")
    called = {n for n in CUDA_CALLS if f"cuda.{n}(" in text}
    assert set(CUDA_CALLS) - called == set()
    assert set(ATOMICS) == set(ATOMIC) | {"cas", "compare_and_swap"}
    assert {"hadd", "hfma", "hsqrt"} <= set(FP16)


def test_types_that_kernels_name_are_imported_from_launch():
    assert [str(t) for t in (float16, float32, float64, int32, int64, uint32, uint64)] == [
        "float16", "float32", "float64", "int32", "int64", "uint32", "uint64"]
