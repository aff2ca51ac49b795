"""HBM traffic of every rung of attention's forward pass, in closed form.

The forms of the kernels are exact for any sizes: those of the numba rungs equal, number for number, what the SIMT
machine counts. The forms of the NumPy rungs give the bytes of the schedule that each of them spells out, for a kernel
that keeps everything else on the chip: they fill in ``load_bytes`` and ``store_bytes`` alone.

Every function takes the sizes B, H, G, T, S and D, the ``itemsize`` of q, k, v and o in bytes and ``causal``; scores,
probabilities, running sums and lse are float32. Where an axis is empty nothing is launched and nothing moves.
"""

from functools import wraps

import numpy as np

from minikernels.core.limits import tile_rows
from minikernels.core.numerics import keys_seen
from minikernels.core.sectors import SECTOR, Access, heads, padded_tile, rows, run, scattered
from minikernels.core.traffic import Traffic

FLOAT = 4  # bytes of a float32
QUAD = {"group": 8, "width": 4}  # four lanes a row: eight rows a warp, four columns at a time


def nothing_if_empty(form):
    """Return the form, made to give no traffic where an axis is empty."""

    @wraps(form)
    def guarded(B, H, G, T, S, D, itemsize=FLOAT, causal=False, **tile):
        if 0 in (B, H, G, T, S, D):
            return Traffic()
        return form(B, H, G, T, S, D, itemsize, causal, **tile)

    return guarded


def keys_of_tiles(T, S, causal, block_t):
    """Return how many keys each tile of `block_t` queries sees: as many as the last row of it."""
    return keys_seen(T, S, causal)[np.minimum(np.arange(block_t, T + block_t, block_t), T) - 1]


