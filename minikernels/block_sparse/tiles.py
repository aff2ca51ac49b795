"""How a kernel cuts the blocks of a mask into what a block of threads can hold: rows of queries, tiles of keys."""

import math
from typing import NamedTuple

from minikernels.core.errors import ShapeError
from minikernels.core.limits import tile_rows

__all__ = ["MmaTile", "WgmmaTile", "key_tile", "mma_tile", "row_parts", "threads", "wgmma_tile"]

ROWS_LIMIT = 128  # query rows of a block of threads, one a thread: 128 of 255 registers are half of an SM's


def row_parts(R):
    """Return (rows of a part, parts): a block of R query rows is shared by as few blocks of threads as will do.

    >>> row_parts(64), row_parts(128), row_parts(300)
    ((64, 1), (128, 1), (100, 3))
    """
    parts = math.ceil(R / ROWS_LIMIT)
    return math.ceil(R / parts), parts


def threads(rows):
    """Return the threads of a block that owns `rows` rows: whole warps, so that loads come in whole requests."""
    return 32 * math.ceil(rows / 32)


def key_tile(C, D):
    """Return how many keys of a block of C are in shared memory at a time: equal tiles that fit 48 KB, K and V both.

    >>> key_tile(16, 64), key_tile(128, 64), key_tile(40, 64)
    (16, 32, 20)
    """
    return math.ceil(C / math.ceil(C / tile_rows(D)))


class MmaTile(NamedTuple):
    """How the tensor-core kernels cut a block of the mask; the names are those of their constants.

    Attributes
    ----------
    ROWS, PARTS : int
        Query rows of a block of threads, and how many of them share a block row of the mask.
    WARPS, MTILES : int
        Warps of a block of threads, and tiles of 16 rows of a warp.
    BLOCK_S : int
        Keys of a tile.
    """

    ROWS: int
    PARTS: int
    WARPS: int
    MTILES: int
    BLOCK_S: int


def mma_tile(D, block):
    """Return the tile for one head width and one block of the mask.

    >>> mma_tile(128, (128, 128))
    MmaTile(ROWS=128, PARTS=1, WARPS=4, MTILES=2, BLOCK_S=32)
    >>> mma_tile(64, (16, 80))
    MmaTile(ROWS=16, PARTS=1, WARPS=1, MTILES=1, BLOCK_S=48)
    """
    R, C = block
    rows, parts = row_parts(R)
    tiles = math.ceil(rows / 16)
    tall = 2 if tiles > 4 else 1  # a fragment of K or V then serves two tiles of rows
    most = 32 if D > 64 and tall == 2 else 64  # 64 keys of wide heads would spill registers
    keys = 16 * math.ceil(math.ceil(C / 16) / math.ceil(C / most))
    return MmaTile(rows, parts, math.ceil(tiles / tall), tall, keys)


class WgmmaTile(NamedTuple):
    """How v7_wgmma cuts a block of the mask; the names are those of its constants.

    Attributes
    ----------
    CONSUMERS : int
        Warpgroups of a block of threads that multiply, of 64 query rows each.
    BLOCK_S : int
        Keys of a tile.
    STAGES : int
        Tiles of K, and of V, that shared memory holds.
    BLOCKS : int
        Blocks of threads that share an SM.
    """

    CONSUMERS: int
    BLOCK_S: int
    STAGES: int
    BLOCKS: int


def wgmma_tile(block):
    """Return the tile for one block of the mask, (R, C), or raise ShapeError.

    >>> wgmma_tile((128, 128)), wgmma_tile((64, 128))
    (WgmmaTile(CONSUMERS=2, BLOCK_S=128, STAGES=2, BLOCKS=1), WgmmaTile(CONSUMERS=1, BLOCK_S=64, STAGES=2, BLOCKS=2))
    """
    for letter, size in zip("RC", block, strict=True):
        if size % 64:
            rule = f"{letter}={size} must be a multiple of 64 for rung v7_wgmma; rung v6_async takes any"
            raise ShapeError(f"block is {block} = (R, C); {rule}")
    if block[0] % 128:
        return WgmmaTile(1, 64, 2, 2)
    keys = 64 if block[1] % 128 else 128
    return WgmmaTile(2, keys, 256 // keys, 1)
