"""How many chunks v6_three_phase and the rungs after it cut a sequence into."""

from functools import cache

__all__ = ["MOST", "chunks"]

SECOND_PASS = 1.85  # work of going through all tokens twice, the first time without outputs
MOST = 1024  # chunks: the carry takes them one after another
LEAST_TILES = 4  # of a chunk
START = 1  # tiles' worth of time that a block takes to begin and to end


@cache
def chunks(blocks, tiles, multiprocessors, resident, alone=1.0):
    """Return (chunks, tiles of a chunk) that end soonest where `blocks` blocks own the channels of all sequences.

    A chunk for each sequence is one pass; more are two passes, each as long as the blocks that follow one another in
    one place.

    Parameters
    ----------
    blocks, tiles : int
        Blocks of one pass, tiles of a sequence.
    multiprocessors, resident : int
        Of the GPU, and blocks that one of them runs at once.
    alone : float
        Share of that time that a block takes on a multiprocessor that it has for itself.

    Examples
    --------
    >>> chunks(512, 64, 132, 4), chunks(64, 512, 132, 4), chunks(1, 3, 132, 4)
    ((1, 64), (8, 64), (1, 3))
    >>> chunks(128, 64, 132, 2), chunks(128, 64, 132, 2, alone=0.62)
    ((2, 32), (1, 64))
    """
    best = ((tiles + START) * rounds(blocks, multiprocessors, resident, alone), 1)
    for count in range(2, min(MOST, tiles // LEAST_TILES) + 1):
        time = SECOND_PASS * (-(-tiles // count) + START) * rounds(blocks * count, multiprocessors, resident, alone)
        best = min(best, (time, count))
    share = -(-tiles // best[1])
    return -(-tiles // share), share


def rounds(blocks, multiprocessors, resident, alone):
    """Return how many times the blocks fill the GPU; a last round with a block a multiprocessor counts less."""
    whole, rest = divmod(blocks, multiprocessors * resident)
    return whole + (rest > 0) * (alone if rest <= multiprocessors else 1)
