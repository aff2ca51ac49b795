"""HBM traffic of the rungs of attention's backward pass, in closed form; conventions as in `traffic`."""

import numpy as np

from minikernels.core.limits import tile_rows
from minikernels.core.numerics import keys_seen
from minikernels.core.sectors import SECTOR, WARP, Access, heads, padded_tile, rows, run
from minikernels.core.traffic import Traffic
from minikernels.flash.traffic import FLOAT, QUAD, key_tiles, keys_of_tiles, nothing_if_empty, visits


@nothing_if_empty
def reference(B, H, G, T, S, D, itemsize, causal):
    """Standard attention's backward: P read for dV and for dS, dP written and read, dS written and read twice.

    P stays in HBM from the forward pass, masked cells included ([1]_, algorithm 3).

    References
    ----------
    .. [1] Dao et al., FlashAttention, arXiv:2205.14135.
    """
    square, queries, keys = B * H * T * S * FLOAT, B * H * T * D * itemsize, B * G * S * D * itemsize
    return Traffic(load_bytes=5 * square + 3 * queries + 2 * keys, store_bytes=2 * square + queries + 2 * keys)


@nothing_if_empty
def tiled(B, H, G, T, S, D, itemsize, causal, block_t=128, block_s=128):
    """``delta`` first; then q and do once a tile of keys that they see, then K and V once a tile of queries."""
    queries, keys = T * D * itemsize, S * D * itemsize
    walked = T - first_rows(T, S, causal, block_t, block_s)  # queries that each tile of keys walks
    reached = np.minimum(visits(keys_of_tiles(T, S, causal, block_t), block_s) * block_s, S)
    pass_1 = int(walked.sum()) * (2 * D * itemsize + 2 * FLOAT)
    pass_2 = 2 * queries + 2 * T * FLOAT + 2 * int(reached.sum()) * D * itemsize
    loads = B * H * (2 * queries + pass_1 + pass_2) + B * G * 2 * keys
    return Traffic(load_bytes=loads, store_bytes=B * H * (T * FLOAT + queries) + B * G * 2 * keys)


