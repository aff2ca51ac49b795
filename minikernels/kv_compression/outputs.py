"""What the launchers of this folder share: an output beside the inputs, the limits of their kernels, cache layouts."""

from typing import NamedTuple

import numpy as np

from minikernels.core.errors import ShapeError

HEADS_LIMIT = 8  # query heads whose state a thread keeps: 8 * 32 rows of 255 registers are all that an SM has
ALL = 0xFFFFFFFF  # every lane of the warp takes part in a shuffle


class Layout(NamedTuple):
    """What a kernel must know of a cache when it is compiled: bits, and tokens and channels that share a scale."""

    bits: int
    rows: int
    columns: int


def layout(cache):
    """Return a cache's Layout."""
    rows, columns = (cache.group, 1) if cache.axis == "channel" else (1, cache.group)
    return Layout(cache.bits, rows, columns)


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


def check_width(D, limit, rung, other="tiled"):
    """Raise ShapeError where a head is wider than a rung can hold."""
    if D > limit:
        raise ShapeError(f"D={D} must be at most {limit} for rung {rung}; rung {other} takes more")


def check_axes(k_cache, v_cache, rung):
    """Raise ShapeError unless keys share scales by channel and values by token, which is what can be folded."""
    for name, cache, axis in (("k_cache", k_cache, "channel"), ("v_cache", v_cache, "token")):
        if cache.axis != axis:
            raise ShapeError(f"{name} has its scales by {cache.axis} and rung {rung} takes them by {axis}; "
                             "rung v1_dequantize takes both")
