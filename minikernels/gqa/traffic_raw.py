"""HBM traffic of the CUDA C++ rungs of decode, in closed form; as `minikernels.gqa.traffic`, which exports them.

How many blocks share the work depends on the GPU, by default one with 132 multiprocessors.
"""

import numpy as np

from minikernels.core.sectors import Access, heads, rows, run, span
from minikernels.gqa import schedule

FLOAT = INT = 4  # bytes
CHUNK, THREADS, WARPS, UNROLL = 16, 128, 4, 4
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


def each_row(B, G, R, D, itemsize, parts, cost, sequence=0):
    """Return the sum of ``cost(first_byte, heads)`` over the rows of q, or of o, in B sequences from `sequence` on."""
    before = np.cumsum([0, *parts]) + sequence * G * R
    return sum((heads(B * G, R * D * itemsize, lambda first, at=at, n=n: cost(first + at * D * itemsize, n))
                for at, n in zip(before, parts)), Access())


def partial_store(first, held, D):
    """Return the cost of storing the states of `held` heads, (m, l) at byte `first` by one lane a head, and o."""
    request = np.arange(held) * D // 32  # which request stores head h's (m, l)
    groups = (np.flatnonzero(request == n) for n in np.unique(request))
    ml = (Access(1, span(first + 8 * group[0], 8 * len(group)), 8 * len(group)) for group in groups)
    return sum(ml, run(0, held * D, FLOAT))  # every slot of o begins a sector


def partial_load(first, held, D):
    """Return the cost of reading them again: every thread of a column reads its head's (m, l)."""
    begin = np.arange(0, held * D, 32)
    low, high = begin // D, (np.minimum(begin + 32, held * D) - 1) // D
    sectors = int(np.sum(span(first + 8 * low, 8 * (high - low + 1))))
    return Access(len(begin), sectors, 8 * held * D) + run(0, held * D, FLOAT)


def over_slots(slots, HEADS, cost):
    """Return the sum of ``cost(first_byte)`` over slots of HEADS pairs (m, l)."""
    places = np.unique(slots * HEADS * 8 % 32, return_counts=True)
    return sum((cost(int(first)).times(n) for first, n in zip(*places)), Access())


def v4_wide_loads(B, H, G, S, D, itemsize, lengths):
    """Each row of the cache read whole, once for up to 8 query heads; every warp with keys reads q."""
    R = H // G
    tile = Tile(R, D, itemsize)
    loads, o = common(B, G, R, S, D, itemsize, lengths, tile, 1)
    traffic = loads.loads() + o.stores()
    traffic.barriers = B * G * len(tile.parts)
    return traffic


def v5_split_kv(B, H, G, S, D, itemsize, lengths, count=None, multiprocessors=MULTIPROCESSORS):
    """As v4, q read once a share, and the state of every share, (D + 2) floats a head, written and read back."""
    R = H // G
    tile = Tile(R, D, itemsize)
    if count is None:
        rows_here = B * G * len(tile.parts)
        count = schedule.splits(rows_here, -(-S // tile.keys), multiprocessors * tile.resident)
    if count == 1:
        return v4_wide_loads(B, H, G, S, D, itemsize, lengths)
    loads, o = common(B, G, R, S, D, itemsize, lengths, tile, count)
    stores = o
    for part, held in enumerate(tile.parts):
        row = np.arange(B * G)[:, None] * len(tile.parts) + part
        slots = (row * count + np.arange(count)).ravel()
        stores += over_slots(slots, tile.parts[0], lambda first, n=held: partial_store(first, n, D))
        loads += over_slots(slots, tile.parts[0], lambda first, n=held: partial_load(first, n, D))
    traffic = loads.loads() + stores.stores()
    traffic.barriers = B * G * len(tile.parts) * count
    return traffic


def common(B, G, R, S, D, itemsize, lengths, tile, count):
    """Return the loads of lengths, q, K and V by `count` blocks a row, and the stores of o."""
    blocks = B * G * len(tile.parts) * count
    q = Access()
    for b, length in enumerate(lengths):
        once = each_row(1, G, R, D, itemsize, tile.parts, lambda first, n: tile.query(first, n, D, itemsize), b)
        q += once.times(tile.busy_in_shares(length, count))
    o = each_row(B, G, R, D, itemsize, tile.parts, lambda first, n: run(first, n * D, itemsize))
    return lookups(blocks) + q + cache(G, S, D, itemsize, lengths, tile), o


def lookups(count):
    """Return the cost of every thread of a block reading the same number of an index array, `count` times."""
    return Access(WARPS, WARPS, THREADS * INT).times(count)


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


def v6_stream_k(B, H, G, S, D, itemsize, lengths, blocks=None, multiprocessors=MULTIPROCESSORS):
    """As v4, q read once a piece, and the states of the rows that a cut goes through written and read back."""
    R = H // G
    tile = Tile(R, D, itemsize)
    parts, per_sequence = tile.parts, G * len(tile.parts)
    blocks = min(blocks or multiprocessors * tile.resident, B * per_sequence * -(-S // tile.keys))
    plan = schedule.stream_k(lengths, per_sequence, tile.keys, blocks)
    tiles = schedule.tiles_of(lengths, tile.keys)
    before = np.cumsum([0, *parts])
    loads, stores = cache(G, S, D, itemsize, lengths, tile), Access()
    stores += each_row(B, G, R, D, itemsize, parts, lambda first, n: run(first, n * D, itemsize))
    loads += lookups(len(plan.places))  # the last of ends, by each block
    loads += lookups(sum(2 + (b > 0) for b in range(B)) * per_sequence)  # ends, by the kernel that merges
    pieces = 0
    for place, work in enumerate(plan.places):
        for piece in work:
            g, part = divmod(piece.row, len(parts))
            held, head = parts[part], (piece.b * G + g) * R + int(before[part])
            loads += lookups(searches(piece.b, B) + (piece.b > 0) + 2)  # ends around b, and its length
            keys = min(lengths[piece.b], (piece.first + piece.tiles) * tile.keys) - piece.first * tile.keys
            loads += tile.query(head * D * itemsize, held, D, itemsize).times(tile.busy(keys))
            pieces += 1
            if piece.tiles < tiles[piece.b]:
                slot = (2 * place + (piece.first == 0)) * parts[0] * 8 % 32
                stores += partial_store(slot, held, D)
                loads += partial_load(slot, held, D)
    traffic = loads.loads() + stores.stores()
    traffic.barriers = 2 * pieces
    return traffic
