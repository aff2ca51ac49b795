"""What the launchers of this folder share: an output beside the inputs, and the limits of their kernels.

The closed forms of traffic ask for the same limits.
"""

import numpy as np

from minikernels.core import decode
from minikernels.core.errors import ShapeError
from minikernels.core.limits import SHARED_LIMIT

HEADS_LIMIT = 8  # query heads whose state a thread keeps: 8 * 32 rows of 255 registers are all that an SM has
MMA = ("v7_mma_group", "v8_mma_stream_k")  # rungs on the tensor cores, in float16 alone


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


def check_width(D, limit, rung, other="v1_block_per_head"):
    """Raise ShapeError where a head is wider than a rung can hold."""
    if D > limit:
        raise ShapeError(f"D={D} must be at most {limit} for rung {rung}; rung {other} takes more")


def block_s(R, D):
    """Return how many keys a tile of v2_shared_group holds: 32, or fewer where a block's 48 KB want it.

    >>> block_s(4, 64), block_s(32, 128)
    (32, 16)
    """
    for keys in (32, 16, 8, 4, 2, 1):
        if 4 * (R * D + keys * (D + 1 - D % 2 + D + R)) <= SHARED_LIMIT:
            return keys
    raise ShapeError(f"(H/G)*D = {R}*{D} queries do not fit into the {SHARED_LIMIT} bytes of shared memory of rung "
                     "v2_shared_group; rung v1_block_per_head takes more")


def check_rows(sizes, dtype, rung):
    """Raise ShapeError, in letters, unless a rung in CUDA C++ takes rows of D numbers of this dtype."""
    decode.check_rows(sizes, dtype, rung, mma=rung in MMA, other="v3_warp_dot", wider="v1_block_per_head")
