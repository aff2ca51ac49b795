"""HBM traffic of the CUDA C++ rungs, in closed form; as `minikernels.selective_scan.traffic`, which exports them.

How many chunks v6_three_phase and the rungs after it make depends on the GPU, by default one with 132 multiprocessors.
"""

from collections import Counter

import numpy as np

from minikernels.core.sectors import Access, heads, rows, run, scattered, span
from minikernels.selective_scan import schedule

FLOAT, THREADS, PER, RESIDENT = 4, 128, 4, 4
PAIRS, STAGING = (3, 0.72), (2, 0.62)  # blocks of v7 and v8 on a multiprocessor; one takes so much of their time
MULTIPROCESSORS = 132


class Tile:
    """How the blocks of these kernels read E channels of N states."""

    def __init__(self, E, N, itemsize):
        self.E, self.N, self.itemsize = E, N, itemsize
        self.lanes = 1 << (-(-N // PER) - 1).bit_length()
        self.tokens = 32 if 4 <= self.lanes <= 16 else 16
        self.vector = 1 if E % 4 else 4
        self.channels = THREADS // self.lanes
        self.mix = 1  # numbers of b or c that one load reads
        self.blocks = -(-E // self.channels)
        self.places = np.arange(self.lanes) * PER + np.arange(PER)[:, None]  # (requests, lanes): states that they take

    def token(self, B, T, tokens):
        """Return the cost of one of u, delta, z and o over the first `tokens` of T tokens."""
        width = self.channels // self.vector
        group = max(1, min(32 // width, self.tokens))
        shape = self.E // self.vector, self.vector * self.itemsize, group, min(32, width)
        return heads(B, T * self.E * self.itemsize, lambda first: rows(first, tokens, *shape))

    def mixed(self, B, T, tokens):
        """Return the cost of b, or of c, over the first `tokens` of T tokens, by every block."""
        whole, rest = divmod(tokens, self.tokens)
        loads, width = self.tokens * self.N // self.mix, self.mix * self.itemsize

        def one(first):
            tiles = heads(whole, loads * width, lambda at: run(first + at, loads, width))
            return tiles + run(first + whole * loads * width, rest * self.N // self.mix, width)

        return heads(B, T * self.N * self.itemsize, one).times(self.blocks)

    def share(self):
        """Return the cost of the bias, or of d: each thread reads it for the channels whose tokens it reads."""
        column = np.arange(THREADS) % (self.channels // self.vector) * self.vector
        tops = range(0, self.E, self.channels)
        places = Counter((top * FLOAT % 32, min(self.channels, self.E - top)) for top in tops)
        total = Access()
        for (first, held), count in places.items():
            for v in range(self.vector):
                warps = [warp[warp < held] for warp in (column + v).reshape(-1, 32)]
                costs = (Access(1, len(np.unique((first + FLOAT * w) // 32)), FLOAT * len(w)) for w in warps if len(w))
                total += sum(costs, Access()).times(count)
        return total

    def one_state(self, first):
        """Return the cost of E rows of N float32 from byte `first` on, each by the lanes of its channel."""
        return scattered(first, self.E, self.N, FLOAT, 32 // self.lanes, self.places)

    def one_sum(self, first):
        """Return the cost of E float32, each by one lane of its channel."""
        return rows(first, 1, self.E, FLOAT, 1, 32 // self.lanes)

    def states(self, count=1):
        """Return the cost of `count` arrays of E rows, one after another."""
        return heads(count, self.E * self.N * FLOAT, self.one_state)


class Pairs(Tile):
    """How the blocks whose threads own states of two channels read E channels of N states."""

    def __init__(self, E, N, itemsize):
        super().__init__(E, N, itemsize)
        self.lanes = max(2, self.lanes)
        self.channels = 2 * THREADS // self.lanes
        self.vector = next(n for n in (8, 4, 2, 1) if n <= min(16 // itemsize, self.channels) and E % n == 0)
        self.tokens = 8 if self.lanes == 2 else 32 if self.vector == 8 else 16
        self.mix = 1 if N % 4 else 4
        self.blocks = -(-E // self.channels)
        own = np.arange(self.lanes) * PER + np.arange(PER)[:, None]
        self.places = [np.where(own < N, j * N + own, 2 * N) for j in range(2)]  # in the 2 N numbers of a pair

    def of_pairs(self, first, width, places):
        """Return the cost of E rows of `width` float32: of each pair's first channel, and then of its second."""
        rows_of = (self.E + 1) // 2, self.E // 2
        costs = [scattered(first, count, 2 * width, FLOAT, 32 // self.lanes, own)
                 for count, own in zip(rows_of, places, strict=True)]
        return Access(sum(c.requests for c in costs), sum(c.sectors for c in costs), self.E * width * FLOAT)

    def one_state(self, first):
        """Return the cost of E rows of N float32 from byte `first` on, each by the lanes of its pair."""
        return self.of_pairs(first, self.N, self.places)

    def one_sum(self, first):
        """Return the cost of E float32, each by one lane of its pair."""
        return self.of_pairs(first, 1, [np.array([[0]]), np.array([[1]])])


def v5_registers(B, T, E, N, itemsize, skip, gated):
    """Everything once, b and c once for every block of channels."""
    tile = Tile(E, N, itemsize)
    loads = tile.token(B, T, T).times(2 + gated) + tile.mixed(B, T, T).times(2)
    loads += tile.states().times(B) + tile.states(B) + tile.share().times(B * (1 + skip))  # rates, states, bias, d
    traffic = loads.loads() + (tile.token(B, T, T) + tile.states(B)).stores()
    traffic.barriers = 2 * B * tile.blocks * -(-T // tile.tokens)
    return traffic


def v6_three_phase(B, T, E, N, itemsize, skip, gated, count=None, multiprocessors=MULTIPROCESSORS):
    """u, delta and b twice, but for the last chunk; chunks' states, N float32 a channel, written and read twice."""
    tile = Tile(E, N, itemsize)
    count, each = divided(tile, B, T, count, multiprocessors, RESIDENT, 1.0)
    if count == 1:
        return v5_registers(B, T, E, N, itemsize, skip, gated)
    traffic = in_chunks(tile, B, T, skip, gated, count, each)
    traffic.barriers = 2 * B * tile.blocks * (-(-T // tile.tokens) + (count - 1) * each)
    return traffic


def v7_channel_pairs(
    B, T, E, N, itemsize, skip, gated, count=None, multiprocessors=MULTIPROCESSORS, fill=PAIRS
):
    """As v6_three_phase; half as many blocks read b and c, and a tile takes one barrier."""
    tile = Pairs(E, N, itemsize)
    count, each = divided(tile, B, T, count, multiprocessors, *fill)
    traffic = in_chunks(tile, B, T, skip, gated, count, each)
    traffic.barriers = B * tile.blocks * (-(-T // tile.tokens) + (count - 1) * each + 2 * count - 1)
    return traffic


def v8_staging_warps(B, T, E, N, itemsize, skip, gated, count=None, multiprocessors=MULTIPROCESSORS):
    """As v7_channel_pairs, in chunks for fewer blocks at once."""
    return v7_channel_pairs(B, T, E, N, itemsize, skip, gated, count, multiprocessors, STAGING)


def divided(tile, B, T, count, multiprocessors, resident, alone):
    """Return (chunks of a sequence, tiles of a chunk)."""
    tiles = -(-T // tile.tokens)
    if count is None:
        return schedule.chunks(B * tile.blocks, tiles, multiprocessors, resident, alone)
    each = -(-tiles // count)
    return -(-tiles // each), each


def in_chunks(tile, B, T, skip, gated, count, each):
    """Return the traffic of three phases, without barriers; of the last one where a sequence is one chunk."""
    E, N = tile.E, tile.N
    early, slots = (count - 1) * each * tile.tokens, np.arange(B)[:, None] * count + np.arange(count)
    loads = tile.token(B, T, T).times(2 + gated) + tile.mixed(B, T, T).times(2) + tile.states().times(B * count)
    loads += over(slots, E * N * FLOAT, tile.one_state) + tile.share().times(B * (count - 1) + B * count * (1 + skip))
    stores = tile.token(B, T, T) + tile.states(B)
    if count > 1:
        loads += tile.token(B, T, early).times(2) + tile.mixed(B, T, early) + tile.states().times(B * (count - 1))
        loads += run(0, E * N, FLOAT).times(B) + heads(B, E * N * FLOAT, lambda first: run(first, E * N, FLOAT))
        loads += over(slots[:, :-1], E * N * FLOAT, lambda first: run(first, E * N, FLOAT))
        loads += over(slots[:, :-1], E * FLOAT, lambda first: sums_read(first, E, N))
        stores += over(slots[:, :-1], E * N * FLOAT, tile.one_state) + over(slots[:, :-1], E * FLOAT, tile.one_sum)
        stores += over(slots, E * N * FLOAT, lambda first: run(first, E * N, FLOAT))
    return loads.loads() + stores.stores()


def over(slots, stride, cost):
    """Return the sum of ``cost(first_byte)`` over some slots of an array, `stride` bytes apart."""
    places = np.unique(slots * stride % 32, return_counts=True)
    return sum((cost(int(first)).times(n) for first, n in zip(*places)), Access())


def sums_read(first, E, N):
    """Return the cost of reading E sums, each by the N threads that carry its channel's states."""
    begin = np.arange(0, E * N, 32)
    low, high = begin // N, (np.minimum(begin + 32, E * N) - 1) // N
    return Access(len(begin), int(np.sum(span(first + FLOAT * low, FLOAT * (high - low + 1)))), FLOAT * E * N)
