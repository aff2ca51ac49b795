"""Where the numbers of a pair of quantised caches lie in HBM, and what reading them a warp at a time costs."""

from collections import Counter

import numpy as np

from minikernels.core.sectors import SECTOR, Access, rows, span

ROW = {"group": 1, "width": 32}  # a warp reads one row at a time, 32 neighbouring columns of it


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
