"""Every item of the kernel language does in lockstep what Python does thread by thread."""

import math
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from minikernels import simt
from minikernels.launch import cuda, float32, float64, int32, int64
from tests.simt_bank import programs, python_threads

ROWS, COLUMNS = 5, 7
TABLE = np.array([3, 1, 4, 1, 5, 9, 2, 6])
SIZES = (4, 2)
WIDE = True


@cuda.jit(device=True)
def clamp(v, low, high):
    if v < low:
        return low
    if v > high:
        return high
    return v


@cuda.jit(device=True)
def sum_and_last(row, n):
    total = 0
    last = -1
    for j in range(n):
        if row[j] < 0:
            return total, last
        total += row[j]
        last = j
    return total, last


def arithmetic(x, out):
    i = cuda.grid(1)
    v = x[i]
    out[i, 0] = v + 3 - i * 2
    out[i, 1] = v // 3 + v % 3 + v // -4 + v % -4
    out[i, 2] = (v << 2) | (v >> 1) ^ (v & 5)
    out[i, 3] = -v + ~v + +v
    out[i, 4] = abs(v) ** 2 + pow(2, i % 5)
    q, r = divmod(v, 7)
    out[i, 5] = q * 100 + r


def comparisons(x, out):
    i = cuda.grid(1)
    v = x[i]
    out[i, 0] = v < 2
    out[i, 1] = -3 <= v < i < 30
    out[i, 2] = v == 4 or v != 4 and i > 3
    out[i, 3] = not (v > 1 and v < 9)
    out[i, 4] = v and i
    out[i, 5] = v or 17


def guarded(x, out):
    i = cuda.grid(1)
    n = x.shape[0]
    if i + 1 < n and x[i + 1] > 0:
        out[i, 0] = 1
    if i == 0 or x[i - 1] < 0:
        out[i, 1] = 1
    out[i, 2] = x[i + 1] if i + 1 < n else -5
    j = i
    while j < n and x[j] != 3:
        j += 1
    out[i, 3] = j


def branches(x, out):
    i = cuda.grid(1)
    v = x[i]
    if v < -5:
        k = 1
    elif v < 0:
        k = 2
        if i % 2 == 0:
            k = 22
    elif v == 3:
        k = 3
    else:
        k = 4
        v = 0
    out[i, 0] = k
    out[i, 1] = v


def loops(x, out):
    i = cuda.grid(1)
    for j in range(i):
        out[i, 0] += j
    for j in range(i % 3, 12, 1 + i % 4):
        out[i, 1] += j * j
    for j in range(x[i], -6, -2):
        out[i, 2] += j
    for j in range(9, i, -1 - i % 2):
        if j % 3 == 0:
            continue
        if j == 4 + i % 3:
            break
        out[i, 3] += j
    steps = 0
    v = abs(x[i]) + 1
    while v != 1:
        v = v // 2 if v % 2 == 0 else 3 * v + 1
        steps += 1
    out[i, 4] = steps
    for _ in range(0):
        out[i, 5] = 1


def last_value_of_the_loop_variable(x, out):
    i = cuda.grid(1)
    j = -1
    for j in range(i % 6):
        if j == 3:
            break
    out[i, 0] = j
    k = 0
    while True:
        k += 1
        if k * k > abs(x[i]):
            break
    out[i, 1] = k


def early_returns(x, out):
    i = cuda.grid(1)
    if i >= x.shape[0]:
        return
    for j in range(6):
        out[i, 0] = j
        for k in range(j + 1):
            if j * k == abs(x[i]):
                out[i, 1] = 100 + k
                return
            if k > i % 5:
                break
        while j > 4:
            return
    out[i, 2] = 1


def device_functions(x, out):
    i = cuda.grid(1)
    out[i, 0] = clamp(x[i], -2, 4)
    if i % 3 > 0:
        out[i, 1] = clamp(clamp(i, 3, 9) * x[i], -20, 20)
        total, last = sum_and_last(x, i % 6)
        out[i, 2] = total
        out[i, 3] = last


