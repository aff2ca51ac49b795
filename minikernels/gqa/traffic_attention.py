"""HBM traffic of every rung of attention over a prompt, in closed form; as `minikernels.gqa.traffic` for decode."""

import numpy as np

from minikernels.core.limits import tile_rows
from minikernels.core.numerics import keys_seen
from minikernels.core.sectors import Access, heads, rows, run
from minikernels.core.traffic import Traffic

FLOAT = 4  # bytes of a float32
BLOCK_T = 32  # query positions of a block of the kernels


def reference(B, H, G, T, S, D, itemsize=FLOAT, causal=False):
    """Scores and probabilities written to HBM and read back, masked cells included; K and V read once a group."""
    if 0 in (B, H, G, T, S, D):
        return Traffic()
    square, once = B * H * T * S * FLOAT, B * H * T * D * itemsize
    return Traffic(load_bytes=once + 2 * B * G * S * D * itemsize + 2 * square, store_bytes=2 * square + once)


def tiled(B, H, G, T, S, D, itemsize=FLOAT, causal=False, block_t=128, block_s=256):
    """A tile of queries of all heads of a group reads every key tile that it sees; q and o cross once."""
    if 0 in (B, H, G, T, S, D):
        return Traffic()
    once, keys = B * H * T * D * itemsize, np.minimum(reach(T, S, causal, block_t, block_s) * block_s, S).sum()
    return Traffic(load_bytes=once + 2 * B * G * int(keys) * D * itemsize, store_bytes=once)


def v1_head_per_block(B, H, G, T, S, D, itemsize=FLOAT, causal=False):
    """Every 32 query rows of every head read K and V up to the keys they see."""
    return kernel(B, H, G, T, S, D, itemsize, causal, H // G if G else 0)


def v2_group_per_block(B, H, G, T, S, D, itemsize=FLOAT, causal=False):
    """Every 32 query positions of every group read K and V: 1 / (H / G) of v1, or ceil(H / G / 8) / (H / G)."""
    return kernel(B, H, G, T, S, D, itemsize, causal, -(-H // G // 8) if G else 0)


def kernel(B, H, G, T, S, D, itemsize, causal, blocks):
    """Return the traffic of a kernel with `blocks` blocks for the heads of a group and 32 query positions."""
    if 0 in (B, H, G, T, S, D):
        return Traffic()
    block_s = tile_rows(D)
    reached = reach(T, S, causal, BLOCK_T, block_s)

    def one_head(first):
        starts = range(0, S, block_s)
        tiles = (run(first + s * D * itemsize, min(block_s, S - s) * D, itemsize) for s in starts)
        return sum((tile.times(np.sum(reached > j)) for j, tile in enumerate(tiles)), Access())

    once = heads(B * H, T * D * itemsize, lambda first: rows(first, T, D, itemsize))  # q, and o: one thread a row
    cache = heads(B * G, S * D * itemsize, one_head).times(2 * blocks)
    traffic = (once + cache).loads() + once.stores()
    traffic.barriers = 2 * B * G * blocks * int(reached.sum())
    return traffic


def reach(T, S, causal, block_t, block_s):
    """Return how many key tiles each tile of queries reads: as far as its last row sees."""
    last = np.minimum(np.arange(block_t, T + block_t, block_t), T) - 1
    return -(-keys_seen(T, S, causal)[last] // block_s)
