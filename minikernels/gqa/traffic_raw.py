"""HBM traffic of the CUDA C++ rungs of decode, in closed form; as `minikernels.gqa.traffic`, which exports them.

How many blocks share the work depends on the GPU, by default one with 132 multiprocessors.
"""

from itertools import chain

import numpy as np

from minikernels.core.decode import runs, shares
from minikernels.core.decode_traffic import (
    GroupTile,
    cut_rows,
    each_row,
    group_runs,
    group_shares,
    left_states,
    lookups,
    over_slots,
    owned,
    read_states,
)
from minikernels.core.sectors import Access, heads, rows, run, span

CHUNK, WARPS, UNROLL = 16, 4, 4
MULTIPROCESSORS = 132


class Tile:
    """How a block of these kernels reads the rows of a cache."""

    def __init__(self, R, D, itemsize):
        self.chunks = D * itemsize // CHUNK
        self.lanes = 1 << (self.chunks - 1).bit_length()
        self.row_keys = 32 // self.lanes  # rows of one request
        self.step = self.row_keys * UNROLL  # keys that a warp takes at a time
        self.keys = WARPS * self.step
        self.parts = [min(8, R - first) for first in range(0, R, 8)]  # query heads of each block of a group
        self.resident = {1: 4, 2: 4, 3: 3, 4: 3}.get(self.parts[0], 2)

    def cache(self, first, keys):
        """Return the cost of reading `keys` rows of K."""
        return rows(first, keys, self.chunks, CHUNK, group=self.row_keys, width=self.lanes)

    def query(self, first, held, D, itemsize):
        """Return the cost of `held` query rows read by one warp, each request by every group of its lanes."""
        sectors = sum(span(first + h * D * itemsize, D * itemsize) for h in range(held))
        return Access(held, sectors, held * self.row_keys * D * itemsize)

    def busy(self, keys):
        """Return how many warps of a block that gets so many keys have some of them."""
        return min(WARPS, -(-keys // self.step))

    def busy_in_shares(self, length, count):
        """Return the same summed over `count` blocks that share the keys of a sequence in whole tiles."""
        tiles = -(-length // self.keys)
        share = -(-tiles // count) * self.keys
        return sum(self.busy(max(0, min(share, length - n * share))) for n in range(count))


def v4_wide_loads(B, H, G, S, D, itemsize, lengths, given=True):
    """Each row of the cache read whole, once for up to 8 query heads; every warp with keys reads q."""
    R = H // G
    tile = Tile(R, D, itemsize)
    loads, o = common(B, G, R, S, D, itemsize, lengths, tile, 1, given)
    traffic = loads.loads() + o.stores()
    traffic.barriers = B * G * len(tile.parts)
    return traffic


def v5_split_kv(B, H, G, S, D, itemsize, lengths, count=None, multiprocessors=MULTIPROCESSORS, given=True):
    """As v4, q read once a share, and the state of every share, (D + 2) floats a head, written and read back."""
    R = H // G
    tile = Tile(R, D, itemsize)
    if count is None:
        count = shares(B * G * len(tile.parts), -(-S // tile.keys), multiprocessors * tile.resident)
    if count == 1:
        return v4_wide_loads(B, H, G, S, D, itemsize, lengths, given)
    loads, _ = common(B, G, R, S, D, itemsize, lengths, tile, count, given)
    left, read = states(B * G, tile.parts, D, count)
    traffic = (loads + read).loads() + (left + heads_of(B * H, D, itemsize)).stores()
    traffic.barriers = B * G * len(tile.parts) * count
    return traffic


def states(rows_here, parts, D, count):
    """Return the cost of writing, and of reading, the states of `count` shares of every row."""
    left, read = Access(), Access()
    for part, held in enumerate(parts):
        row = np.arange(rows_here)[:, None] * len(parts) + part
        slots = (row * count + np.arange(count)).ravel()
        left += over_slots(slots, parts[0], D, lambda ml, o, n=held: left_states(ml, o, n, D))
        read += over_slots(slots, parts[0], D, lambda ml, o, n=held: read_states(o, n, D))
    return left, read


def heads_of(count, D, itemsize):
    """Return the cost of `count` rows of o, a block each."""
    return heads(count, D * itemsize, lambda first: run(first, D, itemsize))


def common(B, G, R, S, D, itemsize, lengths, tile, count, given):
    """Return the loads of lengths if `given`, q, K and V by `count` blocks a row, and the stores of o."""
    blocks = B * G * len(tile.parts) * count
    q = Access()
    for b, length in enumerate(lengths):
        once = each_row(1, G, R, D * itemsize, tile.parts, lambda first, n: tile.query(first, n, D, itemsize), b)
        q += once.times(tile.busy_in_shares(length, count))
    o = each_row(B, G, R, D * itemsize, tile.parts, lambda first, n: run(first, n * D, itemsize))
    return lookups(blocks * given) + q + cache(G, S, D, itemsize, lengths, tile), o


def searches(b, B):
    """Return how many numbers of ``ends`` the binary search for sequence b reads."""
    low, high, count = 0, B - 1, 0
    while low < high:
        middle = (low + high) // 2
        low, high, count = (low, middle, count + 1) if middle >= b else (middle + 1, high, count + 1)
    return count


def cache(G, S, D, itemsize, lengths, tile):
    """Return the loads of K and V, once for every block that shares a head; rows of both start at multiples of 16."""
    stride, total = S * D * itemsize, Access()
    for b, length in enumerate(lengths):
        total += heads(G, stride, lambda first, at=b * G * stride, n=length: tile.cache(first + at, n))
    return total.times(2 * len(tile.parts))


def v6_stream_k(B, H, G, S, D, itemsize, lengths, blocks=None, multiprocessors=MULTIPROCESSORS, given=True):
    """As v4, q read once a piece, and the states of the rows that a cut goes through written and read back."""
    R = H // G
    tile = Tile(R, D, itemsize)
    blocks = min(blocks or multiprocessors * tile.resident, B * G * len(tile.parts) * -(-S // tile.keys))
    plan = runs(lengths, G * len(tile.parts), tile.keys, blocks)
    loads = cache(G, S, D, itemsize, lengths, tile) + lookups(blocks)  # the last of ends, by each block
    loads += lookups(sum(2 + (b > 0) for b in range(B)) * H)  # ends, by the kernel that merges
    left, read = cut_rows(plan, lengths, tile.keys, tile.parts, G, D, itemsize)
    pieces = list(chain(*plan))
    for piece in pieces:
        loads += lookups(searches(piece.b, B) + (piece.b > 0) + 1 + given)  # ends around b, and its length
        held, head = owned(piece, tile.parts, G, R)
        keys = min(lengths[piece.b], (piece.first + piece.tiles) * tile.keys) - piece.first * tile.keys
        loads += tile.query(head * D * itemsize, held, D, itemsize).times(tile.busy(keys))
    traffic = (loads + read).loads() + left.stores()
    traffic.barriers = 2 * len(pieces)
    return traffic


def v7_mma_group(B, H, G, S, D, itemsize, lengths, count=None, multiprocessors=MULTIPROCESSORS, given=True):
    """As v5, each row read once for up to 32 query heads, by cp.async, and q once a block."""
    tile = GroupTile(H // G, D)
    count = count or shares(B * G * len(tile.parts), -(-S // tile.keys), multiprocessors * tile.resident)
    return copied(G, S, D, lengths, tile).loads() + group_shares(B, G, H // G, tile, count, given)


def v8_mma_stream_k(B, H, G, S, D, itemsize, lengths, blocks=None, multiprocessors=MULTIPROCESSORS, given=True):
    """As v7, q read once a piece, and the states of the rows that a cut goes through written and read back."""
    tile = GroupTile(H // G, D)
    rows_here = G * len(tile.parts)
    blocks = min(blocks or multiprocessors * tile.resident, B * rows_here * -(-S // tile.keys))
    plan = runs(lengths, rows_here, tile.keys, blocks)
    return copied(G, S, D, lengths, tile).loads() + group_runs(plan, lengths, tile, G, given)


def copied(G, S, D, lengths, tile):
    """Return the loads of K and V by cp.async, once for every block that shares a head."""
    stride, total = S * D * 2, Access()
    for b, length in enumerate(lengths):
        at = np.arange(length) * tile.size
        total += heads(G, stride, lambda first, at=at, before=b * G * stride: tile.copies(at, (before + first) % 32))
    return total.times(len(tile.parts))
