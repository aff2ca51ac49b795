"""HBM traffic of the CUDA C++ rungs over quantised caches, in closed form, as `traffic` exports them.

How many blocks share a sequence in v5_split_kv depends on the GPU, by default one with 132 multiprocessors.
"""

import numpy as np

from minikernels.core.decode import shares
from minikernels.core.decode_traffic import each_row, left_states, lookups, over_slots
from minikernels.core.sectors import SECTOR, Access, heads, rows, run, scattered, span

CHUNK, WARPS, LANES = 16, 4, 32
FLOAT, STATE = 4, 8  # bytes of a number of o and of (m, l) that a block leaves
MULTIPROCESSORS = 132


class Block:
    """What blocks of all these kernels do alike; `parts` are the query heads of each block of a group."""

    def queries(self, B, G, D, itemsize):
        """Return the cost of reading all queries once, or of storing all outputs."""
        R = sum(self.parts)
        return each_row(B, G, R, D * itemsize, self.parts, lambda first, n: run(first, n * D, itemsize))


class Tile(Block):
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
    return split(B, H, G, D, itemsize, held, Tile(H // G, held), 3, count, multiprocessors)


def split(B, H, G, D, itemsize, held, tile, barriers, count, multiprocessors):
    """Return the traffic of a kernel that splits sequences, and of the one that merges what the shares left."""
    if count is None:
        tiles = -(-(held.quantized + held.recent) // tile.tokens)
        count = shares(B * G * len(tile.parts), tiles, multiprocessors * tile.resident)

    def cuts(length):
        tiles = -(-length // tile.tokens)
        share = -(-tiles // count) * tile.tokens
        return tuple((i + 1) * share for i in range(count))

    loads, o = common(B, H, G, D, itemsize, tile, count, cuts)
    stores = o if count == 1 else heads(B * H, D * itemsize, lambda first: run(first, D, itemsize))
    for part, n in enumerate(tile.parts if count > 1 else ()):
        row = np.arange(B * G)[:, None] * len(tile.parts) + part
        slots = (row * count + np.arange(count)).ravel()
        stores += over_slots(slots, tile.parts[0], D, lambda ml, o, n=n: left_states(ml, o, n, D))
        loads += over_slots(slots, tile.parts[0], D, lambda ml, o, n=n: read_states(o, n, D))
    traffic = loads.loads() + stores.stores()
    traffic.barriers = barriers * B * G * len(tile.parts) * count + B * H * (count > 1)
    return traffic


def read_states(first_o, held, D):
    """Return the cost of reading a share's states again: a warp a state and head, all lanes its (m, l)."""
    each = sum((run((first_o + h * D * FLOAT) % SECTOR, D, FLOAT) for h in range(held)), Access())
    return Access(held, held, held * LANES * STATE) + each


class Fragments(Block):
    """How a block of v6_mma reads the tokens of a cache: as the operands of its products want them."""

    def __init__(self, R, held):
        self.held, self.tokens = held, WARPS * held.group
        self.parts = [min(8, R - first) for first in range(0, R, 8)]  # query heads of each block of a group
        self.resident = 3 if held.itemsize == 2 else 2
        self.shared = -(-held.D // min(held.group, held.D))
        self.step = 32 if held.group % 32 == 0 and held.itemsize == 2 else 16
        wide = held.D % 64 == 0 and (held.group >= held.D or held.group % 64 == 0)
        self.run = held.bits * (8 if held.bits == 4 and wide else 4)  # bytes of a value that 8 lanes read together

    def cache(self, cuts):
        """Return the cost of reading keys and values once; ``cuts(length)`` are the ends of a sequence's shares."""
        held, D, item = self.held, self.held.D, self.held.itemsize
        N, group = held.quantized, held.group

        def tiles(length):  # the first of 8 tokens each: a step is read whole, past the end of a sequence too
            return range(0, -(-min(length, N) // self.step) * self.step, 8)

        def codes(first, length):  # a quarter of a key a lane, in one load or two
            loads = max(1, held.row // 64)
            part = held.row // loads
            starts = (first + (s + np.arange(8)) * held.row + load * part
                      for s in tiles(length) for load in range(loads))
            return sum((Access(1, distinct_sectors(start, part), 8 * part) for start in starts), Access())

        def values(first, length):  # one of a lane's two tokens, a run of its channels
            starts = (first + (s + np.arange(i, 8, 2)) * held.row + unit
                      for s in tiles(length) for i in range(2) for unit in range(0, held.row, self.run))
            return sum((Access(1, distinct_sectors(start, self.run), 4 * self.run) for start in starts), Access())

        def by_token(first, length):  # of a lane's two tokens
            loads = -(-2 * self.shared * item // CHUNK)
            size = 2 * self.shared * item // loads
            starts = (first + (s + np.arange(0, 8, 2)) * self.shared * item + load * CHUNK
                      for s in tiles(length) for load in range(loads))
            return sum((Access(1, distinct_sectors(start, size), 32 * size) for start in starts), Access())

        def by_channel(first, length):
            total = Access()
            for s in range(0, min(length, N), group):
                for t in range(D // 32):  # an octet of every quarter: 8 rows of lanes read the same
                    places = octets(D, held.bits, t) * item
                    start = first + s // group * D * item + places
                    for half in range(8 * item // CHUNK):
                        total += Access(1, distinct_sectors(start + half * CHUNK, CHUNK), 32 * CHUNK)
            return total

        total = held.of_each(N * held.row, codes) + held.of_each(N * held.row, values)
        total += held.of_each(N // group * D * item, by_channel).times(2)
        total += held.of_each(N * self.shared * item, by_token).times(2)
        return (total + self.newest(cuts)).times(len(self.parts))

    def newest(self, cuts):
        """Return the cost of reading recent tokens, 16 of them at a time: keys in octets, values number by number."""
        held, D, item, N = self.held, self.held.D, self.held.itemsize, self.held.quantized
        run = self.run // held.bits  # channels of a lane

        def one(first, length):
            ends, total = [max(N, min(length, cut)) - N for cut in (0, *cuts(length))], Access()
            for a, b in zip(ends, ends[1:]):
                for s in range(a, b, 8):
                    token = np.arange(s, min(s + 8, b))
                    for t in range(D // 32):
                        start = (first + token[:, None] * D * item + octets(D, held.bits, t) * item).ravel()
                        for half in range(8 * item // CHUNK):
                            total += Access(1, distinct_sectors(start + half * CHUNK, CHUNK), len(start) * CHUNK)
                    for i in range(2):
                        mine = np.arange(s + i, min(s + 8, b), 2)
                        for d in (u * 8 * run + x for u in range(D // (8 * run)) for x in range(run)):
                            start = (first + (mine[:, None] * D + d + run * np.arange(8)) * item).ravel()
                            total += Access(len(mine) > 0, distinct_sectors(start, item), len(start) * item)
            return total

        return held.of_each(held.recent * D * item, one)


def octets(D, bits, t):
    """Return the first channels of octet t of the four quarters of a key, as v6_mma's lanes hold them."""
    quarter = np.arange(4)
    return t // 2 * 64 + quarter * 16 + t % 2 * 8 if D * bits == 1024 else quarter * (D // 4) + 8 * t


def distinct_sectors(start, size):
    """Return how many sectors a request touches whose lanes read `size` bytes each from these places on."""
    places = np.asarray(start)[:, None] + np.arange(0, size, min(size, 4))
    return len(np.unique(np.append(places, np.asarray(start) + size - 1) // 32))


def v6_mma(B, H, G, D, itemsize, held, count=None, multiprocessors=MULTIPROCESSORS):
    """As v5, by other requests: what two lanes of a product need, both ask for."""
    return split(B, H, G, D, itemsize, held, Fragments(H // G, held), 2, count, multiprocessors)


def common(B, H, G, D, itemsize, tile, count, cuts):
    """Return the loads of lengths, q and the caches by `count` blocks a row, and the stores of o."""
    read = tile.queries(B, G, D, itemsize).times(count) + tile.cache(cuts)
    loads = lookups(B * G * len(tile.parts) * count) + read
    return loads, Block.queries(tile, B, G, D, itemsize)
