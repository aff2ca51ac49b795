"""What the launchers of this folder share: arrays beside the inputs, and the limits of their kernels."""

import numpy as np

from minikernels.core.errors import ShapeError


def new(like, shape, dtype):
    """Return an output array of `like`'s kind, full of NaN so that an unwritten cell shows."""
    return np.full_like(like, np.nan, dtype=dtype, shape=shape, order="C")


def optional(x, like):
    """Return an array, or where it is None something of its kind and rank that a kernel is given and never reads."""
    return np.zeros_like(like, dtype=np.float32, shape=(1, 1, 1, 1)) if x is None else x


def columns(D):
    """Return the threads of a block that has one for each column: whole warps.

    >>> columns(64), columns(65)
    (64, 96)
    """
    return -(-D // 32) * 32


def check_width(D, limit, rung, other="tiled"):
    """Raise ShapeError where a head is wider than a rung can hold."""
    if D > limit:
        raise ShapeError(f"D={D} must be at most {limit} for rung {rung}; rung {other} takes more")