def tuples(x, out):
    i = cuda.grid(1)
    a, b = x[i], i
    a, b = b, a + 1
    if i % 2 == 1:
        a, b = b, a
    pair = (a, b * 2)
    c = d = pair[1]
    (e, g), h = (c, d + 1), pair[0]
    out[i, 0], out[i, 1] = e, g
    out[i, 2] = h + SIZES[0] * SIZES[1]
    n, m = out.shape
    out[i, 3] = n * m + len(x) + x.size + out.ndim


def augmented(x, out):
    i = cuda.grid(1)
    v = x[i]
    v += 2
    v -= i
    v *= 3
    v //= 2
    v %= 11
    v <<= 1
    v >>= 2
    v |= 4
    v ^= 3
    v &= 13
    out[i, 0] = v
    out[i, 1] += v
    out[i, 1] *= 2
    out[i, 1 + v % 2] -= 5


def closures_and_globals(x, out):
    i = cuda.grid(1)
    out[i, 0] = TABLE[i % 8] + SIZES[1]
    if WIDE:
        out[i, 1] = ROWS * COLUMNS
    else:
        out[i, 1] = undefined_name  # noqa: F821 - a constant branch that is not taken is not compiled
    out[i, 2] = -ROWS if not WIDE else ROWS - 2 * COLUMNS


def variables_change_type(x, out):
    i = cuda.grid(1)
    v = x[i]
    out[i, 0] = v
    v = v * 0.5
    out[i, 1] = int(v * 4)
    v = v > 1
    out[i, 2] = v
    v = x
    out[i, 3] = v[i // 2]


def local_arrays(x, out):
    i = cuda.grid(1)
    a = cuda.local.array(6, int64)
    b = cuda.local.array((2, 3), int64)
    for j in range(6):
        a[j] = x[i] + j
        b[j // 3, j % 3] = j * i
    a[i % 6] = 1000
    b[i % 2, i % 3] += 5
    for j in range(i % 7):
        out[i, 0] += a[j]
    row = b[i % 2]
    out[i, 1] = row[0] * 100 + row[1] * 10 + row[2] + a[abs(x[i]) % 6]


CASES = [arithmetic, comparisons, guarded, branches, loops, last_value_of_the_loop_variable, early_returns,
         device_functions, tuples, augmented, closures_and_globals, variables_change_type, local_arrays]


@pytest.mark.parametrize("kernel", CASES, ids=lambda k: k.__name__)
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 20)], ids=["one", "ragged-warp", "blocks"])
def test_language_item_equals_python_thread_by_thread(kernel, shape):
    n = shape[0] * shape[1]
    x = np.random.default_rng(n).integers(-12, 13, n)
    mine, wanted = np.zeros((2, n, 6), np.int64)
    python_threads.run(kernel, *shape, x, wanted)
    launch = simt.run(kernel, *shape, x, mine)
    assert np.array_equal(mine, wanted)
    assert [f for f in launch.findings if f.kind != "float64"] == []


@settings(max_examples=40, deadline=None, derandomize=True, database=None,
          suppress_health_check=list(HealthCheck))
@given(text=programs.kernels())
def test_random_control_flow_equals_python_thread_by_thread(text):
    x = np.random.default_rng(3).integers(-50, 50, 70)
    mine, wanted = np.zeros((2, 70, 3), np.int64)
    python_threads.run_source(text, "k", 2, 40, x, 5, wanted)
    launch = simt.run_source(text, "k", 2, 40, x, 5, mine)
    assert np.array_equal(mine, wanted)
    assert launch.findings == []


def places(out):
    tx, ty, tz = cuda.threadIdx.x, cuda.threadIdx.y, cuda.threadIdx.z
    x, y, z = cuda.grid(3)
    w, h, d = cuda.gridsize(3)
    code = ((tz * 16 + ty) * 16 + tx) * 1000 + cuda.blockIdx.x + 10 * cuda.blockIdx.y + 100 * cuda.blockIdx.z
    out[z, y, x] = code + w * h * d + cuda.blockDim.y + cuda.gridDim.z


