"""Exercise 01.5: equal runs of unequal rows.

The rows of a batch (a sequence and a key/value head each) have different numbers of tiles. Cut every row into the same
number of shares, and the GPU waits for the longest row's. LeanAttention puts the tiles of all rows into one list and
gives each of `places` blocks a run of ceil(total / places) of them, whatever rows they belong to. A block must then
know where its run starts.

Check it with ``minikernels check 01.5``.
"""

import numpy as np


def run_starts(tiles, places):
    """Return where each block's run starts, and where the last one ends.

    Parameters
    ----------
    tiles : ndarray of shape (N,), int64
        Tiles of each row; a row may have none.
    places : int
        Blocks.

    Returns
    -------
    start : ndarray of shape (places + 1,), int64
        Block i has the tiles start[i] to start[i + 1] - 1 of the list; the last runs may be short, or empty.
    row : ndarray of shape (places + 1,), int64
        The row that tile start[i] of the list belongs to; N past the end of the list.
    tile : ndarray of shape (places + 1,), int64
        Which tile of that row it is; 0 past the end of the list.
    """
    ends = np.cumsum(tiles)  # row n has the tiles ends[n - 1] to ends[n] - 1 of the list
    start = row = tile = np.zeros(places + 1, np.int64)
    # Your lines start here.
    # Your lines end here.
    return start, row, tile
