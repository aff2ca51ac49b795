"""HBM traffic of decoding over ragged heads, in closed form; exact for any page table and lengths."""

import numpy as np

from minikernels.core.sectors import Access, heads, rows, run
from minikernels.core.traffic import Traffic

INT = 4  # bytes of a page's number, and of a length
ROW = {"group": 1, "width": 32}  # a warp reads one row at a time, 32 neighbouring columns of it


def tiled(B, H, D, P, page_table, lengths, itemsize=4):
    """Return the bytes of the slots, read once; of one page's number for every page; q and o cross once."""
    slots, pages = int(np.sum(lengths)), int(np.sum(-(-np.asarray(lengths) // P)))
    once = B * H * D * itemsize
    return Traffic(load_bytes=once + 2 * slots * D * itemsize + pages * INT, store_bytes=once)


def v1_ragged_heads(B, H, D, P, page_table, lengths, itemsize=4, warps=4):
    """Return the traffic of blocks of up to 8 heads of a group whose warps look every slot's page up.

    Parameters
    ----------
    B, H, D, P : int
    page_table : array_like of shape (B * G, max_pages), int
    lengths : array_like of shape (B * G,), int
    itemsize : int
    warps : int
    """
    page_table, lengths = np.asarray(page_table), np.asarray(lengths)
    G = len(lengths) // B
    R, row = H // G, D * itemsize
    parts = [min(8, R - first) for first in range(0, R, 8)]
    slot = [(page_table[head, np.arange(n) // P] * P + np.arange(n) % P) * row % 32 for head, n in enumerate(lengths)]
    starts, counts = np.unique(np.concatenate([*slot, np.zeros(0, int)]), return_counts=True)
    cache = sum((rows(int(at), 1, D, itemsize, **ROW).times(n) for at, n in zip(starts, counts)), Access())
    total, blocks = int(lengths.sum()), B * G * len(parts)
    table = Access(total, total, total * 32 * INT)  # 32 lanes read one number
    lookups = Access(blocks * warps, blocks * warps, blocks * warps * 32 * INT)
    q, o = Access(), Access()
    for i, held in enumerate(parts):
        before, stride = sum(parts[:i]) * row, R * row
        q += heads(B * G, stride, lambda first, at=before, n=held: rows(first + at, n, D, itemsize, **ROW))
        o += heads(B * G, stride, lambda first, at=before, n=held: run(first + at, n * D, itemsize))
    loads = lookups + q.times(warps) + (table + cache.times(2)).times(len(parts))
    traffic = loads.loads() + o.stores()
    traffic.barriers = blocks  # one before the warps' states are merged
    return traffic