@pytest.mark.parametrize(
    ("grid", "block"), [(3, 37), ((2, 3), (5, 4)), ((2, 1, 3), (3, 4, 5)), ((1, 2, 2), (33, 1, 2))],
    ids=["1-D", "2-D", "3-D", "axes-of-one"])
def test_grids_and_blocks_of_every_dimension(grid, block):
    extent = [a * b for a, b in zip(python_threads.three(grid), python_threads.three(block))]
    mine, wanted = np.zeros((2, *reversed(extent)), np.int64)
    python_threads.run(places, grid, block, wanted)
    assert simt.run(places, grid, block, mine).findings == []
    assert np.array_equal(mine, wanted)


def four_axes(x, out):
    i, j = cuda.grid(2)
    a, b, c, d = x.shape
    if i < d and j < c:
        for p in range(a):
            plane = x[p]
            for q in range(b):
                row = x[p, q, j]
                out[p, q, j, i] = x[p, q, j, i] * 2 + row[i] + plane[q, j, i] + x[p][q][j][i]


ARRAYS = {
    "c-order": lambda: np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5),
    "fortran": lambda: np.asfortranarray(np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)),
    "strided": lambda: np.arange(2 * 6 * 4 * 10.0).reshape(2, 6, 4, 10)[:, ::2, :, 1::2],
    "reversed": lambda: np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)[:, ::-1, :, ::-1],
    "transposed": lambda: np.arange(2 * 3 * 4 * 5.0).reshape(5, 2, 4, 3).transpose(1, 3, 2, 0),
    "broadcast": lambda: np.broadcast_to(np.arange(5.0), (2, 3, 4, 5)),
}


@pytest.mark.parametrize("layout", ARRAYS)
def test_four_axes_of_every_layout(layout):
    x = ARRAYS[layout]()
    for out in (np.zeros(x.shape), np.zeros(x.shape, order="F"), np.zeros((2, 3, 4, 10))[..., ::-2]):
        assert simt.run(four_axes, 2, (4, 4), x, out).findings == []
        assert np.array_equal(out, x * 5)


def slices(x, out):
    i = cuda.grid(1)
    part = x[i : i + 4, 1:]
    column = x[:, i % 3]
    tail = x[-2:]
    every = x[i][::2]
    out[i, 0] = part.shape[0] * 10 + part.shape[1]
    for r in range(part.shape[0]):
        out[i, 1] += part[r, r % 2]
    out[i, 2] = column[column.shape[0] - 1] + len(tail) + tail[0, 0]
    for r in range(every.size):
        out[i, 3] += every[r]
    inner = x[1:][1:-1]
    out[i, 4] = inner[i % inner.shape[0], 0]
    row = out[i]
    row[5] = 7
    row[5] += 1


def test_slices_and_row_views():
    x = np.arange(30).reshape(10, 3)
    mine, wanted = np.zeros((2, 10, 6), np.int64)
    python_threads.run(slices, 1, 10, x, wanted)
    assert simt.run(slices, 1, 10, x, mine).findings == []
    assert np.array_equal(mine, wanted)


def fills(x, out):
    i = cuda.grid(1)
    acc = cuda.local.array((2, 3), float32)
    acc[:] = float32(1)
    acc[1] = float32(2)
    acc[:, 2] = float32(i)
    out[i, :3] = acc[0]
    out[i, 3:] = acc[1]
    if i % 2:
        out[i] = x[i]


def test_slices_are_assigned_a_number_or_a_slice():
    x = np.arange(60, dtype=np.float32).reshape(10, 6)
    mine, wanted = np.zeros((2, 10, 6), np.float32)
    python_threads.run(fills, 1, 10, x, wanted)
    launch = simt.run(fills, 1, 10, x, mine)
    assert launch.findings == []
    assert np.array_equal(mine, wanted)
    assert launch.traffic.store_requests == 12  # one instruction an element, as in the loop that it stands for


