"""Right kernels of every common pattern: the machine raises no alarm, and the result is NumPy's."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minikernels.launch import cuda, float32, int32, uint32

N, TILE, PADDED, BINS = 128, 16, 17, 16
FULL = 0xFFFFFFFF
WEIGHTS = np.array([0.25, 0.5, 0.25], np.float32)


@dataclass(frozen=True)
class Right:
    """A launch, and the NumPy function of its arguments that gives argument number ``result``."""

    kernel: Callable
    grid: object
    block: object
    arguments: Callable
    wanted: Callable
    result: int = -1
    shared_bytes: int = 0

    @property
    def name(self):
        """The kernel's name."""
        return getattr(self.kernel, "py_func", self.kernel).__name__


RIGHT = []


def right(grid, block, arguments, wanted, result=-1, shared_bytes=0):
    """Register the decorated kernel."""
    def register(kernel):
        RIGHT.append(Right(kernel, grid, block, arguments, wanted, result, shared_bytes))
        return kernel
    return register


def noise(*shape, dtype="float32"):
    """Return reproducible values."""
    return np.random.default_rng(sum(shape)).uniform(0.1, 2, shape).astype(dtype)


def digits(n, top, dtype="int32"):
    """Return reproducible integers in [0, top)."""
    return np.random.default_rng(n).integers(0, top, n).astype(dtype)


def zeros(*shape, dtype="float32"):
    """Return an output."""
    return np.zeros(shape, dtype)


def one(n=N, m=None):
    """Return a maker of (x of n, out of m)."""
    return lambda: (noise(n), zeros(m or n))


def sums(x, *_):
    """Return the sum of each block's N elements."""
    return x.reshape(-1, N).sum(1)


@cuda.jit(device=True)
def warp_sum(v):
    k = 16
    while k > 0:
        v += cuda.shfl_down_sync(FULL, v, k)
        k //= 2
    return v


@cuda.jit(device=True)
def cell(grid, y, x):
    if y < 0 or x < 0 or y >= grid.shape[0] or x >= grid.shape[1]:
        return int32(0)
    return grid[y, x]


@right(3, N, one(3 * N, 3), sums)
def reduction_in_shared_memory(x, out):
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


