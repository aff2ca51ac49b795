"""HBM traffic of every rung, in closed form.

The forms of the kernels are exact for any sizes and masks: those of the numba rungs equal, number for number, what the
SIMT machine counts. The forms of the NumPy rungs give the bytes of the schedule that each of them spells out, for a
kernel that keeps everything else on the chip: they fill in ``load_bytes`` and ``store_bytes`` alone.

Every function takes the sizes B, H, G, T, S and D, the ``itemsize`` of q, k, v and o in bytes, the ``mask`` (all blocks
kept by default), its ``block`` (R, C) and ``causal``. Where an axis is empty nothing is launched and nothing moves.
The making of the lists is left out: a few passes over the mask, once for as many calls as use it.
"""

from functools import wraps

import numpy as np

from minikernels.block_sparse.lists import reach
from minikernels.block_sparse.tiles import key_tile, mma_tile, row_parts, threads, wgmma_tile
from minikernels.core.numerics import keys_seen
from minikernels.core.sectors import SECTOR, Access, rows, run
from minikernels.core.traffic import Traffic

FLOAT = INT = 4  # bytes of a float32, and of a number in a list
BLOCK = (64, 64)


class Walk:
    """Which blocks the rows of blocks visit, and what a visit costs.

    Attributes
    ----------
    seen, whole : ndarray of shape (ceil(T/R), ceil(S/C)), bool
        Blocks with a cell that the causal mask lets through, and blocks without one that it hides.
    kept : ndarray of shape (B, H, ceil(T/R), ceil(S/C)), bool
        Blocks that the mask keeps and that are seen.
    """

    def __init__(self, B, H, G, T, S, D, itemsize, mask, block, causal):
        self.sizes, self.itemsize, self.block = (B, H, G, T, S, D), itemsize, block
        self.seen, self.whole = reach(mask, T, S, block, causal)
        self.kept = np.broadcast_to(mask, (B, H, *mask.shape[2:])) & self.seen
        self.starts = np.arange(mask.shape[3]) * block[1]  # each block's first key,
        self.keys = np.minimum(self.starts + block[1], S) - self.starts  # and how many it has

    def queries(self, held, stride, cost, chosen=True):
        """Return the sum of ``cost(first_byte, rows)`` over the parts of `held` rows of all block rows of all heads.

        A row of the array has `stride` bytes. Of the block rows, (B, H, rows), those count that are `chosen`.
        """
        (B, H, _, T, _, _), R = self.sizes, self.block[0]
        block_row = np.arange(0, T, R)[:, None]
        start = block_row + np.arange(0, R, held)
        count = np.minimum(np.minimum(start + held, block_row + R), T) - start
        first = np.arange(B * H)[:, None, None] * T + start
        times = np.broadcast_to(chosen, (B, H, len(block_row))).reshape(B * H, -1, 1) * np.ones_like(first)
        return over(first * stride, np.broadcast_to(count, first.shape), times, cost)

    def key_blocks(self, visited, stride, cost):
        """Return the sum of ``cost(first_byte, keys)`` over visits of key blocks, `visited` (B, H, rows, columns)."""
        B, H, G, _, S, _ = self.sizes
        times = visited.reshape(B, G, H // G, *visited.shape[2:]).sum(axis=(2, 3))
        first = (np.arange(B * G).reshape(B, G, 1) * S + self.starts) * stride
        return over(first, np.broadcast_to(self.keys, first.shape), times, cost)


def over(first, count, times, cost):
    """Return the sum of ``times * cost(first_byte, count)``; a first byte matters modulo 32 alone."""
    places, which = np.unique([(first % SECTOR).ravel(), count.ravel()], axis=1, return_inverse=True)
    totals = np.bincount(which.ravel(), weights=times.ravel().astype(np.float64))
    found = ((cost(int(at), int(n)).times(total) for (at, n), total in zip(places.T, totals, strict=True) if n > 0))
    return sum(found, Access())


def nothing_if_empty(form):
    """Return the form, made to give no traffic where an axis is empty, and handed a `Walk`."""

    @wraps(form)
    def guarded(B, H, G, T, S, D, itemsize=FLOAT, mask=None, block=BLOCK, causal=False, **tile):
        if 0 in (B, H, G, T, S, D):
            return Traffic()
        if mask is None:
            mask = np.ones((1, 1, -(-T // block[0]), -(-S // block[1])), bool)
        return form(Walk(B, H, G, T, S, D, itemsize, np.asarray(mask), block, causal), np.asarray(mask), **tile)

    return guarded


def work(B, H, T, S, D, mask, block, causal=False):
    """Return the FLOP that the cells which are seen are worth, ``4*D`` each; no others count."""
    (R, C), seen = block, keys_seen(T, S, causal)[:, None]
    first = np.arange(0, S, C)
    cells = np.clip(seen - first, 0, np.minimum(C, S - first))  # of each row in each column of blocks
    cells = np.add.reduceat(cells, np.arange(0, T, R)) if T else cells
    return 4 * D * int(np.sum(np.broadcast_to(mask, (B, H, *cells.shape)) * cells))


@nothing_if_empty
def reference(walk, mask):
    """Dense attention: S and P written to HBM and read back, ``4 T S`` numbers a head; hidden cells included."""
    B, H, G, T, S, D = walk.sizes
    square = B * H * T * S * FLOAT
    once = (B * H * T * D + 2 * B * G * S * D) * walk.itemsize + mask.size
    return Traffic(load_bytes=once + 2 * square, store_bytes=2 * square + outputs(walk))


@nothing_if_empty
def tiled(walk, mask):
    """A row of blocks reads the key blocks on its list; q and o cross once."""
    B, H, _, T, _, D = walk.sizes
    keys = int(np.sum(walk.kept * walk.keys))
    return Traffic(load_bytes=(B * H * T + 2 * keys) * D * walk.itemsize, store_bytes=outputs(walk))


def outputs(walk):
    """Return the bytes of o and lse."""
    B, H, _, T, _, D = walk.sizes
    return B * H * T * (D * walk.itemsize + FLOAT)


@nothing_if_empty
def v1_masked_dense(walk, mask):
    """Every row of blocks reads every key block, and asks the mask about each."""
    everything = np.ones_like(walk.kept)
    return thread_a_row(walk, everything, lookup(walk, everything.sum(), 1))


@nothing_if_empty
def v2_skip_test(walk, mask):
    """A row of blocks asks the mask about every block that is not in its future, and reads the kept ones."""
    asked = np.broadcast_to(walk.seen, walk.kept.shape)
    return thread_a_row(walk, walk.kept, lookup(walk, asked.sum(), 1))


@nothing_if_empty
def v3_block_lists(walk, mask):
    """A row of blocks looks up where its list begins and ends, and then a column for each block that it reads."""
    return thread_a_row(walk, walk.kept, lookup(walk, walk.kept.sum() + 2 * walk.kept[..., 0].size, INT))


@nothing_if_empty
def v4_full_partial(walk, mask):
    """As v3_block_lists, and how many of the blocks are full."""
    return thread_a_row(walk, walk.kept, lookup(walk, walk.kept.sum() + 3 * walk.kept[..., 0].size, INT))


def lookup(walk, count, size):
    """Return the cost of `count` numbers of `size` bytes that all threads of a row of blocks read: a sector a warp."""
    held, parts = row_parts(walk.block[0])
    lanes = threads(held) * parts * int(count)
    return Access(lanes // 32, lanes // 32, lanes * size)


def thread_a_row(walk, visited, lookups):
    """Return the traffic of kernels with a thread a query row that visit some blocks, (B, H, rows, columns)."""
    D, itemsize = walk.sizes[5], walk.itemsize
    (held, parts), size = row_parts(walk.block[0]), key_tile(walk.block[1], D)

    def block(first, keys):
        starts = range(0, keys, size)
        return sum((run(first + s * D * itemsize, min(size, keys - s) * D, itemsize) for s in starts), Access())

    q = walk.queries(held, D * itemsize, lambda first, n: rows(first, n, D, itemsize))  # o is written as q is read
    lse = walk.queries(held, FLOAT, lambda first, n: rows(first, n, 1, FLOAT))
    keys = walk.key_blocks(visited, D * itemsize, block).times(2 * parts)
    traffic = (q + keys + lookups).loads() + (q + lse).stores()
    traffic.barriers = 2 * parts * int(np.sum(visited * -(-walk.keys // size)))
    return traffic


@nothing_if_empty
def v5_mma(walk, mask):
    """As v4_full_partial in float16, 16 bytes a lane at a time; where 8 does not divide D, as if D were wider."""
    tile = mma_tile(walk.sizes[5], walk.block)
    tiles = walk.kept * -(-walk.keys // tile.BLOCK_S)  # two barriers each, and one at the end of every list
    return tensor_cores(walk, tile, int(walk.kept.sum()), 2 * int(np.sum(tiles)) + walk.kept[..., 0].size)


@nothing_if_empty
def v6_async(walk, mask):
    """As v5_mma, one barrier a tile; a last block that is ragged has as many tiles as the others.

    A column is looked up for every tile of its block, and once more where cells of the tile have to be hidden.
    """
    tile, C = mma_tile(walk.sizes[5], walk.block), walk.block[1]
    tiles = int(np.sum(walk.kept)) * -(-C // tile.BLOCK_S)
    hidden = int(np.sum(walk.kept & ~walk.whole)) * -(-C // tile.BLOCK_S) if C % tile.BLOCK_S == 0 else tiles
    return tensor_cores(walk, tile, tiles + hidden, tiles + walk.kept[..., 0].size)


def tensor_cores(walk, tile, columns, barriers):
    """Return the traffic of kernels that copy whole rows, 16 bytes a lane, and store each warp's own."""
    chunks = -(-walk.sizes[5] // 8)
    row, size, lanes = 16 * chunks, tile.BLOCK_S, 32 * tile.WARPS * tile.PARTS

    def block(first, keys):
        return sum((run(first + s * row, min(size, keys - s) * chunks, 16) for s in range(0, keys, size)), Access())

    def store(first, n):
        starts = range(0, n, 16 * tile.MTILES)
        return sum((run(first + t * row, min(16 * tile.MTILES, n - t) * chunks, 16) for t in starts), Access())

    asked = (columns + 3 * walk.kept[..., 0].size) * lanes
    loads = walk.queries(tile.ROWS, row, lambda first, n: run(first, n * chunks, 16))
    loads += walk.key_blocks(walk.kept, row, block).times(2 * tile.PARTS)
    loads += Access(asked // 32, asked // 32, asked * INT)
    lse = walk.queries(tile.ROWS, FLOAT, lambda first, n: rows(first, n, 1, FLOAT, group=8))
    traffic = loads.loads() + (walk.queries(tile.ROWS, row, store) + lse).stores()
    traffic.barriers = tile.PARTS * barriers
    return traffic


@nothing_if_empty
def v7_wgmma(walk, mask):
    """A request of q, k, v and o is a box of up to 64 columns that TMA copies; boxes past an array's end are left out.

    q is read where a tile sees keys. The producer's one thread looks up a tile's place in the order, where its list
    begins and ends and how many of it are full, and a column for every key tile; each warp of the consumers looks up a
    column where cells have to be hidden. Warpgroups wait for each other at mbarriers and numbered barriers alone.
    """
    tile, (R, C) = wgmma_tile(walk.block), walk.block
    held, warps, width = 64 * tile.CONSUMERS, 4 * tile.CONSUMERS, 8 * -(-walk.sizes[5] // 8)
    parts = R // held

    def boxes(height):
        return lambda first, n: rows(first, n, width, 2, group=height, width=64)

    tiles, visits = parts * walk.kept[..., 0].size, parts * C // tile.BLOCK_S * walk.kept
    hidden = warps * int(np.sum(visits * ~walk.whole))
    asked = 4 * tiles + int(np.sum(visits))
    loads = walk.queries(held, 2 * width, boxes(64), walk.kept.any(axis=3))
    loads += walk.key_blocks(walk.kept, 2 * width, boxes(tile.BLOCK_S)).times(2 * parts)
    loads += Access(asked + hidden, asked + hidden, INT * (asked + 32 * hidden))
    lse = walk.queries(held, FLOAT, lambda first, n: rows(first, n, 1, FLOAT, group=8))
    traffic = loads.loads() + (walk.queries(held, 2 * width, boxes(64)) + lse).stores()
    traffic.atomic_requests = traffic.atomic_sectors = tiles  # each tile that is taken asks for the next one's place
    traffic.atomic_bytes = INT * tiles
    return traffic
