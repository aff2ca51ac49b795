"""Lanes and masks: which threads of the launch execute the present statement.

A value is a NumPy scalar (the same in all lanes) or a two-dimensional array that broadcasts to (blocks,
threads): ``blockIdx.x`` is (blocks, 1), ``threadIdx.x`` is (1, threads). A value's shape therefore says how
uniform it is, and arithmetic on uniform values costs next to nothing. Arrays are never changed in place, so
that the identity of an index array can stand for its contents in caches.

The threads axis is padded to a whole number of warps; padding lanes are never active.
"""

import numpy as np

__all__ = ["WARP", "Geometry", "Mask", "Place", "place"]

WARP = 32


class Mask:
    """A set of active lanes. ``bits`` is None where every lane of the chunk is active."""

    __slots__ = ("_blocks", "_full", "_warps", "bits", "geometry", "lanes")

    def __init__(self, geometry, bits):
        self.geometry, self.bits = geometry, bits
        if bits is None:
            self.lanes = geometry.blocks * geometry.width
        else:
            self.lanes = int(np.count_nonzero(bits)) * (geometry.blocks * geometry.width // bits.size)
        self._warps = self._full = self._blocks = None

    @property
    def full(self):
        """The mask as a (blocks, width) array."""
        if self._full is None:
            shape = (self.geometry.blocks, self.geometry.width)
            self._full = np.ones(shape, bool) if self.bits is None else np.broadcast_to(self.bits, shape)
        return self._full

    @property
    def warps(self):
        """Number of warps with an active lane."""
        if self._warps is None:
            g = self.geometry
            if self.bits is None:
                self._warps = g.blocks * g.warps
            elif self.bits.shape[1] == 1:
                self._warps = int(np.count_nonzero(self.bits)) * (g.blocks // self.bits.shape[0]) * g.warps
            else:
                rows = self.bits.reshape(-1, WARP).any(axis=1)
                self._warps = int(np.count_nonzero(rows)) * (g.blocks // self.bits.shape[0])
        return self._warps

    @property
    def blocks(self):
        """Which blocks have an active lane: a bool array (blocks,)."""
        if self._blocks is None:
            self._blocks = self.full.any(axis=1)
        return self._blocks

    def both(self, condition):
        """Split into (lanes where the condition holds, lanes where it does not)."""
        if condition.ndim == 0:
            return (self, self.geometry.empty) if condition else (self.geometry.empty, self)
        if condition.dtype != bool:
            condition = condition != 0
        yes = self.narrow(condition)
        if yes is self:
            return self, self.geometry.empty
        if not yes.lanes:
            return self.geometry.empty, self
        return yes, self.narrow(~condition)

    def narrow(self, condition):
        """Return the lanes of this mask where the (array) condition holds; this very object if all do."""
        bits = condition if self.bits is None else self.bits & condition
        mask = Mask(self.geometry, bits)
        return self if mask.lanes == self.lanes else mask if mask.lanes else self.geometry.empty

    def minus(self, other):
        """Return the lanes of this mask that are not in ``other``."""
        if not other.lanes or not self.lanes:
            return self
        if other is self or other.bits is None:
            return self.geometry.empty
        return self.narrow(~other.bits)

    def plus(self, other):
        """Return the lanes of either mask."""
        if not other.lanes or other is self:
            return self
        if not self.lanes:
            return other
        if self.bits is None or other.bits is None:
            return self if self.bits is None else other
        return Mask(self.geometry, self.bits | other.bits)

    def coordinates(self):
        """Return (block row, thread) index arrays of the active lanes, in launch order."""
        return np.nonzero(self.full)


class Geometry:
    """The lanes of one chunk of a launch: ``blocks`` consecutive blocks of ``block`` threads each.

    Attributes
    ----------
    grid, block : tuple of int
        The launch's shape, three axes.
    first, blocks : int
        The chunk's first block number in the launch, and how many it has.
    threads, width, warps : int
        Threads of a block, the same padded to whole warps, and that in warps.
    """

    def __init__(self, grid, block, first, blocks):
        self.grid, self.block, self.first, self.blocks = grid, block, first, blocks
        self.threads = block[0] * block[1] * block[2]
        self.warps = -(-self.threads // WARP)
        self.width = self.warps * WARP
        self.empty = Mask(self, np.zeros((1, 1), bool))
        real = np.arange(self.width) < self.threads
        self.everyone = Mask(self, None if self.width == self.threads else real[None, :])
        number = np.arange(self.width)
        self.thread_index = tuple(_axis(number % block[0] if axis == 0 else
                                        number // block[0] % block[1] if axis == 1 else
                                        number // (block[0] * block[1]), block[axis], (1, -1)) for axis in range(3))
        number = np.arange(first, first + blocks)
        self.block_index = tuple(_axis(number % grid[0] if axis == 0 else
                                       number // grid[0] % grid[1] if axis == 1 else
                                       number // (grid[0] * grid[1]), grid[axis], (-1, 1)) for axis in range(3))
        self.lane_index = np.arange(self.width, dtype=np.int32)[None, :] % np.int32(WARP)

    def name(self, row, thread):
        """Return ((block x, y, z), (thread x, y, z)) of a lane of this chunk."""
        return self.name_global((self.first + int(row)) * self.width + int(thread))

    def name_global(self, lane):
        """Return ((block x, y, z), (thread x, y, z)) of a lane numbered through the whole launch."""
        block, thread = divmod(int(lane), self.width)
        return _unravel(block, self.grid), _unravel(thread, self.block)


def _axis(values, extent, shape):
    # A single-valued axis is a scalar, so that everything computed from it stays uniform.
    if extent == 1:
        return np.int32(0)
    if values.size == 1:
        return np.int32(values[0])
    return values.astype(np.int32).reshape(shape)


class Place(tuple):
    """(x, y, z) of a block or thread, which knows how many of the axes its launch uses."""

    axes = 3


def place(triple, shape):
    """Return (x, y, z) as the `Place` of a block in a grid, or of a thread in a block, of that shape."""
    made = Place(triple)
    made.axes = 3 if shape[2] > 1 else 2 if shape[1] > 1 else 1
    return made


def _unravel(number, shape):
    return place((number % shape[0], number // shape[0] % shape[1], number // (shape[0] * shape[1])), shape)
