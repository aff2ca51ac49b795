"""HBM traffic of the CUDA C++ rungs over quantised caches, in closed form, as `traffic` exports them.

How many blocks share a sequence in v5_split_kv depends on the GPU, by default one with 132 multiprocessors.
"""

import numpy as np

from minikernels.core.sectors import Access, heads, rows, run, scattered, span

FLOAT, CHUNK, THREADS, WARPS, MOST_SPLITS = 4, 16, 128, 4, 128
MULTIPROCESSORS = 132


class Tile:
    """How a block of these kernels reads the tokens of a cache."""

    def __init__(self, R, held):
        self.held, self.vec = held, 8 * CHUNK // held.bits  # codes of a load
        self.chunks = held.D // self.vec
        self.lanes = 1 << (self.chunks - 1).bit_length()
        self.keys = 32 // self.lanes  # tokens of a request
        most = 8 if held.bits == 8 else 4
        self.parts = [min(most, R - first) for first in range(0, R, most)]  # query heads of each block of a group
        self.tokens = WARPS * held.group  # of a step of a block
        self.resident = {16: 4, 32: 4, 64: 3}.get(self.parts[0] * self.vec, 2)

    def cache(self, cuts):
        """Return the cost of reading keys and values once; ``cuts(length)`` are the ends of a sequence's shares."""
        held, item = self.held, self.held.itemsize
        N, group, shared = held.quantized, held.group, -(-held.D // min(held.group, held.D))

        def of_groups(cost):  # the sum of cost(first token, tokens) over the groups of the first `length` tokens
            return lambda first, length: sum(
                (cost(first, s, min(group, min(length, N) - s)) for s in range(0, min(length, N), group)), Access())

        def codes(first, s, n):
            return rows(first + s * held.row, n, self.chunks, CHUNK, group=self.keys, width=self.lanes)

        def by_channel(first, s, n):
            return run(first + s // group * held.D * item, held.D, item)

        def by_token(first, s, n):
            begin = np.arange(0, n, self.keys)
            count = np.minimum(self.keys, n - begin)
            sectors = span(first + (s + begin) * shared * item, count * shared * item)
            return Access(len(begin), int(np.sum(sectors)), n * self.chunks * item)

        def newest(first, length):
            places = np.arange(self.vec)[:, None] + self.vec * np.arange(self.chunks)
            ends = [max(N, min(length, cut)) - N for cut in (0, *cuts(length))]
            return sum((scattered(first + a * held.D * item, b - a, held.D, item, self.keys, places)
                        for a, b in zip(ends, ends[1:])), Access())

        total = held.of_each(N * held.row, of_groups(codes))
        total += held.of_each(held.recent * held.D * item, newest)
        for stride, cost in ((N // group * held.D, by_channel), (N * shared, by_token)):
            total += held.of_each(stride * item, of_groups(cost))  # scales, and as much for minima
        return total.times(2 * len(self.parts))


def each_row(B, G, R, D, itemsize, parts, cost):
    """Return the sum of ``cost(first_byte, heads)`` over the rows of q, or of o."""
    before = np.cumsum([0, *parts])
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


def v3_wide_loads(B, H, G, D, itemsize, held):
    """Codes, scales and minima read once for up to 8 query heads (4 over 4-bit codes); a block reads q once."""
    tile = Tile(H // G, held)
    loads, o = common(B, H, G, D, itemsize, tile, 1, lambda length: (length,))
    traffic = loads.loads() + o.stores()
    traffic.barriers = 3 * B * G * len(tile.parts)  # for the queries, and two to gather the warps' states
    return traffic


v4_half2 = v3_wide_loads  # the same bytes by the same requests


def v5_split_kv(B, H, G, D, itemsize, held, count=None, multiprocessors=MULTIPROCESSORS):
    """As v4, q read once a share, and the state of every share, (D + 2) floats a head, written and read back."""
    tile = Tile(H // G, held)
    if count is None:
        tiles = -(-(held.quantized + held.recent) // tile.tokens)
        count = splits(B * G * len(tile.parts), tiles, multiprocessors * tile.resident)
    if count == 1:
        return v4_half2(B, H, G, D, itemsize, held)

    def cuts(length):
        tiles = -(-length // tile.tokens)
        share = -(-tiles // count) * tile.tokens
        return tuple((i + 1) * share for i in range(count))

    loads, o = common(B, H, G, D, itemsize, tile, count, cuts)
    stores = o
    for part, heads_here in enumerate(tile.parts):
        row = np.arange(B * G)[:, None] * len(tile.parts) + part
        slots = (row * count + np.arange(count)).ravel()
        stores += over_slots(slots, tile.parts[0], lambda first, n=heads_here: partial_store(first, n, D))
        loads += over_slots(slots, tile.parts[0], lambda first, n=heads_here: partial_load(first, n, D))
    traffic = loads.loads() + stores.stores()
    traffic.barriers = 3 * B * G * len(tile.parts) * count
    return traffic


def common(B, H, G, D, itemsize, tile, count, cuts):
    """Return the loads of lengths, q and the caches by `count` blocks a row, and the stores of o."""
    blocks = B * G * len(tile.parts) * count
    lookups = Access(blocks * WARPS, blocks * WARPS, blocks * THREADS * 4)
    once = each_row(B, G, H // G, D, itemsize, tile.parts, lambda first, n: run(first, n * D, itemsize))
    return lookups + once.times(count) + tile.cache(cuts), once


def splits(rows_here, tiles, places):
    """Return into how many shares to cut each row's tiles: the least that end soonest, `places` blocks at a time."""
    def time(n):
        return -(-rows_here * n // places) * (-(-tiles // n) + 1)

    return min(range(1, max(1, min(tiles, MOST_SPLITS)) + 1), key=time)
