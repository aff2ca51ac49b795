"""HBM traffic of the rungs that copy whole steps of tokens into shared memory, in closed form."""

from minikernels.core.sectors import SECTOR, Access
from minikernels.kv_compression.traffic_raw import CHUNK, LANES, MULTIPROCESSORS, WARPS, Block, split

STEPS, MOST_BITS, RESIDENT = (64, 32, 16), 32 * 4 * 128, 4


class Steps(Block):
    """How a block of v7_matrices and v8_ring reads tokens: 16 bytes a lane, from one place on.

    A warp-wide copy is a request, as a load is; every run of bytes begins and ends with a sector.
    """

    def __init__(self, R, held):
        self.held, self.tokens, self.resident = held, WARPS * held.group, RESIDENT
        self.parts = [min(8, R - first) for first in range(0, R, 8)]  # query heads of each block of a group
        self.shared = -(-held.D // min(held.group, held.D))
        self.step = next(n for n in STEPS if held.group % n == 0 and n * held.bits * held.D <= MOST_BITS)
        self.chunks = held.row // CHUNK
        self.word = 32 // held.bits * held.itemsize  # bytes of the numbers that a lane has of a chunk

    def queries(self, B, G, D, itemsize):
        """Return the cost of all queries: a block reads a chunk's channels of all its heads at a time."""
        size = D * itemsize * sum(self.parts)
        return Access(self.chunks * len(self.parts), size // SECTOR, size).times(B * G)

    def cache(self, cuts):
        """Return the cost of reading keys and values once; ``cuts(length)`` are the ends of a sequence's shares."""
        held, item = self.held, self.held.itemsize
        codes, ranges = copied(self.step * held.row), copied(2 * self.step * self.shared * item)
        total = self.newest(cuts)
        for length in held.lengths:
            steps, groups = (-(-min(length, held.quantized) // n) for n in (self.step, held.group))
            once = (codes.times(2) + ranges).times(steps) + copied(2 * held.D * item).times(groups)
            total += once.times(held.G)
        return total.times(len(self.parts))

    def newest(self, cuts):
        """Return the cost of reading recent tokens, 16 of them at a time: keys by words, values by two channels."""
        held, N = self.held, self.held.quantized
        total = Access()
        for length in held.lengths:
            ends = [max(N, min(length, cut)) - N for cut in (0, *cuts(length))]
            for a, b in zip(ends, ends[1:]):
                for first in range(a, b, 8):
                    total += self.eight(min(8, b - first)).times(held.G)
        return total

    def eight(self, count):
        """Return the cost of `count` recent tokens of 8: rows begin with a sector."""
        width = 4 * self.word  # bytes of a row that a request takes, of keys
        keys = Access(1, count * width // SECTOR, count * width).times(self.chunks)
        values = Access()
        for which in range(2):  # tokens 0, 2, 4, 6, then 1, 3, 5, 7; a lane takes two channels of its place in a chunk
            rows = len(range(which, count, 2))
            values += Access(rows > 0, rows * width // SECTOR, rows * 8 * 4).times(self.chunks * self.word // 8)
        return keys + values


def copied(size):
    """Return the cost of a warp's copying `size` bytes, 16 a lane."""
    return Access(-(-size // (CHUNK * LANES)), size // SECTOR, size)


def v7_matrices(B, H, G, D, itemsize, held, count=None, multiprocessors=MULTIPROCESSORS):
    """As v6, by other requests: everything of a step of tokens is copied once; q once a share."""
    return split(B, H, G, D, itemsize, held, Steps(H // G, held), 2, count, multiprocessors)


def v8_ring(*sizes, **options):
    """As v7_matrices: the same copies, earlier."""
    return v7_matrices(*sizes, **options)
