"""HBM traffic of the rungs of attention's backward pass, in closed form; conventions as in `traffic`."""

import numpy as np

from minikernels.core.limits import tile_rows
from minikernels.core.numerics import keys_seen
from minikernels.core.sectors import SECTOR, Access, heads, padded_tile, rows, run
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
