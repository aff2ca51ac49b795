"""Closed forms for what a warp's global accesses cost: requests, 32-byte sectors and bytes.

The arithmetic is exact for rows that start anywhere, and needs no simulation: only a first byte modulo 32 matters, so
few cases differ. Offsets are in bytes from the start of an array, which is 256-byte aligned on a GPU.
"""

from functools import cache
from math import gcd
from typing import NamedTuple

import numpy as np

from minikernels.core.traffic import Traffic

__all__ = ["Access", "alignments", "heads", "padded_tile", "rows", "run", "scattered"]

SECTOR = 32  # bytes
WARP = 32  # lanes


class Access(NamedTuple):
    """Requests, sectors and bytes; adds up field by field, and scales with ``times(n)``."""

    requests: int = 0
    sectors: int = 0
    bytes: int = 0

    def __add__(self, other):
        return Access(*(x + y for x, y in zip(self, other, strict=True)))

    def __radd__(self, other):
        return self if other == 0 else NotImplemented  # lets sum() start from its 0

    def times(self, n):
        """Return the cost of doing this n times."""
        return Access(*(int(n) * x for x in self))

    def loads(self):
        """Return the Traffic of these as loads."""
        return Traffic(load_requests=self.requests, load_sectors=self.sectors, load_bytes=self.bytes)

    def stores(self):
        """Return the Traffic of these as stores."""
        return Traffic(store_requests=self.requests, store_sectors=self.sectors, store_bytes=self.bytes)


def span(first, size):
    """Return how many sectors the `size` bytes from byte `first` on touch; both may be arrays.

    >>> span(0, 32), span(4, 32), span(28, 4), span(8, 0)
    (1, 2, 1, 0)
    """
    return (first % SECTOR + size + SECTOR - 1) // SECTOR * (size > 0)


def alignments(count, stride):
    """Return {byte offset modulo 32: how many of the offsets 0, stride, 2*stride, ... (count of them) have it}.

    >>> alignments(5, 16)
    {0: 3, 16: 2}
    """
    period = SECTOR // gcd(SECTOR, stride)
    return {i * stride % SECTOR: len(range(i, count, period)) for i in range(min(period, count))}


def heads(count, stride, cost):
    """Return the sum of ``cost(first_byte)`` over `count` equal parts of an array, `stride` bytes apart.

    >>> heads(3, 4, lambda first: run(first, 8, 4))
    Access(requests=3, sectors=5, bytes=96)
    """
    return sum((cost(first).times(n) for first, n in alignments(count, stride).items()), Access())


def run(first, elements, itemsize):
    """Return the cost of consecutive elements, consecutive lanes reading consecutive elements.

    `first` and `elements` may be arrays of the same shape: then the sum over all of them.

    >>> run(0, 70, 4)
    Access(requests=3, sectors=9, bytes=280)
    """
    whole, rest = elements // WARP, elements % WARP  # a whole warp reads 64 or 128 bytes: all start alike
    sectors = whole * span(first, WARP * itemsize) + span(first, rest * itemsize)
    parts = (whole + (rest > 0), sectors, elements * itemsize)
    return Access(*(int(np.sum(part)) for part in parts))


def rows(first, count, D, itemsize, group=WARP, width=1):
    """Return the cost of reading `count` rows of D elements, each by the lanes that own it.

    A warp owns `group` consecutive rows and reads `width` neighbouring columns of each at a time: ``group=32, width=1``
    is one thread a row, ``group=8, width=4`` four threads a row.

    >>> rows(0, 32, 8, 4)  # one thread a row: 8 requests of 32 lanes that are 32 bytes apart
    Access(requests=8, sectors=256, bytes=1024)
    >>> rows(0, 32, 8, 4, group=8, width=4)  # four threads a row: the same 8 requests, a fourth of the sectors
    Access(requests=8, sectors=64, bytes=1024)
    """
    stride = group * D * itemsize
    whole, rest = divmod(count, group)
    total = warp_rows((first + whole * stride) % SECTOR, rest, D, itemsize, width)
    for offset, n in alignments(whole, stride).items():
        total += warp_rows((first + offset) % SECTOR, group, D, itemsize, width).times(n)
    return total


@cache
def warp_rows(first, count, D, itemsize, width):
    """Return the cost for one warp that owns `count` rows."""
    if count == 0:
        return Access()
    columns = np.arange(0, D, width)[:, None]
    start = first + (np.arange(count) * D + columns) * itemsize  # (requests, rows): a run of bytes in each row
    size = np.broadcast_to(np.minimum(width, D - columns) * itemsize, start.shape)
    return Access(len(columns), distinct(start, size), count * D * itemsize)


def scattered(first, count, D, itemsize, group, places):
    """Return the cost of `count` rows of D elements where request r of a warp takes the columns ``places[r]``.

    Parameters
    ----------
    first, count, D, itemsize, group
        As in `rows`: a warp owns `group` consecutive rows.
    places : ndarray of shape (requests, columns), int
        Ascending in each request. A lane whose column is D or more is idle.

    Examples
    --------
    >>> scattered(0, 1, 6, 4, 1, np.array([[0, 4], [1, 5], [2, 6], [3, 7]]))
    Access(requests=4, sectors=4, bytes=24)
    """
    total, stride = Access(), group * D * itemsize
    whole, rest = divmod(count, group)
    parts = [(offset, n, group) for offset, n in alignments(whole, stride).items()]
    for offset, n, held in [*parts, (whole * stride, 1, rest)]:
        if held:
            row = first % SECTOR + offset + np.arange(held)[None, :, None] * D * itemsize
            start = (row + places[:, None, :] * itemsize).reshape(len(places), -1)
            size = np.broadcast_to(np.where(places < D, itemsize, 0)[:, None, :], (len(places), held, places.shape[1]))
            size = size.reshape(len(places), -1)
            cost = Access(int(np.sum(size.any(axis=1))), distinct(start, size), held * D * itemsize)
            total += cost.times(n)
    return total


def distinct(start, size):
    """Return the number of sectors that runs of bytes touch, counting a sector once in each row of the array.

    The runs of a row that are not empty ascend, so a run adds the sectors past the last one of those before it.
    """
    high = np.maximum.accumulate(np.where(size > 0, (start + size - 1) // SECTOR, -1), axis=1)
    low = start // SECTOR
    low[:, 1:] = np.maximum(low[:, 1:], high[:, :-1] + 1)
    return int(np.sum((high - low + 1)[size > 0]))


@cache
def padded_tile(first, count, D, itemsize, width):
    """Return the cost of reading `count` whole rows of D elements into rows of `width` >= D in shared memory.

    Lane i of the block takes place i, i + threads, ... of the padded tile; lanes on a padding column read nothing.
    ``first`` counts modulo 32. With width = D this is `run`.

    >>> padded_tile(0, 4, 6, 4, 8)  # 4 rows of 6 and 2 columns of padding: 32 lanes, 24 of them active
    Access(requests=1, sectors=3, bytes=96)
    """
    if width == D:
        return run(first, count * D, itemsize)
    last = (count - 1) * width + D  # one past the last place that is not padding
    place = np.arange(0, last, WARP)
    begin, end = (at // width * D + np.minimum(at % width, D) for at in (place, np.minimum(place + WARP, last)))
    sectors = span(first + begin * itemsize, (end - begin) * itemsize)
    return Access(int(np.sum(end > begin)), int(np.sum(sectors)), count * D * itemsize)
