"""HBM traffic of every rung of decode over quantised caches, in closed form.

The forms of the numba kernels are exact for any sizes and lengths: they equal, number for number, what the SIMT machine
counts. The forms of the NumPy rungs give the bytes of the schedule that each of them spells out, for a kernel that keeps
everything else on the chip: they fill in ``load_bytes`` and ``store_bytes`` alone.

Every function takes the sizes B, H, G, S and D, the ``itemsize`` of q, o, scales, minima and recent tokens in bytes, the
``lengths`` of the sequences (S for all by default), ``bits`` and ``group`` of both caches and their ``window``; keys
have scales by channel, values by token. Where an axis is empty nothing is launched and nothing moves.
"""

from collections import Counter
from functools import wraps

import numpy as np

from minikernels.core.sectors import SECTOR, Access, heads, rows, run, span
from minikernels.core.traffic import Traffic

FLOAT = INT = 4  # bytes of a float32, and of a length
ROW = {"group": 1, "width": 32}  # a warp reads one row at a time, 32 neighbouring columns of it


def nothing_if_empty(form):
    """Return the form, made to give no traffic where an axis is empty, and handed a `Cache`."""

    @wraps(form)
    def guarded(B, H, G, S, D, itemsize=FLOAT, lengths=None, *, bits=4, group=64, window=0, **tile):
        if 0 in (B, H, G, S, D):
            return Traffic()
        lengths = [S] * B if lengths is None else [int(n) for n in lengths]
        return form(B, H, G, D, itemsize, Cache(G, S, D, itemsize, lengths, bits, group, window), **tile)

    return guarded


class Cache:
    """Where the numbers of a pair of quantised caches lie, and what reading them costs."""

    def __init__(self, G, S, D, itemsize, lengths, bits, group, window):
        self.G, self.D, self.itemsize, self.lengths, self.bits, self.group = G, D, itemsize, lengths, bits, group
        self.quantized = max(0, S - window) // group * group
        self.recent = S - self.quantized
        self.row = -(-D * bits // 8)  # bytes of a token's codes
        self.shared = -(-D // group)  # groups of a token's channels

    def of_each(self, stride, cost):
        """Return the sum of ``cost(first_byte, length)`` over the heads of an array, `stride` bytes apart."""
        places = Counter(((b * self.G + g) * stride % SECTOR, n)
                         for b, n in enumerate(self.lengths) for g in range(self.G))
        return sum((cost(first, length).times(count) for (first, length), count in places.items()), Access())

    def codes(self):
        """Return the cost of reading the codes of a cache once, a warp a token and 32 channels at a time."""
        index = np.arange(self.D) * self.bits // 8
        return self.tokens(self.row, index, 1)

    def scales(self):
        """Return the cost of reading a scale for every channel of every token, where channels share them."""
        return self.tokens(self.shared * self.itemsize, np.arange(self.D) // self.group, self.itemsize)

    def tokens(self, row, index, itemsize):
        """Return the cost of reading element ``index[c]`` of the row of every rounded token, for each channel c."""
        def one(first, length):
            start = first + np.arange(min(length, self.quantized)) * row
            return looked_up(start, index, itemsize)

        return self.of_each(self.quantized * row, one)

    def scales_by_channel(self, again):
        """Return the cost of reading rows of scales: once for a group of tokens, or ``again`` for each of them."""
        row = self.D * self.itemsize

        def one(first, length):
            token = np.arange(0, min(length, self.quantized), 1 if again else self.group)
            return looked_up(first + token // self.group * row, np.arange(self.D), self.itemsize)

        return self.of_each(self.quantized // self.group * row, one)

    def newest(self):
        """Return the cost of reading the residual window of a cache."""
        def one(first, length):
            return rows(first, max(0, length - self.quantized), self.D, self.itemsize, **ROW)

        return self.of_each(self.recent * self.D * self.itemsize, one)

    def bytes(self):
        """Return the bytes of keys and values, scales and minima that a kernel must read: all of them once."""
        total = 0
        for n in self.lengths:
            old = min(n, self.quantized)
            shared = -(-old // self.group) * self.D + old * self.shared  # of keys and of values
            total += 2 * old * self.row + 2 * shared * self.itemsize + 2 * (n - old) * self.D * self.itemsize
        return self.G * total


def looked_up(start, index, itemsize):
    """Return the cost of a warp reading element ``index[c]`` of rows, lane c % 32, for 32 channels c at a time.

    Parameters
    ----------
    start : ndarray of int
        First byte of each row.
    index : ndarray of int
        Ascending, without gaps.
    itemsize : int
    """
    low, high = index[::32], np.append(index[31:-1:32], index[-1])[: len(index[::32])]
    sectors = span(start[:, None] + low * itemsize, (high - low + 1) * itemsize)
    return Access(len(start) * len(low), int(np.sum(sectors)), len(start) * len(index) * itemsize)


def pieces(R, most=8):
    """Return how many query heads each block of a group takes: 8, 8, ..., and what is left."""
    return [min(most, R - first) for first in range(0, R, most)]


@nothing_if_empty
def reference(B, H, G, D, itemsize, held):
    """The caches dequantised to float64 in HBM and read back; scores and probabilities written and read back."""
    keys = sum(held.lengths)
    wide, square, once = 2 * G * keys * D * 8, H * keys * 8, B * H * D * itemsize
    return Traffic(load_bytes=once + held.bytes() + wide + 2 * square, store_bytes=wide + 2 * square + once)


@nothing_if_empty
def tiled(B, H, G, D, itemsize, held):
    """Codes, scales, minima and recent tokens read once, up to each sequence's length; q and o cross once."""
    once = B * H * D * itemsize
    return Traffic(load_bytes=once + held.bytes(), store_bytes=once)


@nothing_if_empty
def v1_dequantize(B, H, G, D, itemsize, held, warps=4):
    """A number costs three loads: its code, its scale and its minimum."""
    ranges = held.scales_by_channel(again=True) + held.scales()
    return of_warps(B, H, G, D, itemsize, held, ranges, warps)


@nothing_if_empty
def v2_folded_scales(B, H, G, D, itemsize, held, warps=4):
    """As v1, but the keys' scales and minima are read once a group of tokens."""
    ranges = held.scales_by_channel(again=False) + held.scales()
    return of_warps(B, H, G, D, itemsize, held, ranges, warps)


def of_warps(B, H, G, D, itemsize, held, ranges, warps):
    """Return the traffic of blocks of up to 8 heads of a group whose warps read tokens, and q each for itself."""
    parts = pieces(H // G)
    q, o = Access(), Access()
    for i, count in enumerate(parts):
        before, stride = sum(parts[:i]) * D * itemsize, H // G * D * itemsize
        q += heads(B * G, stride, lambda first, at=before, n=count: rows(first + at, n, D, itemsize, **ROW))
        o += heads(B * G, stride, lambda first, at=before, n=count: run(first + at, n * D, itemsize))
    cache = held.codes() + ranges + held.newest()  # of keys and of values; a scale and a minimum cost the same
    cache += held.codes() + ranges + held.newest()
    blocks = B * G * len(parts)
    lookups = Access(blocks * warps, blocks * warps, blocks * warps * 32 * INT)
    loads = lookups + q.times(warps) + cache.times(len(parts))
    traffic = loads.loads() + o.stores()
    traffic.barriers = blocks  # one before the warps' states are merged
    return traffic
