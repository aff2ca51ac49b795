"""From a mask of blocks to what a kernel walks: row pointers, column indices, and which blocks are full.

NumPy alone; CuPy arrays stay on the GPU (NumPy's functions hand them on), and nothing here makes the host wait for it.
"""

import numbers
from typing import NamedTuple

import numpy as np

from minikernels.core.errors import DtypeError, ShapeError

__all__ = ["BlockLists", "block_lists", "check_block", "check_mask", "reach", "visible"]

LAYOUT = "(B, H, ceil(T/R), ceil(S/C))"


class BlockLists(NamedTuple):
    """The blocks that every row of blocks visits, in compressed sparse row format (CSR).

    Attributes
    ----------
    starts : array of shape (N + 1,), int32
        Row n's blocks stand at ``columns[starts[n]:starts[n + 1]]``. N counts the rows of blocks of all heads that the
        mask tells apart: row i of mask[b, h] is ``(b * mask.shape[1] + h) * mask.shape[2] + i``.
    full : array of shape (N,), int32
        How many of a row's blocks, the first ones, are full: every cell is seen. The others are partial: the diagonal
        goes through them, or the keys end in them.
    columns : array of shape (starts[-1],), int32
        Column of each block; ascending among a row's full blocks, and among its partial ones. On a GPU the array is
        longer, for its length would have to be waited for; what stands past ``starts[-1]`` means nothing.
    """

    starts: np.ndarray
    full: np.ndarray
    columns: np.ndarray


def block_lists(mask, T, S, block, causal=False):
    """Return the lists of blocks to visit, causal masking taken into account.

    Parameters
    ----------
    mask : array of shape (B or 1, H or 1, ceil(T/R), ceil(S/C)), bool
        Which blocks are kept.
    T, S : int
        Queries and keys.
    block : (int, int)
        R queries by C keys.
    causal : bool
        Query t sees key s iff ``s <= t + S - T``; blocks wholly in the future are left out.

    Returns
    -------
    BlockLists

    Raises
    ------
    ShapeError
        If the mask does not cover T and S with such blocks, or `block` is no pair of sizes.
    DtypeError
        If the mask is not boolean.

    Examples
    --------
    >>> mask = np.ones((1, 1, 2, 3), bool)
    >>> lists = block_lists(mask, T=8, S=10, block=(4, 4), causal=True)  # rows see 3..6 and 7..10 keys
    >>> [x.tolist() for x in lists]
    [[0, 2, 5], [0, 1], [0, 1, 0, 1, 2]]
    """
    block = check_block(block)
    check_mask(mask, T, S, block)
    rows, width = int(np.prod(mask.shape[:3])), mask.shape[3]
    seen, whole = reach(mask, T, S, block, causal)
    kept, full = ((mask & part).reshape(rows, width) for part in (seen, whole))
    here, there = (np.cumsum(part, axis=1, dtype=np.int32) for part in (full, kept & ~full))
    counts = np.sum(full, axis=1, dtype=np.int32)
    starts = np.zeros_like(counts, shape=rows + 1)
    starts[1:] = np.cumsum(np.sum(kept, axis=1, dtype=np.int32))
    rank = np.where(full, here, counts[:, None] + there) - 1
    place = np.where(kept, starts[:-1, None] + rank, kept.size)  # what is not kept goes to a last place, cut off below
    columns = np.zeros_like(counts, shape=kept.size + 1)
    columns[place] = np.broadcast_to(np.arange(width, dtype=np.int32, like=mask), kept.shape)
    return BlockLists(starts, counts, columns[: starts[-1] if isinstance(mask, np.ndarray) else -1])


def reach(mask, T, S, block, causal):
    """Return which blocks have a cell that is seen, and which have no other; (ceil(T/R), ceil(S/C)) each.

    Both live beside `mask`. Without a causal mask only a last column that sticks out over the keys is not whole.
    """
    R, C = block
    i, first = np.arange(-(-T // R), like=mask)[:, None], C * np.arange(-(-S // C), like=mask)
    nearest, farthest = (i * R + 1, np.minimum(i * R + R, T)) if causal else (T + 0 * i, T + 0 * i)
    seen = first < np.minimum(farthest + (S - T), S)
    return seen, first + C <= np.minimum(nearest + (S - T), S)


def visible(mask, T, S, block, causal):
    """Return which cells are seen, (mask's B, mask's H, T, S): the mask with every block spread out."""
    row, key = np.arange(T, like=mask), np.arange(S, like=mask)
    cells = mask[:, :, row[:, None] // block[0], key // block[1]]
    return cells & (key <= row[:, None] + (S - T)) if causal else cells


def check_block(block):
    """Return `block` as (R, C), or raise ShapeError unless it is a pair of sizes."""
    sizes = tuple(block) if isinstance(block, (tuple, list)) else ()
    whole = all(isinstance(n, numbers.Integral) and not isinstance(n, bool) and n >= 1 for n in sizes)
    if len(sizes) != 2 or not whole:
        raise ShapeError(f"block is {block!r}; it must be (R, C), two integers of at least 1: queries by keys")
    return int(sizes[0]), int(sizes[1])


def check_mask(mask, T, S, block, B=None, H=None):
    """Raise ShapeError or DtypeError, in letters, unless the mask covers T and S (and B and H, where given)."""
    if not hasattr(mask, "shape"):
        raise DtypeError(f"mask is of type {type(mask).__name__}; it must be a bool array of shape {LAYOUT}")
    shape, (R, C) = tuple(int(n) for n in mask.shape), block
    if len(shape) != 4:
        count = "1 axis" if len(shape) == 1 else f"{len(shape)} axes"
        raise ShapeError(f"mask has shape {shape}, {count}; it must be {LAYOUT}")
    if mask.dtype != np.bool_:
        raise DtypeError(f"mask has dtype {mask.dtype}; it must be bool")
    found_in = f"mask has shape {shape} = {LAYOUT}"
    for letter, found, wanted in (("B", shape[0], B), ("H", shape[1], H)):
        if wanted is not None and found not in (1, wanted):
            raise ShapeError(f"{found_in}; {letter}={found} must be 1, or {letter}={wanted} of q")
    for spelled, found, wanted, size in (("ceil(T/R)", shape[2], -(-T // R), f"T={T} in blocks of R={R}"),
                                         ("ceil(S/C)", shape[3], -(-S // C), f"S={S} in blocks of C={C}")):
        if found != wanted:
            raise ShapeError(f"{found_in}; {spelled}={found} must be {wanted}: {size}")
