"""Who absorbs which keys, and how long the last one takes: fixed splits against one list cut into equal runs.

A *row* is what a block works on: up to 8 query heads of one sequence that share a key/value head. A *tile* is what it
absorbs in one step, and the unit of time here. A *place* is room for one block on the GPU: multiprocessors times the
blocks that each of them holds. Pure arithmetic, so that a schedule can be drawn and compared without a GPU.
"""

import heapq
from typing import NamedTuple

from minikernels.core.decode import Piece, runs, tiles_of

__all__ = ["Piece", "Schedule", "fixed_splits", "stream_k"]


class Schedule(NamedTuple):
    """The pieces that each place works on, one after another."""

    places: tuple

    @property
    def makespan(self):
        """Tiles that the busiest place absorbs: the time until the last one is done."""
        return max((sum(piece.tiles for piece in pieces) for pieces in self.places), default=0)

    @property
    def tiles(self):
        """Tiles of all places together."""
        return sum(piece.tiles for pieces in self.places for piece in pieces)

    @property
    def efficiency(self):
        """Share of the places' time that is work; 1.0 where there is none to do."""
        return self.tiles / (len(self.places) * self.makespan) if self.makespan else 1.0


def fixed_splits(lengths, rows, block_s, splits, places):
    """Return the schedule in which every row is cut into the same number of equal shares, a block each.

    Blocks start in the order of their number, each on the place that is free first, as a GPU hands them out.

    Parameters
    ----------
    lengths : sequence of int
        Keys of each sequence.
    rows : int
        Rows of a sequence: key/value heads, times the blocks that share one.
    block_s : int
        Keys of a tile.
    splits : int
        Shares of a row; 1 is a block a row.
    places : int
        Blocks that the GPU holds at once.

    Examples
    --------
    >>> fixed_splits([64, 16], rows=1, block_s=16, splits=1, places=2).makespan
    4
    >>> fixed_splits([64, 16], rows=1, block_s=16, splits=2, places=2).makespan
    3
    """
    work, free = [[] for _ in range(places)], [(0, place) for place in range(places)]
    for b, tiles in enumerate(tiles_of(lengths, block_s)):
        share = -(-tiles // splits)
        for row in range(rows):
            for first in range(0, tiles, share or 1):
                time, place = heapq.heappop(free)
                piece = Piece(b, row, first, min(share, tiles - first))
                work[place].append(piece)
                heapq.heappush(free, (time + piece.tiles, place))
    return Schedule(tuple(map(tuple, work)))


def stream_k(lengths, rows, block_s, places):
    """Return the schedule in which the tiles of all rows stand in one list, cut into a run for each place.

    The makespan is ``ceil(tiles / places)``, the least there is, whatever the lengths; the price is a state (m, l, o)
    to merge wherever a cut goes through a row.

    Parameters
    ----------
    lengths, rows, block_s, places
        As for `fixed_splits`.

    Examples
    --------
    >>> stream_k([64, 16], rows=1, block_s=16, places=2).makespan
    3
    """
    return Schedule(tuple(map(tuple, runs(lengths, rows, block_s, places))))