@right(3, N, one(3 * N, 3), sums)
def reduction_by_shuffle(x, out):
    s = cuda.shared.array(4, float32)
    i = cuda.threadIdx.x
    v = warp_sum(x[cuda.grid(1)])
    if i % 32 == 0:
        s[i // 32] = v
    cuda.syncthreads()
    if i < 32:
        w = s[i] if i < 4 else float32(0)
        w = warp_sum(w)
        if i == 0:
            out[cuda.blockIdx.x] = w


@right(3, N, one(3 * N, 3), sums)
def reduction_with_a_warp_synchronous_tail(x, out):
    s = cuda.shared.array(N, float32)
    i = cuda.threadIdx.x
    s[i] = x[cuda.grid(1)]
    cuda.syncthreads()
    if i < 64:
        s[i] += s[i + 64]
    cuda.syncthreads()
    if i < 32:
        v = s[i] + s[i + 32]
        k = 16
        while k > 0:
            cuda.syncwarp()
            s[i] = v
            cuda.syncwarp()
            if i < k:
                v += s[i + k]
            k //= 2
        if i == 0:
            out[cuda.blockIdx.x] = v


@right(3, N, lambda: (noise(3 * N), zeros(3), zeros(1, dtype="int32"), zeros(1)), lambda x, *_: x.sum())
def last_block_adds_the_parts_up(x, part, ticket, out):
    s = cuda.shared.array(N, float32)
    last = cuda.shared.array(1, int32)
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
        part[cuda.blockIdx.x] = s[0]
        cuda.threadfence()
        last[0] = cuda.atomic.add(ticket, 0, 1)
    cuda.syncthreads()
    if last[0] == cuda.gridDim.x - 1 and i == 0:
        total = float32(0)
        for b in range(cuda.gridDim.x):
            total += part[b]
        out[0] = total


def last_to_come(grid, block):
    """Return arguments and the answer of a sum whose last block adds up what all threads left."""
    return lambda: (noise(grid * block), zeros(grid * block), zeros(1, dtype="int32"), zeros(block))


@cuda.jit(device=True)
def column_sum(part, i):
    total = float32(0)
    for b in range(cuda.gridDim.x):
        total += part[b * cuda.blockDim.x + i]
    return total


def columns(x, *_):
    return x.reshape(3, N).sum(0)


@right(3, N, last_to_come(3, N), columns)
def one_thread_fences_behind_a_barrier(x, part, ticket, out):
    last = cuda.shared.array(1, int32)
    i = cuda.threadIdx.x
    part[cuda.grid(1)] = x[cuda.grid(1)]
    cuda.syncthreads()
    if i == 0:
        cuda.threadfence()
        last[0] = cuda.atomic.add(ticket, 0, 1)
    cuda.syncthreads()
    if last[0] == cuda.gridDim.x - 1:
        out[i] = column_sum(part, i)


@right(3, N, last_to_come(3, N), columns)
def every_thread_fences_before_a_barrier(x, part, ticket, out):
    last = cuda.shared.array(1, int32)
    i = cuda.threadIdx.x
    part[cuda.grid(1)] = x[cuda.grid(1)]
    cuda.threadfence()
    cuda.syncthreads()
    if i == 0:
        last[0] = cuda.atomic.add(ticket, 0, 1)
    cuda.syncthreads()
    if last[0] == cuda.gridDim.x - 1:
        out[i] = column_sum(part, i)


@right(2, 16, lambda: (noise(32), noise(4), zeros(2), zeros(4)), lambda x, y, *_: x.reshape(2, 16).sum(1), result=2)
def tree_over_half_a_warp_beside_a_nan(x, y, out, other):
    i = cuda.threadIdx.x
    v = x[cuda.grid(1)]
    k = 8
    while k > 0:
        v += cuda.shfl_down_sync(FULL, v, k)
        k //= 2
    if i == 0:
        out[cuda.blockIdx.x] = v
        other[cuda.blockIdx.x] = y[i] * float32(math.nan)


@right(3, N, one(3 * N, 1), lambda x, out: x.sum())
def reduction_by_atomics(x, out):
    v = warp_sum(x[cuda.grid(1)])
    if cuda.laneid == 0:
        cuda.atomic.add(out, 0, v)


@right((3, 2), (TILE, TILE), lambda: (noise(32, 48), zeros(48, 32)), lambda x, out: x.T)
def transpose_naive(x, out):
    i, j = cuda.grid(2)
    out[i, j] = x[j, i]


@right((3, 2), (TILE, TILE), lambda: (noise(30, 41), zeros(41, 30)), lambda x, out: x.T)
def transpose_padded_and_ragged(x, out):
    s = cuda.shared.array((TILE, PADDED), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    i, j = cuda.grid(2)
    if j < x.shape[0] and i < x.shape[1]:
        s[ty, tx] = x[j, i]
    cuda.syncthreads()
    i = cuda.blockIdx.y * TILE + tx
    j = cuda.blockIdx.x * TILE + ty
    if j < out.shape[0] and i < out.shape[1]:
        out[j, i] = s[tx, ty]


@right((2, 3), (TILE, TILE), lambda: (noise(37, 21), noise(21, 29), zeros(37, 29)), lambda a, b, out: a @ b)
def matrix_product_in_ragged_tiles(a, b, out):
    a_s = cuda.shared.array((TILE, TILE), float32)
    b_s = cuda.shared.array((TILE, TILE), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    x, y = cuda.grid(2)
    acc = float32(0)
    for t in range((a.shape[1] + TILE - 1) // TILE):
        k = t * TILE
        a_s[ty, tx] = a[y, k + tx] if y < a.shape[0] and k + tx < a.shape[1] else float32(0)
        b_s[ty, tx] = b[k + ty, x] if x < b.shape[1] and k + ty < b.shape[0] else float32(0)
        cuda.syncthreads()
        for d in range(TILE):
            acc += a_s[ty, d] * b_s[d, tx]
        cuda.syncthreads()
    if y < out.shape[0] and x < out.shape[1]:
        out[y, x] = acc


@right((2, 3), (TILE, TILE), lambda: (noise(37, 21), noise(21, 29), zeros(37, 29)), lambda a, b, out: a @ b)
def matrix_product_naive(a, b, out):
    i, j = cuda.grid(2)
    if j < out.shape[0] and i < out.shape[1]:
        t = float32(0)
        for k in range(a.shape[1]):
            t += a[j, k] * b[k, i]
        out[j, i] = t


@right(3, N, one(3 * N), lambda x, out: np.cumsum(x.reshape(3, N), 1))
def scan_hillis_steele(x, out):
    s = cuda.shared.array((2, N), float32)
    i = cuda.threadIdx.x
    at = 0
    s[0, i] = x[cuda.grid(1)]
    cuda.syncthreads()
    k = 1
    while k < N:
        v = s[at, i]
        if i >= k:
            v += s[at, i - k]
        at = 1 - at
        s[at, i] = v
        cuda.syncthreads()
        k *= 2
    out[cuda.grid(1)] = s[at, i]


@right(2, N // 2, one(2 * N), lambda x, out: np.cumsum(x.reshape(2, N), 1) - x.reshape(2, N))
def scan_blelloch(x, out):
    s = cuda.shared.array(N, float32)
    i = cuda.threadIdx.x
    first = cuda.blockIdx.x * N
    s[2 * i] = x[first + 2 * i]
    s[2 * i + 1] = x[first + 2 * i + 1]
    step = 1
    d = N // 2
    while d > 0:
        cuda.syncthreads()
        if i < d:
            s[step * (2 * i + 2) - 1] += s[step * (2 * i + 1) - 1]
        step *= 2
        d //= 2
    if i == 0:
        s[N - 1] = float32(0)
    d = 1
    while d < N:
        step //= 2
        cuda.syncthreads()
        if i < d:
            a, b = step * (2 * i + 1) - 1, step * (2 * i + 2) - 1
            s[a], s[b] = s[b], s[b] + s[a]
        d *= 2
    cuda.syncthreads()
    out[first + 2 * i] = s[2 * i]
    out[first + 2 * i + 1] = s[2 * i + 1]


@right(1, 32, one(32), lambda x, out: np.cumsum(x))
def scan_by_shuffle(x, out):
    i = cuda.threadIdx.x
    v = x[i]
    k = 1
    while k < 32:
        w = cuda.shfl_up_sync(FULL, v, k)
        if i >= k:
            v += w
        k *= 2
    out[i] = v


@right(4, N, lambda: (digits(1000, BINS), zeros(BINS, dtype="int32")), lambda x, out: np.bincount(x, minlength=BINS))
def histogram_in_shared_memory(x, out):
    s = cuda.shared.array(BINS, int32)
    i = cuda.threadIdx.x
    if i < BINS:
        s[i] = 0
    cuda.syncthreads()
    for j in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        cuda.atomic.add(s, x[j], 1)
    cuda.syncthreads()
    if i < BINS:
        cuda.atomic.add(out, i, s[i])


@right(8, N, lambda: (digits(1000, BINS), zeros(BINS, dtype="int32")), lambda x, out: np.bincount(x, minlength=BINS))
def histogram_by_atomics(x, out):
    i = cuda.grid(1)
    if i < x.size:
        cuda.atomic.add(out, x[i], 1)


@right(4, 50, lambda: (digits(200, 30), zeros(30, dtype="bool")), lambda x, out: np.bincount(x, minlength=30) > 0)
def flags_that_many_set_to_the_same_value(x, out):
    out[x[cuda.grid(1)]] = True


@right(3, N, one(3 * N, 3), sums)
def every_thread_of_a_block_stores_the_same_sum(x, out):
    s = cuda.shared.array(4, float32)
    i = cuda.threadIdx.x
    v = x[cuda.grid(1)]
    for k in range(5):
        v += cuda.shfl_xor_sync(FULL, v, 1 << k)
    s[i // 32] = v
    cuda.syncthreads()
    out[cuda.blockIdx.x] = s[0] + s[1] + s[2] + s[3]


@right(1, N, one(4 * N, N), lambda x, out: x.reshape(4, N)[:, ::-1].sum(0))
def double_buffer(x, out):
    s = cuda.shared.array((2, N), float32)
    i = cuda.threadIdx.x
    acc = float32(0)
    s[0, i] = x[i]
    cuda.syncthreads()
    for t in range(4):
        if t < 3:
            s[(t + 1) % 2, i] = x[(t + 1) * N + i]
        acc += s[t % 2, N - 1 - i]
        cuda.syncthreads()
    out[i] = acc


@right(2, N, one(2 * N), lambda x, out: x.reshape(-1, 32)[:, ::-1])
def warp_synchronous_with_syncwarp(x, out):
    s = cuda.shared.array(N, float32)
    i = cuda.threadIdx.x
    s[i] = x[cuda.grid(1)]
    cuda.syncwarp()
    out[cuda.grid(1)] = s[i ^ 31]
    cuda.syncwarp()
    s[i] = float32(0)


@right(1, 32, one(32), lambda x, out: x.reshape(2, 16)[:, ::-1])
def half_warps_synchronise_by_themselves(x, out):
    s = cuda.shared.array(32, float32)
    i = cuda.threadIdx.x
    s[i] = x[i]
    if i < 16:
        cuda.syncwarp(0x0000FFFF)
        out[i] = s[15 - i]
    else:
        cuda.syncwarp(0xFFFF0000)
        out[i] = s[47 - i]


@right(3, N, one(300, 300), lambda x, out: np.sqrt(x) + 1)
def early_return_without_barriers(x, out):
    i = cuda.grid(1)
    if i >= x.size:
        return
    out[i] = math.sqrt(x[i]) + float32(1)


@right(1, N, one(N, N), lambda x, out: np.r_[x[:64][::-1], np.zeros(64)])
def threads_that_returned_do_not_wait(x, out):
    s = cuda.shared.array(64, float32)
    i = cuda.threadIdx.x
    if i >= 64:
        return
    s[i] = x[i]
    cuda.syncthreads()
    out[i] = s[63 - i]


@right(4, N, one(500, 500), lambda x, out: np.zeros(500), 1)
def blocks_take_barriers_in_branches_of_their_own(x, out):
    s = cuda.shared.array(N, float32)
    i = cuda.threadIdx.x
    s[i] = float32(0)
    if cuda.blockIdx.x % 2 == 0:
        cuda.syncthreads()
        if i + cuda.blockIdx.x * N < x.size:
            out[i + cuda.blockIdx.x * N] = s[N - 1 - i]
    for _ in range(cuda.blockIdx.x):
        cuda.syncthreads()
        s[N - 1 - i] = float32(1)
        cuda.syncthreads()


@right(4, N, one(500), lambda x, out: x * 3 + 1, 0)
def element_wise_in_place(x, out):
    i = cuda.grid(1)
    if i < x.size:
        x[i] = x[i] * float32(3)
        x[i] += float32(1)


@right(2, 100, lambda: (noise(1000), noise(1000)), lambda x, y: x * 2 + y)
def saxpy_with_a_grid_stride(x, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] += x[i] * float32(2)


@right(4, 40, one(150), lambda x, out: np.r_[x[0], (x[:-2] + x[1:-1] + x[2:]) / 3, x[-1]])
def stencil_with_divergent_edges(x, out):
    i = cuda.grid(1)
    n = x.size
    if 0 < i < n - 1:
        out[i] = (x[i - 1] + x[i] + x[i + 1]) / float32(3)
    elif i < n:
        out[i] = x[i]


@right(4, N, one(4 * N), lambda x, out: np.convolve(np.pad(x, 1), WEIGHTS, "valid"))
def convolution_with_a_halo_in_shared_memory(x, out):
    s = cuda.shared.array(130, float32)
    w = cuda.const.array_like(WEIGHTS)
    i, g = cuda.threadIdx.x, cuda.grid(1)
    s[i + 1] = x[g]
    if i == 0:
        s[0] = x[g - 1] if g > 0 else float32(0)
    if i == N - 1:
        s[N + 1] = x[g + 1] if g + 1 < x.size else float32(0)
    cuda.syncthreads()
    out[g] = s[i] * w[0] + s[i + 1] * w[1] + s[i + 2] * w[2]


def heat(u, _):
    """Return u after 40 steps of diffusion with fixed ends."""
    u = u.astype(np.float64)
    for _ in range(40):
        u[1:-1] += 0.25 * (u[2:] - 2 * u[1:-1] + u[:-2])
    return u


@right(1, 100, one(100), heat)
def heat_diffusion_in_one_block(u, out):
    a = cuda.shared.array((2, 100), float32)
    i = cuda.threadIdx.x
    a[0, i] = u[i]
    for step in range(40):
        cuda.syncthreads()
        now, then = step % 2, (step + 1) % 2
        v = a[now, i]
        if 0 < i < 99:
            v += float32(0.25) * (a[now, i + 1] - float32(2) * v + a[now, i - 1])
        a[then, i] = v
    out[i] = a[0, i]


def life(grid, out):
    """Return one generation of the Game of Life, dead outside."""
    around = sum(np.pad(grid, 1)[1 + dy : 1 + dy + grid.shape[0], 1 + dx : 1 + dx + grid.shape[1]]
                 for dy in (-1, 0, 1) for dx in (-1, 0, 1)) - grid
    return (around == 3) | ((around == 2) & (grid == 1))


@right((2, 3), (TILE, TILE), lambda: (digits(29 * 40, 2).reshape(40, 29), zeros(40, 29, dtype="int32")), life)
def game_of_life(grid, out):
    x, y = cuda.grid(2)
    if y < grid.shape[0] and x < grid.shape[1]:
        around = 0
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                if dx != 0 or dy != 0:
                    around += cell(grid, y + dy, x + dx)
        out[y, x] = 1 if around == 3 or (around == 2 and grid[y, x] == 1) else 0


@right(2, 64, lambda: (noise(128, 40) - np.float32(1), zeros(1, dtype="int32")),
       lambda p, hits: (p[:, ::2] ** 2 + p[:, 1::2] ** 2 <= 1).sum())
def monte_carlo_pi_from_given_points(points, hits):
    i = cuda.grid(1)
    row = points[i]
    inside = 0
    for j in range(0, row.size, 2):
        if row[j] ** 2 + row[j + 1] ** 2 <= 1:
            inside += 1
    cuda.atomic.add(hits, 0, inside)


@right(1, 160, lambda: (np.sort(digits(150, 900)), np.sort(digits(151, 9))[:150], zeros(150, dtype="int32")),
       lambda t, user, out: np.maximum.accumulate(np.where(
           np.r_[True, (np.diff(t) > 30) | (np.diff(user) != 0)], np.arange(150), 0)))
def sessions_of_clicks(time, user, session):
    i = cuda.grid(1)
    if i >= time.size:
        return
    first = i
    while first > 0 and user[first - 1] == user[first] and time[first] - time[first - 1] <= 30:
        first -= 1
    session[i] = first


@right(2, 64, lambda: (noise(128), zeros(128)), lambda x, out: np.sort(x.reshape(2, 64), 1))
def bitonic_sort_in_a_block(x, out):
    s = cuda.shared.array(64, float32)
    i = cuda.threadIdx.x
    s[i] = x[cuda.grid(1)]
    size = 2
    while size <= 64:
        k = size // 2
        while k > 0:
            cuda.syncthreads()
            other = i ^ k
            if other > i and (s[i] > s[other]) == ((i & size) == 0):
                s[i], s[other] = s[other], s[i]
            k //= 2
        size *= 2
    cuda.syncthreads()
    out[cuda.grid(1)] = s[i]


@right(2, 64, lambda: (digits(128, 2), zeros(128, dtype="int32")), lambda x, out: np.concatenate(
    [np.r_[np.flatnonzero(b == 1), -np.ones(64, int)][:64] for b in x.reshape(2, 64)]))
def compaction_by_ballot(x, out):
    s = cuda.shared.array(2, int32)
    i = cuda.threadIdx.x
    g = cuda.grid(1)
    out[g] = -1
    keep = x[g] == 1
    bits = cuda.ballot_sync(FULL, keep)
    before = cuda.popc(bits & ((uint32(1) << uint32(i % 32)) - uint32(1)))
    if i % 32 == 0:
        s[i // 32] = cuda.popc(bits)
    cuda.syncthreads()
    if keep:
        start = s[0] if i >= 32 else 0
        out[cuda.blockIdx.x * 64 + start + before] = i


@right(2, 64, lambda: (noise(128), zeros(128)), lambda x, out: x.reshape(2, 64)[:, ::-1] + 63 - np.arange(64),
       shared_bytes=2 * 64 * 4)
def two_arrays_in_dynamic_shared_memory(x, out):
    floats = cuda.shared.array(0, float32)
    whole = cuda.shared.array(0, int32)
    a, b = floats[:64], whole[64:]
    i = cuda.threadIdx.x
    a[i] = x[cuda.grid(1)]
    b[i] = i
    cuda.syncthreads()
    out[cuda.grid(1)] = a[63 - i] + float32(b[63 - i])


@right(3, (8, 4), lambda: (noise(12, 8), zeros(12)), lambda x, out: x.max(1))
def row_maximum_that_every_lane_stores(x, out):
    s = cuda.shared.array((4, 8), float32)
    best = cuda.shared.array(4, float32)
    i, j = cuda.threadIdx.x, cuda.threadIdx.y
    r = cuda.blockIdx.x * 4 + j
    s[j, i] = x[r, i]
    cuda.syncthreads()
    m = s[j, 0]
    for k in range(1, 8):
        m = max(m, s[j, k])
    best[j] = m
    cuda.syncthreads()
    if i == 0:
        out[r] = best[j]


@right(1, N, lambda: (digits(N, 50), zeros(1, dtype="int32")), lambda x, out: x.max())
def maximum_by_compare_and_swap(x, out):
    v = x[cuda.grid(1)]
    cuda.atomic.max(out, 0, v)


@right(5, 33, lambda: (noise(100, 3), zeros(100, 3)), lambda x, out: x[:, ::-1])
def threads_own_rows_of_two_arrays(x, out):
    i = cuda.grid(1)
    if i < x.shape[0]:
        a, b = x[i], out[i]
        for j in range(3):
            b[j] = a[j]
        b[0], b[2] = b[2], b[0]


@right(4, 64, lambda: (np.zeros(300, np.float32),), lambda x: np.tile([1, 2], 150))
def halves_of_one_array_as_two_phases(x):
    i = cuda.grid(1)
    if 2 * i + 1 < x.size:
        x[2 * i] = float32(1)
        x[2 * i + 1] = float32(2)


def _views():
    whole = np.arange(200, dtype=np.float32)
    return whole[1::2], whole[::2]


@right(4, 32, _views, lambda x, out: x + 1)
def interleaved_views_of_one_array(x, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = x[i] + float32(1)


@right(2, 96, lambda: (zeros(6, dtype="int32"), zeros(192, dtype="int32")),
       lambda t, out: np.arange(192) // 32 * 32 + np.arange(192) % 32 + 1)
def one_atomic_for_a_warp(ticket, out):
    g = cuda.grid(1)
    first = 0
    if cuda.laneid == 0:
        first = cuda.atomic.add(ticket, g // 32, cuda.popc(cuda.activemask()) + 32)
    first = cuda.shfl_sync(FULL, first, 0)
    out[g] = first + g + 1


@right(4, TILE, one(4 * TILE, 4), lambda x, out: x.reshape(4, TILE).sum(1))
def shuffle_tree_of_half_a_warp(x, out):
    v = x[cuda.grid(1)]
    k = TILE // 2
    while k > 0:
        v += cuda.shfl_down_sync(FULL, v, k)
        k //= 2
    if cuda.threadIdx.x == 0:
        out[cuda.blockIdx.x] = v
