"""How the tokens of a head are cut into segments for blocks that run side by side."""

import math
from functools import cache

EXTRA = 0.6  # what a cut adds to a token's work: k and v are read, and the state is summed, once more
CARRY = 3  # tiles of 64 tokens that a segment's state is worth in bytes, written, carried and read, at D = 128
MOST = 256  # segments of a head


@cache
def segments_of(heads, T, tile, places, count=None):
    """Return (segments of a head, tokens of a segment): the cut that is done soonest, in whole tiles.

    Parameters
    ----------
    heads : int
        B*H.
    T : int
        Tokens, at least 1.
    tile : int
        Tokens that no cut may part.
    places : int
        Blocks that the GPU runs at once.
    count : int, optional
        Segments wanted; as many as `makespan` likes best by default. Fewer come out where there are too few tiles.

    Examples
    --------
    >>> segments_of(16, 16_384, 64, 132)
    (8, 2048)
    >>> segments_of(128, 2048, 64, 132)
    (1, 2048)
    """
    tiles = math.ceil(T / tile)
    if count is None:
        count = min(range(1, min(MOST, tiles) + 1), key=lambda n: makespan(heads, tiles, n, places))
    share = math.ceil(tiles / min(count, tiles))
    return math.ceil(tiles / share), share * tile


def makespan(heads, tiles, count, places):
    """Return how many tiles' worth of time `count` segments a head take on a GPU that runs `places` blocks at once."""
    share = math.ceil(tiles / count) + CARRY * (count > 1)
    rounds, again = (math.ceil(heads * n / places) for n in (count, count - 1))
    return share * (rounds + EXTRA * again)


def resident(D):
    """Return how many blocks of the raw kernels a multiprocessor holds: registers decide, and shared memory."""
    return 1 if D > 64 else 2 if D > 32 else 4
