"""What the launchers of this folder share: an output beside the inputs, and the limits of their kernels.

The closed forms of traffic ask for the same limits.
"""

import numpy as np

from minikernels.core import decode
from minikernels.core.errors import ShapeError

SCORES = 1024  # keys whose scores a block holds at once in shared memory; longer sequences take several rounds
SCORES_WIDTH_LIMIT = 4096  # head width of the rungs that hold scores: q takes 16 KB of shared memory beside them
HEADS_LIMIT = 8  # query heads whose state a thread keeps: 8 * 32 rows of 255 registers are all that an SM has
MMA = ("v6_mma_group", "v7_async_ring", "v8_stream_k")  # rungs on the tensor cores, in float16 alone


def new(q):
    """Return an output array of q's kind, shape and dtype, full of NaN so that an unwritten cell shows."""
    return np.full_like(q, np.nan, order="C")


def chunks(R):
    """Return (heads of a block, blocks of a group) where R query heads share a key/value head.

    >>> chunks(4), chunks(12)
    ((4, 1), (8, 2))
    """
    heads = min(R, HEADS_LIMIT)
    return heads, -(-R // heads)


def check_width(D, limit, rung, other):
    """Raise ShapeError where a head is wider than a rung can hold."""
    if D > limit:
        raise ShapeError(f"D={D} must be at most {limit} for rung {rung}; rung {other} takes more")


def check_rows(sizes, dtype, rung):
    """Raise ShapeError, in letters, unless a rung in CUDA C++ takes rows of D numbers of this dtype."""
    decode.check_rows(sizes, dtype, rung, mma=rung in MMA, other="v3_warp_key", wider="v2_page_table")