def floats(x, out):
    i = cuda.grid(1)
    v = x[i]
    out[i, 0] = math.exp(v) + math.sqrt(abs(v)) + math.log(abs(v) + 1.0)
    out[i, 1] = math.sin(v) * math.cos(v) + math.tanh(v) + math.atan2(v, 2.0) + math.hypot(v, 3.0)
    out[i, 2] = math.floor(v) + math.ceil(v) * 10.0 + math.trunc(v) * 100.0 + math.fabs(v)
    out[i, 3] = math.fmod(v, 0.7) + math.copysign(2.0, v) + math.pow(abs(v), 1.5) + math.erf(v)
    out[i, 4] = round(v) + round(v, 1) + int(v) + float(i) + math.ldexp(v, 3)
    out[i, 5] = math.isnan(v / 1.0) + math.isinf(v) + math.pi + v % 0.75 + v // 0.75 + bool(i)


def test_math_on_float64_equals_python():
    x = np.linspace(-4.3, 4.1, 64)
    mine, wanted = np.zeros((2, 64, 6))
    python_threads.run(floats, 2, 32, x, wanted)
    assert simt.run(floats, 2, 32, x, mine).findings == []
    np.testing.assert_allclose(mine, wanted, rtol=3e-15, atol=1e-15)


def late_and_masked(x, out):
    i = cuda.grid(1)
    if x[i] > 0:
        kept = x[i] * 2
        seen = True
    else:
        seen = False
    if seen:
        out[i, 0] = kept
    found = -1
    for j in range(6):
        if x[(i + j) % x.shape[0]] == 0:
            found = j
            where = (i + j) % x.shape[0]
            break
    if found >= 0:
        out[i, 1] = where


def test_variables_assigned_under_masks_are_read_where_they_were_assigned():
    x = np.random.default_rng(5).integers(-3, 4, 45)
    mine, wanted = np.zeros((2, 45, 6), np.int64)
    python_threads.run(late_and_masked, 1, 45, x, wanted)
    assert simt.run(late_and_masked, 1, 45, x, mine).findings == []
    assert np.array_equal(mine, wanted)


def names_that_python_has_too(slice, min_, out):
    UNDEFINED = slice[cuda.grid(1)]
    ForLoop = UNDEFINED + min_
    part = out[1:]
    part[cuda.grid(1)] = ForLoop


def test_names_of_the_machine_are_free_for_kernels():
    x, out = np.arange(4), np.zeros(5, np.int64)
    simt.run(names_that_python_has_too, 1, 4, x, 3, out)
    assert out.tolist() == [0, 3, 4, 5, 6]


def test_closure_constants_specialise_a_kernel():
    def made(scale, n):
        def kernel(out):
            i = cuda.grid(1)
            a = cuda.local.array(n, int64)
            for j in range(n):
                a[j] = j * scale
            out[i] = a[n - 1]
        return kernel

    out = np.zeros(3, np.int64)
    for scale, n in ((2, 3), (5, 9)):
        simt.run(made(scale, n), 1, 3, out)
        assert (out == (n - 1) * scale).all()


def test_long_chains_of_branches_and_returns_run():
    lines = [f"    if v == {k}:\n        return {k * k % 7}" for k in range(150)]
    kernel = "def k(out):\n    i = cuda.grid(1)\n    out[i] = f(i)\n"
    text = "def f(v):\n" + "\n".join(lines) + "\n    return -1\n\n" + kernel
    out = np.zeros(160, np.int64)
    simt.run_source(text, "k", 5, 32, out)
    assert out.tolist() == [k * k % 7 if k < 150 else -1 for k in range(160)]


