"""How many chunks v6_three_phase cuts a sequence into."""

from functools import cache

__all__ = ["MOST", "chunks"]

SECOND_PASS = 1.85  # work of going through all tokens twice, the first time without outputs
MOST = 1024  # chunks: the carry takes them one after another
LEAST_TILES = 4  # of a chunk
START = 1  # tiles' worth of time that a block takes to begin and to end


@cache
def chunks(blocks, tiles, places):
    """Return (chunks, tiles of a chunk) that end soonest where `blocks` blocks own channels and `places` run at once.

    A chunk for each sequence is one pass; more are two passes, each as long as the blocks that follow one another in
    one place.

    >>> chunks(512, 64, 528), chunks(64, 512, 528), chunks(1, 3, 528)
    ((1, 64), (8, 64), (1, 3))
    """
    best = ((tiles + START) * -(-blocks // places), 1)
    for count in range(2, min(MOST, tiles // LEAST_TILES) + 1):
        rounds = -(-blocks * count // places)
        best = min(best, (SECOND_PASS * (-(-tiles // count) + START) * rounds, count))
    share = -(-tiles // best[1])
    return -(-tiles // share), share
