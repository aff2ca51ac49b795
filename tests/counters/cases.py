"""The kernels that were profiled on a GPU: copies, transposes, reductions, stencils, products, gathers, atomics.

Each `Case` makes its own arguments from a fixed seed, so that the GPU and the machine run the same launch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minikernels.launch import cuda, float16, float32, float64, int8, int32

TILE, PADDED, BLOCK = 32, 33, 128
BINS = 17
HALO = 18  # a 16 x 16 tile and one cell on each side


@dataclass(frozen=True)
class Case:
    """One launch."""

    name: str
    kernel: Callable
    grid: object
    block: object
    arguments: Callable


CASES = []


def case(grid, block, arguments, name=None):
    """Register the decorated kernel with its launch shape and its arguments."""

    def register(function):
        CASES.append(Case(name or function.__name__, function, grid, block, arguments))
        return function

    return register


def floats(*shape, dtype="float32"):
    """Return reproducible values in [-1, 1)."""
    values = np.random.default_rng(sum(shape)).uniform(-1, 1, shape)
    return (values * 100 if dtype.startswith("int") else values).astype(dtype)


def empty(*shape, dtype="float32"):
    """Return an output array."""
    return np.zeros(shape, dtype)


def copy(x, out):
    """One element a thread."""
    i = cuda.grid(1)
    if i < out.shape[0]:
        out[i] = x[i]


for dtype in ("float32", "float16", "float64", "int8", "int16", "int64", "uint8"):
    case(9, 128, lambda d=dtype: (floats(1100, dtype=d), empty(1100, dtype=d)), f"copy_{dtype}")(copy)
case(4, 256, lambda: (floats(1025)[1:], empty(1024)), "copy_misaligned_load")(copy)
case(4, 256, lambda: (floats(1024), empty(1029)[5:]), "copy_misaligned_store")(copy)
case(4, 256, lambda: (floats(2048)[::2], empty(1024)), "copy_strided_2")(copy)
case(4, 256, lambda: (floats(7168)[::7], empty(1024)), "copy_strided_7")(copy)
case(4, 256, lambda: (floats(32768)[::32], empty(1024)), "copy_strided_32")(copy)
case(11, 100, lambda: (floats(1100), empty(1100)), "copy_block_100")(copy)
case(1, 7, lambda: (floats(5), empty(5)), "copy_tiny")(copy)


@case((5, 3), (16, 16), lambda: (floats(40, 70), empty(40, 70)))
def copy_2d(x, out):
    """A 2-D grid on a ragged matrix, x along the columns."""
    j, i = cuda.grid(2)
    if i < out.shape[0] and j < out.shape[1]:
        out[i, j] = x[i, j]


@case((3, 5), (16, 16), lambda: (floats(40, 70), empty(40, 70)))
def copy_2d_wrong_way(x, out):
    """The same with x along the rows: every lane another row."""
    i, j = cuda.grid(2)
    if i < out.shape[0] and j < out.shape[1]:
        out[i, j] = x[i, j]


@case((2, 3, 2), (8, 4, 4), lambda: (floats(7, 10, 13), empty(7, 10, 13)))
def copy_3d(x, out):
    """A 3-D grid with 3-D blocks."""
    k, j, i = cuda.grid(3)
    if i < x.shape[0] and j < x.shape[1] and k < x.shape[2]:
        out[i, j, k] = x[i, j, k]


@case((3, 2), (32, 8), lambda: (np.asfortranarray(floats(16, 96)), empty(16, 96)))
def copy_fortran(x, out):
    """A Fortran-ordered input: addresses follow the strides."""
    j, i = cuda.grid(2)
    if i < out.shape[0] and j < out.shape[1]:
        out[i, j] = x[i, j]


@case((3, 2), (32, 32), lambda: (floats(50, 90), empty(90, 50)))
def transpose_naive(x, out):
    """Coalesced loads, strided stores."""
    j, i = cuda.grid(2)
    if i < x.shape[0] and j < x.shape[1]:
        out[j, i] = x[i, j]


@case((3, 2), (32, 32), lambda: (floats(50, 90), empty(90, 50)))
def transpose_shared(x, out):
    """Through shared memory: a whole column of the tile lies in one bank."""
    tile = cuda.shared.array((TILE, TILE), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    i, j = cuda.blockIdx.y * TILE + ty, cuda.blockIdx.x * TILE + tx
    if i < x.shape[0] and j < x.shape[1]:
        tile[ty, tx] = x[i, j]
    cuda.syncthreads()
    i, j = cuda.blockIdx.x * TILE + ty, cuda.blockIdx.y * TILE + tx
    if i < out.shape[0] and j < out.shape[1]:
        out[i, j] = tile[tx, ty]


@case((3, 2), (32, 32), lambda: (floats(50, 90), empty(90, 50)))
def transpose_padded(x, out):
    """One column of padding spreads the tile's column over all banks."""
    tile = cuda.shared.array((TILE, PADDED), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    i, j = cuda.blockIdx.y * TILE + ty, cuda.blockIdx.x * TILE + tx
    if i < x.shape[0] and j < x.shape[1]:
        tile[ty, tx] = x[i, j]
    cuda.syncthreads()
    i, j = cuda.blockIdx.x * TILE + ty, cuda.blockIdx.y * TILE + tx
    if i < out.shape[0] and j < out.shape[1]:
        out[i, j] = tile[tx, ty]


@case(5, BLOCK, lambda: (floats(600), empty(5)))
def reduce_shared(x, out):
    """Halve the active threads: they stay contiguous, without conflicts."""
    s = cuda.shared.array(BLOCK, float32)
    tid, i = cuda.threadIdx.x, cuda.grid(1)
    s[tid] = x[i] if i < x.shape[0] else float32(0)
    cuda.syncthreads()
    step = BLOCK // 2
    while step > 0:
        if tid < step:
            s[tid] += s[tid + step]
        cuda.syncthreads()
        step //= 2
    if tid == 0:
        out[cuda.blockIdx.x] = s[0]


@case(5, BLOCK, lambda: (floats(600), empty(5)))
def reduce_interleaved(x, out):
    """Double the distance: the active threads stay contiguous and their elements collide in the banks."""
    s = cuda.shared.array(BLOCK, float32)
    tid, i = cuda.threadIdx.x, cuda.grid(1)
    s[tid] = x[i] if i < x.shape[0] else float32(0)
    cuda.syncthreads()
    step = 1
    while step < BLOCK:
        at = 2 * step * tid
        if at < BLOCK:
            s[at] += s[at + step]
        cuda.syncthreads()
        step *= 2
    if tid == 0:
        out[cuda.blockIdx.x] = s[0]


@case(5, BLOCK, lambda: (floats(600), empty(5)))
def reduce_shuffle(x, out):
    """Shuffles inside a warp, shared memory between warps."""
    s = cuda.shared.array(4, float32)
    tid, i = cuda.threadIdx.x, cuda.grid(1)
    value = x[i] if i < x.shape[0] else float32(0)
    step = 16
    while step > 0:
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, step)
        step //= 2
    if tid % 32 == 0:
        s[tid // 32] = value
    cuda.syncthreads()
    if tid == 0:
        out[cuda.blockIdx.x] = s[0] + s[1] + s[2] + s[3]


@case(9, 128, lambda: (floats(1030), empty(1030)))
def stencil_edges(x, out):
    """Three-point stencil whose edge threads take another branch."""
    i = cuda.grid(1)
    n = x.shape[0]
    if i == 0 or i == n - 1:
        out[i] = float32(0)
    elif i < n:
        out[i] = x[i - 1] + x[i] + x[i + 1]


@case((3, 3), (16, 16), lambda: (floats(40, 45), empty(40, 45)))
def stencil_halo(x, out):
    """Five-point stencil on a shared tile with a halo that some threads load."""
    tile = cuda.shared.array((HALO, HALO), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    j, i = cuda.grid(2)
    rows, columns = x.shape
    inside = i < rows and j < columns
    tile[ty + 1, tx + 1] = x[i, j] if inside else float32(0)
    if ty == 0:
        tile[0, tx + 1] = x[i - 1, j] if i > 0 and j < columns else float32(0)
    if ty == 15:
        tile[17, tx + 1] = x[i + 1, j] if i + 1 < rows and j < columns else float32(0)
    if tx == 0:
        tile[ty + 1, 0] = x[i, j - 1] if j > 0 and i < rows else float32(0)
    if tx == 15:
        tile[ty + 1, 17] = x[i, j + 1] if j + 1 < columns and i < rows else float32(0)
    cuda.syncthreads()
    if inside:
        out[i, j] = tile[ty, tx + 1] + tile[ty + 2, tx + 1] + tile[ty + 1, tx] + tile[ty + 1, tx + 2]


@case((3, 3), (16, 16), lambda: (floats(37, 29), floats(29, 45), empty(37, 45)))
def matmul_naive(a, b, out):
    """One output element a thread, everything from global memory."""
    j, i = cuda.grid(2)
    if i < out.shape[0] and j < out.shape[1]:
        total = float32(0)
        for k in range(a.shape[1]):
            total += a[i, k] * b[k, j]
        out[i, j] = total


@case((2, 2), (32, 32), lambda: (floats(37, 70), floats(70, 45), empty(37, 45)))
def matmul_tiled(a, b, out):
    """Tiles in shared memory, ragged edges padded with zeros."""
    a_smem = cuda.shared.array((TILE, TILE), float32)
    b_smem = cuda.shared.array((TILE, TILE), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    j, i = cuda.grid(2)
    total = float32(0)
    for k0 in range(0, a.shape[1], TILE):
        a_smem[ty, tx] = a[i, k0 + tx] if i < a.shape[0] and k0 + tx < a.shape[1] else float32(0)
        b_smem[ty, tx] = b[k0 + ty, j] if k0 + ty < b.shape[0] and j < b.shape[1] else float32(0)
        cuda.syncthreads()
        for k in range(TILE):
            total += a_smem[ty, k] * b_smem[k, tx]
        cuda.syncthreads()
    if i < out.shape[0] and j < out.shape[1]:
        out[i, j] = total


def shuffled(n):
    """Return a fixed permutation."""
    return np.random.default_rng(n).permutation(n).astype("int32")


@case(4, 256, lambda: (floats(1000), shuffled(1000), empty(1000)))
def gather(x, at, out):
    """Loads from anywhere."""
    i = cuda.grid(1)
    if i < out.shape[0]:
        out[i] = x[at[i]]


@case(4, 256, lambda: (floats(1000), shuffled(1000), empty(1000)))
def scatter(x, at, out):
    """Stores to anywhere."""
    i = cuda.grid(1)
    if i < x.shape[0]:
        out[at[i]] = x[i]


def bins(n):
    """Return bin numbers, some of them much more frequent."""
    return np.minimum(np.random.default_rng(n).integers(0, 40, n), BINS - 1).astype("int32")


@case(4, 256, lambda: (bins(900), empty(BINS, dtype="int32")))
def histogram_global(x, counts):
    """One atomic an element on global memory."""
    i = cuda.grid(1)
    if i < x.shape[0]:
        cuda.atomic.add(counts, x[i], 1)


@case(4, 256, lambda: (bins(900), empty(BINS, dtype="int32")))
def histogram_shared(x, counts):
    """A histogram a block in shared memory, added up at the end."""
    s = cuda.shared.array(BINS, int32)
    tid, i = cuda.threadIdx.x, cuda.grid(1)
    if tid < BINS:
        s[tid] = 0
    cuda.syncthreads()
    if i < x.shape[0]:
        cuda.atomic.add(s, x[i], 1)
    cuda.syncthreads()
    if tid < BINS:
        cuda.atomic.add(counts, tid, s[tid])


@case(2, 64, lambda: (floats(100, 23), empty(100)))
def row_sums_thread(x, out):
    """A row a thread: neighbours read 92 bytes apart."""
    i = cuda.grid(1)
    if i < x.shape[0]:
        row = x[i]
        total = float32(0)
        for j in range(row.shape[0]):
            total += row[j]
        out[i] = total


@case(7, 128, lambda: (floats(25, 75), empty(25)))
def row_sums_warp(x, out):
    """A row a warp: neighbours read neighbours."""
    i = cuda.grid(1) // 32
    lane = cuda.threadIdx.x % 32
    if i < x.shape[0]:
        total = float32(0)
        for j in range(lane, x.shape[1], 32):
            total += x[i, j]
        for step in range(5):
            total += cuda.shfl_xor_sync(0xFFFFFFFF, total, 1 << step)
        if lane == 0:
            out[i] = total


@case(3, 64, lambda: (floats(1000), floats(1000), empty(1000)))
def grid_stride(x, y, out):
    """A grid-stride loop with a ragged last turn."""
    for i in range(cuda.grid(1), out.shape[0], cuda.gridsize(1)):
        out[i] = float32(2.5) * x[i] + y[i]


@case(2, 128, lambda: (floats(7), floats(8), empty(256)))
def broadcasts(x, y, out):
    """Loads that a whole warp or half a warp shares."""
    i = cuda.grid(1)
    out[i] = x[3] + y[i // 32] + x[i // 64]


@case(3, 96, lambda: (floats(288), empty(288)))
def odd_lanes(x, out):
    """Every other lane loads and stores."""
    i = cuda.grid(1)
    if i % 2 == 1:
        out[i] = x[i] + float32(1)


@case(3, 96, lambda: (floats(288), empty(288)))
def early_return(x, out):
    """Most lanes of the launch return at once."""
    i = cuda.grid(1)
    if i % 5 != 0 or i >= 200:
        return
    out[i] = x[i] * x[i]


def shared_stride(step):
    """Return a kernel that reads shared memory with a stride (1 << 5 words in all, so it wraps)."""

    def kernel(x, out):
        s = cuda.shared.array(1024, float32)
        tid = cuda.threadIdx.x
        s[tid] = x[tid]
        cuda.syncthreads()
        out[tid] = s[tid * step % 1024]

    return kernel


for step in (1, 2, 3, 4, 8, 16, 32, 33):
    case(1, 1024, lambda: (floats(1024), empty(1024)), f"shared_stride_{step}")(shared_stride(step))


def shared_typed(dtype, step):
    """Return a kernel that reads shared memory of another width with a stride."""

    def kernel(x, out):
        s = cuda.shared.array(1024, dtype)
        tid = cuda.threadIdx.x
        s[tid] = x[tid]
        cuda.syncthreads()
        out[tid] = s[tid * step % 1024]

    return kernel


for name, dtype in (("float16", float16), ("float64", float64), ("int8", int8)):
    for step in (1, 2, 4, 16):
        case(1, 1024, lambda n=name: (floats(1024, dtype=n), empty(1024, dtype=n)), f"shared_{name}_{step}")(
            shared_typed(dtype, step))


@case(3, BLOCK, lambda: (floats(350), empty(350)))
def scan_hillis_steele(x, out):
    """An inclusive scan of each block, double buffered."""
    a = cuda.shared.array((2, BLOCK), float32)
    tid, i = cuda.threadIdx.x, cuda.grid(1)
    a[0, tid] = x[i] if i < x.shape[0] else float32(0)
    cuda.syncthreads()
    here, step = 0, 1
    while step < BLOCK:
        value = a[here, tid]
        if tid >= step:
            value += a[here, tid - step]
        here = 1 - here
        a[here, tid] = value
        cuda.syncthreads()
        step *= 2
    if i < out.shape[0]:
        out[i] = a[here, tid]


@case(2, 64, lambda: (floats(100, 9), empty(100)))
def local_sort(x, out):
    """The median of nine by insertion in a private array."""
    i = cuda.grid(1)
    if i < x.shape[0]:
        values = cuda.local.array(9, float32)
        for j in range(9):
            values[j] = x[i, j]
        for j in range(1, 9):
            k = j
            while k > 0 and values[k - 1] > values[k]:
                values[k - 1], values[k] = values[k], values[k - 1]
                k -= 1
        out[i] = values[4]


@case(4, 128, lambda: (floats(500), empty(500)))
def special_functions(x, out):
    """Arithmetic that must not touch memory."""
    i = cuda.grid(1)
    if i < x.shape[0]:
        v = x[i]
        out[i] = math.exp(v) + math.sqrt(abs(v)) * math.sin(v)
