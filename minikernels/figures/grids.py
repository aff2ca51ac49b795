"""How an array of any shape becomes one two-dimensional grid of cells that a screen can hold.

Leading axes on which the recorded block stays (its batch and its head) are fixed; the last axis runs along
the columns and the axes that are left fold into rows. A grid larger than `LIMIT` shows a mean of each patch.
"""

from dataclasses import dataclass

import numpy as np

from minikernels.simt.trace import STORE

__all__ = ["LIMIT", "Grid", "contents_before", "grid"]

LIMIT = 256  # cells along either side
WRAP = 64  # a long vector is shown in rows of this many


@dataclass(frozen=True)
class Grid:
    """One array of a trace as rows and columns of cells.

    Attributes
    ----------
    name, space, dtype, shape
        As the trace has them.
    fixed : tuple of bool
        The axes on which each block stays at one index.
    at : tuple of tuple of int
        For every recorded block, the index on each fixed axis (0 elsewhere).
    rows, columns : int
        Elements along the sides of the whole grid.
    row_pool, column_pool : int
        Elements that one cell stands for along the sides.
    """

    name: str
    space: str
    dtype: str
    shape: tuple
    fixed: tuple
    at: tuple
    rows: int
    columns: int
    row_pool: int
    column_pool: int

    @property
    def cell_rows(self):
        """Cells from top to bottom."""
        return -(-self.rows // self.row_pool)

    @property
    def cell_columns(self):
        """Cells from left to right."""
        return -(-self.columns // self.column_pool)

    @property
    def slices(self):
        """The distinct places that blocks stay at, in the order of their first block."""
        return list(dict.fromkeys(self.at))

    def label(self, block=0):
        """Return the slice in Python's notation, ``k[0, 1]`` or ``k_pages[:, :, 2]``; the name alone for all of it."""
        parts = [str(i) if fixed else ":" for i, fixed in zip(self.at[block], self.fixed, strict=True)]
        while parts and parts[-1] == ":":
            parts.pop()
        return f"{self.name}[{', '.join(parts)}]" if parts else self.name

    def cells(self, index, block=0):
        """Return the cell number of each flat index into the array; -1 where this block's grid lacks it."""
        index = np.asarray(index, np.int64)
        row = np.zeros(index.shape, np.int64)
        inside = np.ones(index.shape, bool)
        axes = np.unravel_index(index, self.shape) if self.shape else ()
        for axis, (i, fixed) in enumerate(zip(axes, self.fixed, strict=True)):
            if fixed:
                inside &= i == self.at[block][axis]
            else:
                row = row * self.shape[axis] + i
        row, column = np.divmod(row, self.columns)
        cell = row // self.row_pool * self.cell_columns + column // self.column_pool
        return np.where(inside, cell, -1)

    def values(self, array, at):
        """Return the cells' values (mean of a patch, NaN where all of it is NaN) of one slice of the array."""
        place = tuple(i if fixed else slice(None) for i, fixed in zip(at, self.fixed, strict=True))
        part = np.asarray(array, np.float64)[place]
        padded = np.full((self.cell_rows * self.row_pool, self.cell_columns * self.column_pool), np.nan)
        flat = np.full(self.rows * self.columns, np.nan)
        flat[:part.size] = part.ravel()
        padded[:self.rows, :self.columns] = flat.reshape(self.rows, self.columns)
        if self.row_pool == self.column_pool == 1:
            return padded
        patches = padded.reshape(self.cell_rows, self.row_pool, self.cell_columns, self.column_pool)
        seen = np.isfinite(patches)
        count = seen.sum((1, 3))
        total = np.where(seen, patches, 0.0).sum((1, 3))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def grid(trace, number, limit=LIMIT):
    """Return the `Grid` of a trace's array (its index in ``trace.arrays``)."""
    info, columns = trace.arrays[number], trace.columns
    shape = tuple(info.shape)
    touched = [_touched(columns, number, block) for block in range(len(trace.blocks))]
    fixed, kept = [False] * len(shape), len(shape)
    for axis in range(len(shape) - 1 if info.space == "global" else 0):
        if kept > 2 and all(len(np.unique(np.unravel_index(t, shape)[axis])) == 1 for t in touched if len(t)):
            fixed[axis], kept = True, kept - 1
    at = tuple(tuple(int(i) if f else 0 for i, f in zip(np.unravel_index(t[0] if len(t) else 0, shape), fixed,
                                                       strict=True)) if np.prod(shape) else (0,) * len(shape)
               for t in touched)
    sides = [size for size, f in zip(shape, fixed, strict=True) if not f]
    rows, cols = int(np.prod(sides[:-1], dtype=np.int64)), int(sides[-1]) if sides else 1
    if rows == 1 and cols > limit:
        rows, cols = -(-cols // WRAP), WRAP
    return Grid(info.name, info.space, info.dtype, shape, tuple(fixed), at, rows, cols,
                max(1, -(-rows // limit)), max(1, -(-cols // limit)))


def contents_before(trace, number):
    """Return a global array as a reader should see it before the launch.

    Where the recorded blocks store into an array and load nothing that they have not stored, what it held before is
    of no account (an output, often uninitialised memory): NaN throughout, drawn as not written.
    """
    info, columns = trace.arrays[number], trace.columns
    start = columns["access_start"]
    with np.errstate(invalid="ignore"):  # uninitialised memory may hold a signalling NaN
        before = np.asarray(trace.initial[info.name], np.float64)
    stored = np.zeros(before.size, bool)
    for a in np.flatnonzero(columns["access_array"] == number):
        index = columns["pool_index"][start[a]:start[a + 1]]
        if columns["access_op"][a] == STORE:
            stored[index] = True
        elif not stored[index].all():
            return before
    return np.full(before.shape, np.nan) if stored.any() else before


def _touched(columns, number, block):
    """Return the flat indices that one block touched in one array."""
    rows = np.flatnonzero((columns["access_array"] == number) & (columns["access_block"] == block))
    start = columns["access_start"]
    parts = [columns["pool_index"][start[a]:start[a + 1]] for a in rows]
    return np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.int64)
