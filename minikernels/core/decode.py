"""What the decode kernels of several techniques agree on: shares of a sequence, and the tiles of ``launch/group.cuh``.

Pure arithmetic, so that a launcher and its closed forms of traffic ask the same functions.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["CHUNK", "GROUP_KEYS", "MOST_SHARES", "Piece", "check_rows", "group_tile", "runs", "shares", "tiles_of"]

CHUNK = 16  # bytes of the widest load

MOST_SHARES = 128
WARPS = 4
GROUP_HEADS, GROUP_KEYS = 32, 64  # most heads of a block on the tensor cores, and the keys of its tile
KEYS = GROUP_KEYS // WARPS  # of a warp's step
MOST_STAGES = 4
RESERVED = 1024  # bytes of shared memory that the GPU keeps for itself in each block
UNDER_WAY = 32 * 1024  # bytes that a multiprocessor has to ask for at every moment: its part of 4.4 TB/s, times 1 us


def check_rows(sizes, dtype, rung, *, mma, other, wider):
    """Raise ShapeError, in letters, unless a rung in CUDA C++ takes rows of D numbers of this dtype.

    Parameters
    ----------
    sizes : minikernels.core.shapes.Sizes
    dtype : dtype
    rung : str
    mma : bool
        Whether it multiplies on tensor cores.
    other, wider : str
        Rungs that take any D, and a longer row.
    """
    step = CHUNK // np.dtype(dtype).itemsize
    if sizes["D"] == 0 or sizes["D"] % step:
        sizes.refuse("D", f"must be a multiple of {step}, and not 0, for {dtype} in rung {rung}; rung {other} takes it")
    if mma:
        sizes.at_most("D", 128, f"{rung} keeps the output of 32 heads in registers; rung v5_split_kv takes it")
    else:
        sizes.at_most("D", 32 * step, f"{rung} reads a row of {dtype} with one request; rung {wider} takes it")


class Piece(NamedTuple):
    """Some consecutive tiles of one row that one block absorbs."""

    b: int
    row: int
    first: int
    tiles: int


def tiles_of(lengths, block_s):
    """Return how many tiles of `block_s` keys each sequence has."""
    return [-(-int(n) // block_s) for n in lengths]


def runs(lengths, rows, block_s, places):
    """Return what each place absorbs where the tiles of all rows stand in one list, cut into equal runs (stream-K).

    Parameters
    ----------
    lengths : sequence of int
        Keys of each sequence, which has `rows` rows of tiles of `block_s` keys.
    rows, block_s, places : int

    Returns
    -------
    list of list of Piece
        `places` of them; the last may have less to do, or nothing.

    Examples
    --------
    >>> [[(p.b, p.first, p.tiles) for p in run] for run in runs([64, 16], rows=1, block_s=16, places=2)]
    [[(0, 0, 3)], [(0, 3, 1), (1, 0, 1)]]
    """
    line = [(b, row, tiles) for b, tiles in enumerate(tiles_of(lengths, block_s)) for row in range(rows)]
    run = -(-sum(tiles for *_, tiles in line) // places)
    work, place, room = [[] for _ in range(places)], 0, run
    for b, row, tiles in line:
        first = 0
        while first < tiles:
            if room == 0:
                place, room = place + 1, run
            piece = Piece(b, row, first, min(tiles - first, room))
            work[place].append(piece)
            first, room = first + piece.tiles, room - piece.tiles
    return work


def shares(rows, tiles, places):
    """Return into how many shares to cut each of `rows` rows of `tiles` tiles: the least that finish soonest.

    ``ceil(rows * n / places)`` rounds of blocks, each of which takes ``ceil(tiles / n)`` tiles and about one tile's
    time to start and to leave its state.

    Examples
    --------
    >>> shares(rows=8, tiles=256, places=132), shares(rows=1056, tiles=256, places=132)
    (16, 1)
    """
    def time(n):
        return -(-rows * n // places) * (-(-tiles // n) + 1)

    return min(range(1, max(1, min(tiles, MOST_SHARES)) + 1), key=time)


def group_tile(R, D, limit):
    """Return the constants of ``launch/group.cuh`` where R query heads share a key/value head.

    Heads are dealt to as few blocks of at most 32 as there can be, evenly. Two blocks on a multiprocessor, so that one
    reads on while the other ends a row; one where two have no room for a ring. Rings have as many steps as keep enough
    bytes under way, and no more: copies pass through L1, which has what shared memory leaves.

    Parameters
    ----------
    R, D : int
        Query heads of a group, and head width.
    limit : int
        Bytes of shared memory that a block may ask for; a multiprocessor has 1 KB more.

    Examples
    --------
    >>> group_tile(40, 128, 227 * 1024)
    {'D': 128, 'ITEM_BYTES': 2, 'R': 40, 'HEADS': 20, 'RESIDENT': 2, 'STAGES': 2, 'SHARED_BYTES': 76960}
    >>> group_tile(4, 128, 99 * 1024)
    {'D': 128, 'ITEM_BYTES': 2, 'R': 4, 'HEADS': 4, 'RESIDENT': 1, 'STAGES': 2, 'SHARED_BYTES': 72096}
    """
    tile = {"D": D, "ITEM_BYTES": 2, "R": R, "HEADS": -(-R // -(-R // GROUP_HEADS))}
    for resident in (2, 1):
        step = resident * WARPS * 2 * KEYS * D * 2  # bytes of K and V, of all warps
        for stages in range(min(MOST_STAGES, 1 + -(-UNDER_WAY // step)), 1, -1):
            needed = group_bytes(tile["HEADS"], D, stages)
            if needed <= (limit + RESERVED) // resident - RESERVED:
                return tile | {"RESIDENT": resident, "STAGES": stages, "SHARED_BYTES": needed}
    raise ValueError(f"a ring of two steps at D={D} does not fit {limit} bytes of shared memory")


def group_bytes(heads, D, stages):
    """Return the bytes of shared memory of a block: the queries, the ring, the warps' m and l, and a few numbers.

    >>> group_bytes(32, 128, 2)
    79392
    """
    row = ((D + 15) // 16 * 16 + 8) * 2
    tiles, ring = -(-heads // 8), WARPS * stages * 2 * KEYS * row
    return tiles * 8 * row + ring + WARPS * 8 * 4 * 2 * tiles + 2 * 16