def visits(seen, block_s):
    """Return into how many tiles of `block_s` keys each entry of `seen` reaches."""
    return -(-seen // block_s)


@nothing_if_empty
def reference(B, H, G, T, S, D, itemsize, causal):
    """Standard attention: S and P written to HBM and read back, ``4 T S`` numbers a head; masked cells included."""
    square = B * H * T * S * FLOAT
    once = (B * H * T * D + 2 * B * G * S * D) * itemsize
    return Traffic(load_bytes=once + 2 * square, store_bytes=2 * square + outputs(B, H, T, D, itemsize))


@nothing_if_empty
def online(B, H, G, T, S, D, itemsize, causal):
    """One row at a time: every row reads all keys and values that it sees."""
    pairs = B * H * int(keys_seen(T, S, causal).sum())
    q_bytes = B * H * T * D * itemsize
    return Traffic(load_bytes=q_bytes + 2 * pairs * D * itemsize, store_bytes=outputs(B, H, T, D, itemsize))


@nothing_if_empty
def tiled(B, H, G, T, S, D, itemsize, causal, block_t=128, block_s=128):
    """Queries outside: a tile of queries of each head reads all key tiles that it sees, q and o cross once."""
    reached = np.minimum(visits(keys_of_tiles(T, S, causal, block_t), block_s) * block_s, S)
    elements = T * D + 2 * int(reached.sum()) * D
    return Traffic(load_bytes=B * H * elements * itemsize, store_bytes=outputs(B, H, T, D, itemsize))


@nothing_if_empty
def tiled_keys_outside(B, H, G, T, S, D, itemsize, causal, block_t=128, block_s=128):
    """Keys outside: K and V cross once a head; q, and the float32 state (o, m, l) both ways, once a key tile.

    The state of a row's first key tile is known (0, -inf, 0) and is not read; after its last, o and lse are written.
    """
    steps = np.maximum(1, visits(keys_of_tiles(T, S, causal, block_t), block_s))
    sizes = np.minimum(block_t, T - np.arange(0, T, block_t))
    row_steps, state = int((steps * sizes).sum()), (D + 2) * FLOAT
    moved = (row_steps - T) * state
    loads = (row_steps * D + 2 * S * D) * itemsize + moved
    return Traffic(load_bytes=B * H * loads, store_bytes=B * H * moved + outputs(B, H, T, D, itemsize))


def outputs(B, H, T, D, itemsize):
    """Return the bytes of o and lse."""
    return B * H * T * (D * itemsize + FLOAT)


@nothing_if_empty
def v1_three_pass(B, H, G, T, S, D, itemsize, causal):
    """Scores written once and read three times, P written once and read by every warp of columns."""
    seen, t, s = keys_seen(T, S, causal), np.arange(T), np.arange(S)
    columns, share, row = -(-D // 32), H // G, D * itemsize
    warps, pairs = int(visits(seen, 32).sum()), int(seen.sum())
    queries = Access(warps * D, warps * D, pairs * row).times(B * H)  # one element for the whole warp
    counts = list(zip(*np.unique(seen, return_counts=True), strict=True))
    keys = heads(B * G, S * row, lambda first: sum(rows(first, int(n), D, itemsize).times(c) for n, c in counts))
    square = heads(B * H, T * S * FLOAT, lambda first: run(first + t * S * FLOAT, seen, FLOAT))
    lse = Access(1, 1, FLOAT).times(B * H * T)
    weights = Access(pairs * columns, pairs * columns, pairs * D * FLOAT).times(B * H)  # one element for the warp
    readers = np.sum(seen[None, :] > s[:, None], axis=1)  # queries that see key s
    values = heads(B * G, S * row, lambda first: sum(run(first + i * row, D, itemsize).times(readers[i]) for i in s))
    o = heads(B * H * T, row, lambda first: run(first, D, itemsize))
    traffic = (queries + keys.times(share) + square.times(3) + weights + values.times(share)).loads()
    traffic += (square.times(2) + lse + o).stores()
    traffic.barriers = 17 * B * H * T  # two tree sums over 128 threads, 8 each, and one between them
    return traffic


@nothing_if_empty
def v2_tiled(B, H, G, T, S, D, itemsize, causal, block_t=64):
    """``ceil(T / block_t)`` blocks a head each read K and V up to the keys they see; q and o cross once."""
    block_s = tile_rows(D)
    reached = visits(keys_of_tiles(T, S, causal, block_t), block_s)
    q = heads(B * H, T * D * itemsize, lambda first: rows(first, T, D, itemsize))  # o is written as q is read
    lse = heads(B * H, T * FLOAT, lambda first: rows(first, T, 1, FLOAT))
    traffic = (q + key_tiles(B, H, G, S, D, itemsize, reached, block_s, D)).loads() + (q + lse).stores()
    traffic.barriers = 2 * B * H * int(reached.sum())
    return traffic


def key_tiles(B, H, G, S, D, itemsize, reached, block_s, width):
    """Return the loads of K and V where the blocks of a query head read `reached` key tiles each, from the first on."""
    tile = block_s * D * itemsize

    def one_head(first):
        total = Access()
        for j in range(-(-S // block_s)):
            cost = padded_tile((first + j * tile) % SECTOR, min(block_s, S - j * block_s), D, itemsize, width)
            total += cost.times(np.sum(reached > j))
        return total

    return heads(B * G, S * D * itemsize, one_head).times(2 * H // G)


@nothing_if_empty
def v2_keys_outside(B, H, G, T, S, D, itemsize, causal, block_t=256):
    """K and V cross once a head; q, and the float32 state (o, m, l) both ways, once a key tile."""
    block_s = tile_rows(D)
    steps = np.maximum(1, visits(keys_of_tiles(T, S, causal, block_t), block_s))

    def tiles(columns, size, n):
        """Return the cost of going over a (T, columns) array of each head, n[i] times over tile i."""
        def one_head(first):
            starts = range(0, T, block_t)
            return sum(
                (rows(first + t * columns * size, min(block_t, T - t), columns, size).times(c)
                 for t, c in zip(starts, n, strict=True)), Access())
        return heads(B * H, T * columns * size, one_head)

    state = tiles(D, FLOAT, steps - 1) + tiles(1, FLOAT, steps - 1).times(2)  # o; m and l
    once = np.ones_like(steps)
    everything = np.array([-(-S // block_s)])
    loads = tiles(D, itemsize, steps) + state + key_tiles(B, H, G, S, D, itemsize, everything, block_s, D)
    traffic = loads.loads() + (state + tiles(D, itemsize, once) + tiles(1, FLOAT, once)).stores()
    traffic.barriers = 2 * B * H * int(everything[0])
    return traffic


@nothing_if_empty
def v3_split_rows(B, H, G, T, S, D, itemsize, causal):
    """As v2_tiled with 128 rows a block (64 if D > 128), so half its K and V; four lanes read neighbouring columns."""
    width = 4 * -(-D // 4)
    block_t, block_s = 128 if D <= 128 else 64, tile_rows(width)
    reached = visits(keys_of_tiles(T, S, causal, block_t), block_s)
    q = heads(B * H, T * D * itemsize, lambda first: rows(first, T, D, itemsize, **QUAD))
    lse = heads(B * H, T * FLOAT, lambda first: rows(first, T, 1, FLOAT, group=8))
    traffic = (q + key_tiles(B, H, G, S, D, itemsize, reached, block_s, width)).loads() + (q + lse).stores()
    traffic.barriers = 2 * B * H * int(reached.sum())
    return traffic


@nothing_if_empty
def v4_register_tiles(B, H, G, T, S, D, itemsize, causal, block_t=128):
    """As v2_tiled with 128 rows a block (fewer where a GPU has little shared memory), four elements a lane at a time.

    Where rows of D elements are not aligned for that (4 does not divide D), one element a lane.
    """
    chunk, columns = 1 if D % 4 else 4, 8 if D <= 64 else 16  # columns: the lanes that share a row
    reached = visits(keys_of_tiles(T, S, causal, block_t), 64)
    group = 32 // columns

    def store(first):
        if chunk == 4:
            return rows(first, T, D, itemsize, group=group, width=4 * columns)
        starts = np.arange(0, D, 4 * columns)[:, None, None] + np.arange(4)[:, None]
        places = (starts + 4 * np.arange(columns)).reshape(-1, columns)  # a request takes every fourth column
        return scattered(first, T, D, itemsize, group, places)

    q = heads(B * H, T * D * itemsize, lambda first: run(first, T * D // chunk, itemsize * chunk))
    o = heads(B * H, T * D * itemsize, store)
    lse = heads(B * H, T * FLOAT, lambda first: rows(first, T, 1, FLOAT, group=group))
    loads = q + key_tiles(B, H, G, S, D // chunk, itemsize * chunk, reached, 64, D // chunk)
    traffic = loads.loads() + (o + lse).stores()
    traffic.barriers = 2 * B * H * int(reached.sum())
    return traffic


@nothing_if_empty
def v5_mma(B, H, G, T, S, D, itemsize, causal):
    """As v4_register_tiles in float16, eight elements a lane at a time for q, k, v and o; D is a multiple of 8."""
    return by_eights(B, H, G, T, S, D, itemsize, causal, block_s=64 if D <= 64 else 32, barriers=2)


@nothing_if_empty
def v6_async(B, H, G, T, S, D, itemsize, causal):
    """As v5_mma by cp.async, 16 bytes a lane, one barrier a tile; past the last key nothing is read.

    In the tiles of compute capability 9.0; those of older GPUs have 32 keys where D > 64.
    """
    return by_eights(B, H, G, T, S, D, itemsize, causal, block_s=96 if D <= 64 else 48, barriers=1)


def by_eights(B, H, G, T, S, D, itemsize, causal, block_s, barriers):
    """Return the Traffic of v5 and v6: 128 rows against `block_s` keys, so many `barriers` a tile, and one a block."""
    reached = visits(keys_of_tiles(T, S, causal, 128), block_s)
    q = heads(B * H, T * D * itemsize, lambda first: run(first, T * D // 8, 8 * itemsize))  # o is written as q is read
    lse = heads(B * H, T * FLOAT, lambda first: rows(first, T, 1, FLOAT, group=8))
    loads = q + key_tiles(B, H, G, S, D // 8, 8 * itemsize, reached, block_s, D // 8)
    traffic = loads.loads() + (q + lse).stores()
    traffic.barriers = B * H * (barriers * int(reached.sum()) + len(reached))
    return traffic


@nothing_if_empty
def v7_wgmma(B, H, G, T, S, D, itemsize, causal):
    """Bytes alone: what the copy engine is asked for never passes the units that count requests and sectors.

    A tile of 128 query rows (192 at D=64) asks for its rows of q, and for K and V in tiles of 128 keys up to the last
    one that it sees, at least one; of a box past the end of an array only what exists is read. L2 serves what heads
    read again. If causal, every tile is taken from a counter by one atomic addition.
    """
    block_t = 192 if D == 64 else 128
    reached = np.maximum(1, visits(keys_of_tiles(T, S, causal, block_t), 128))
    keys = np.minimum(reached * 128, S)
    loads = B * H * (T + 2 * int(keys.sum())) * D * itemsize
    traffic = Traffic(load_bytes=loads, store_bytes=outputs(B, H, T, D, itemsize))
    if causal:
        traffic.atomic_requests = traffic.atomic_sectors = B * H * len(reached)
        traffic.atomic_bytes = 4 * traffic.atomic_requests
    return traffic