SIMULATED = '''
import sys
import numpy as np
from numba import cuda, float32, int32
from minikernels import simt

N, M = 16, 4

def reverse(x, out):
    s = cuda.shared.array(N, float32)
    i = cuda.threadIdx.x
    s[i] = x[cuda.grid(1)]
    cuda.syncthreads()
    out[cuda.grid(1)] = s[N - 1 - i] * float32(3) + float32(cuda.blockIdx.x)

def block_sum(x, out):
    s = cuda.shared.array(N, float32)
    i = cuda.threadIdx.x
    s[i] = x[cuda.grid(1)]
    cuda.syncthreads()
    k = N // 2
    while k > 0:
        if i < k:
            s[i] += s[i + k]
        cuda.syncthreads()
        k //= 2
    if i == 0:
        out[cuda.blockIdx.x] = s[0]

def product(a, b, out):
    a_s = cuda.shared.array((M, M), float32)
    b_s = cuda.shared.array((M, M), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    x, y = cuda.grid(2)
    acc = float32(0)
    for t in range((a.shape[1] + M - 1) // M):
        a_s[ty, tx] = float32(0)
        b_s[ty, tx] = float32(0)
        if y < a.shape[0] and tx + t * M < a.shape[1]:
            a_s[ty, tx] = a[y, tx + t * M]
        if x < b.shape[1] and ty + t * M < b.shape[0]:
            b_s[ty, tx] = b[ty + t * M, x]
        cuda.syncthreads()
        for k in range(M):
            acc += a_s[ty, k] * b_s[k, tx]
        cuda.syncthreads()
    if y < out.shape[0] and x < out.shape[1]:
        out[y, x] = acc

def counted(x, out):
    i = cuda.grid(1)
    n = cuda.syncthreads_count(x[i] > float32(0))
    out[i] = n * 4 + cuda.syncthreads_or(x[i] > float32(2)) * 2 + cuda.syncthreads_and(x[i] > float32(-9))

def scan(x, out):
    s = cuda.shared.array((2, N), float32)
    i = cuda.threadIdx.x
    s[0, i] = x[cuda.grid(1)]
    cuda.syncthreads()
    k, at = 1, 0
    while k < N:
        v = s[at, i]
        if i >= k:
            v += s[at, i - k]
        s[1 - at, i] = v
        cuda.syncthreads()
        at = 1 - at
        k *= 2
    out[cuda.grid(1)] = s[at, i]

def histogram(x, out):
    s = cuda.shared.array(M, int32)
    i = cuda.threadIdx.x
    if i < M:
        s[i] = 0
    cuda.syncthreads()
    cuda.atomic.add(s, int(x[cuda.grid(1)]) % M, 1)
    cuda.syncthreads()
    if i < M:
        cuda.atomic.add(out, i, s[i])

rng = np.random.default_rng(0)
x = rng.standard_normal(3 * N).astype("f4")
a, b = (rng.standard_normal(shape).astype("f4") for shape in ((7, 6), (6, 5)))
cases = [(reverse, 3, N, (x,), np.zeros(3 * N, "f4")), (block_sum, 3, N, (x,), np.zeros(3, "f4")),
         (product, (2, 2), (M, M), (a, b), np.zeros((7, 5), "f4")),
         (counted, 3, N, (x,), np.zeros(3 * N, "i4")), (scan, 3, N, (x,), np.zeros(3 * N, "f4")),
         (histogram, 3, N, (np.abs(x) * 10,), np.zeros(M, "i4"))]
for kernel, grid, block, arguments, out in cases:
    simulated = out.copy()
    cuda.jit(kernel)[grid, block](*arguments, simulated)
    launch = simt.run(kernel, grid, block, *arguments, out)
    assert launch.findings == [], (kernel.__name__, launch.findings)
    assert out.tobytes() == simulated.tobytes(), (kernel.__name__, out, simulated)
print("same", len(cases))
'''


def test_shared_memory_kernels_equal_the_numba_simulator_bit_for_bit(tmp_path, root):
    file = tmp_path / "simulated.py"
    file.write_text(textwrap.dedent(SIMULATED), "utf-8")
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["same", "6"]


def casts(x, out):
    i = cuda.grid(1)
    out[i, 0] = int32(x[i])
    out[i, 1] = float64(float32(x[i]) * float32(0.1))
    out[i, 2] = int64(x[i] * 1e3)


def test_casts_round_and_truncate_like_numpy():
    x = np.array([0.1, -2.9, 1e6 + 0.7, -0.0, 77.5])
    mine, wanted = np.zeros((2, 5, 3))
    python_threads.run(casts, 1, 5, x, wanted)
    simt.run(casts, 1, 5, x, mine)
    assert np.array_equal(mine, wanted)