def first_rows(T, S, causal, block_t, block_s):
    """Return for each tile of keys the first row of the first tile of queries that sees any of it (or T)."""
    first = np.searchsorted(keys_seen(T, S, causal), np.arange(0, S, block_s), side="right")
    return np.minimum(first // block_t * block_t, T)


@nothing_if_empty
def v3_split_rows(B, H, G, T, S, D, itemsize, causal):
    """Three kernels: delta; dk and dv by tiles of 64 keys (32 if D > 64); dq by tiles of as many queries."""
    width, owned = 4 * -(-D // 4), 64 if D <= 64 else 32
    streamed = tile_rows(width + 1)
    starts = first_rows(T, S, causal, streamed, owned)
    reached = visits(keys_of_tiles(T, S, causal, owned), streamed)

    def per_query(columns, size, **lanes):
        return heads(B * H, T * columns * size, lambda first: rows(first, T, columns, size, **lanes))

    q, row = per_query(D, itemsize, **QUAD), per_query(1, FLOAT, group=8)
    k = heads(B * G, S * D * itemsize, lambda first: rows(first, S, D, itemsize, **QUAD))
    whole_quad = Access(row.requests, row.sectors, 4 * row.bytes)  # all four lanes of a quad ask for their row's number
    tiles = query_tiles(B, H, T, D, itemsize, starts, streamed, width)
    loads = q.times(2) + k.times(2) + tiles + q.times(2) + whole_quad.times(2)
    loads += key_tiles(B, H, G, S, D, itemsize, reached, streamed, width)
    traffic = loads.loads() + (row + k.times(2) + q).stores()
    walked = visits(T - starts, streamed)
    traffic.barriers = 2 * B * H * int(walked.sum() + reached.sum())
    return traffic


def query_tiles(B, H, T, D, itemsize, starts, block_t, width):
    """Return the loads of q, do, lse and delta where each tile of keys walks all queries from its entry of `starts`."""
    tiles = range(0, T, block_t)
    times = [int(np.sum(starts <= t)) for t in tiles]

    def matrix(first):
        return sum(
            (padded_tile((first + t * D * itemsize) % SECTOR, min(block_t, T - t), D, itemsize, width).times(n)
             for t, n in zip(tiles, times, strict=True)), Access())

    def vector(first):
        return sum(
            (run(first + t * FLOAT, min(block_t, T - t), FLOAT).times(n)
             for t, n in zip(tiles, times, strict=True)), Access())

    return (heads(B * H, T * D * itemsize, matrix) + heads(B * H, T * FLOAT, vector)).times(2)


@nothing_if_empty
def v4_mma(B, H, G, T, S, D, itemsize, causal):
    """Three kernels: `delta_and_zeros`; K and V once and q and do once a tile of 128 keys; `rounded_sums`.

    Counts loads and stores of every kernel, copies by cp.async by the rows that exist, and the atomics: each tile of
    queries adds a whole padded tile of dq, 512 bytes a request (compute capability 9.0; four requests before), for
    every tile of keys that it sees.
    """
    return tensor_cores(B, H, G, T, S, D, itemsize, causal, 64, warp_keys=16, barriers=(2, 1))


@nothing_if_empty
def v5_wgmma(B, H, G, T, S, D, itemsize, causal):
    """As v4_mma, with tiles of 128 queries where D is at most 64; what the copy engine fetches counts bytes alone."""
    block_t = 128 if D <= 64 else 64
    return tensor_cores(B, H, G, T, S, D, itemsize, causal, block_t, warp_keys=16, barriers=(1, 3), engine=True)


@nothing_if_empty
def v6_roles(B, H, G, T, S, D, itemsize, causal):
    """As v5_wgmma; warpgroups wait for each other at mbarriers, and at two barriers a block."""
    return tensor_cores(B, H, G, T, S, D, itemsize, causal, 128, warp_keys=16, barriers=(0, 2), engine=True)


def tensor_cores(B, H, G, T, S, D, itemsize, causal, block_t, warp_keys, barriers, block_s=128, engine=False):
    """Return the traffic of a block of `block_s` keys that walks tiles of `block_t` queries; D is a multiple of 8.

    `warp_keys` rows of dk and dv are stored at a time; `barriers` are those of a tile of queries and of a block; with
    `engine` the copy engine fetches the tiles, past the units that count requests and sectors.
    """
    eights, wide = D // 8, 8 * itemsize  # 16-byte loads of a row
    padded, tiles = -(-T // block_t) * block_t, range(0, T, block_t)
    starts = first_rows(T, S, causal, block_t, block_s)
    times = [int(np.sum(starts <= t)) for t in tiles]  # tiles of keys that walk each tile of queries

    def once(first, count, block):
        """Return the cost of `count` rows, `block` at a time, 16 bytes a lane."""
        return sum((run(first + i * D * itemsize, min(block, count - i) * eights, wide)
                    for i in range(0, count, block)), Access())

    def walk(first):
        return sum((run(first + t * D * itemsize, min(block_t, T - t) * eights, wide).times(n)
                    for t, n in zip(tiles, times, strict=True)), Access())

    stats = run(0, block_t // 2, 4 * FLOAT).times(sum(times))
    loads = heads(B * G, S * D * itemsize, lambda first: once(first, S, block_s)).times(2)
    loads += heads(B * H, T * D * itemsize, walk).times(2) + stats.times(B * H)
    if engine:
        loads = Access(0, 0, loads.bytes)
    stores = heads(B * G, S * D * itemsize, lambda first: once(first, S, warp_keys)).times(2)
    sums = 16 * -(-D // 16) * FLOAT  # bytes of a padded row of dq_sum
    traffic = delta_and_zeros(B, H, T, D, itemsize, padded, sums) + loads.loads() + stores.stores()
    traffic += rounded_sums(B, H, T, D, itemsize)
    traffic.atomic_bytes = B * H * sum(times) * block_t * sums
    traffic.atomic_requests, traffic.atomic_sectors = traffic.atomic_bytes // 512, traffic.atomic_bytes // SECTOR
    traffic.barriers = B * H * barriers[0] * sum(times) + B * G * barriers[1] * -(-S // block_s)
    return traffic


def delta_and_zeros(B, H, T, D, itemsize, padded, sums):
    """o, do and lse read, 8 lanes a row; lse in base 2 and delta written side by side, and dq_sum set to 0."""
    o = heads(B * H, T * D * itemsize, lambda first: rows(first, T, D // 8, 8 * itemsize, group=4, width=8))
    lse = heads(B * H, T * FLOAT, lambda first: rows(first, T, 1, FLOAT, group=4))
    zeros = run(0, padded * sums // 16, 16)
    return (o.times(2) + lse).loads() + (rows(0, padded, 1, 2 * FLOAT, group=4) + zeros).times(B * H).stores()


def rounded_sums(B, H, T, D, itemsize):
    """dq_sum read in the order of registers, 8 bytes at a time from four lanes' places; dq written 16 bytes a lane."""
    loads, eights = Access(), D // 8
    for count, n in ((16, T // 16), (T % 16, 1)):
        i = np.arange(count * eights)
        row, column = i // eights, i % eights
        first = (column * 32 + row % 8 * 4) * 16 + row // 8 * 8  # the others follow 16 bytes apart
        touched = {(w, e, s) for e in range(4) for w, s in zip(i // WARP, (first + 16 * e) // SECTOR, strict=True)}
        loads += Access(4 * -(-len(i) // WARP), len(touched), 32 * len(i)).times(n)
    dq = heads(B * H, T * D * itemsize, lambda first: sum(
        (run(first + t * D * itemsize, min(16, T - t) * eights, 8 * itemsize) for t in range(0, T, 16)), Access()))
    return loads.times(B * H).loads() + dq.stores()
