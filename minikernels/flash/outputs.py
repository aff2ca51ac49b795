"""What every launcher of this folder needs: arrays beside the inputs, and the limits of its kernels."""

import numpy as np

from minikernels.core import limits
from minikernels.core.errors import ShapeError

WIDTH_LIMIT = 256  # a thread holds rows of D numbers; beyond this they spill far out of its 255 registers


def new(like, shape, dtype):
    """Return an output array beside `like` (NumPy or CuPy), full of NaN so that an unwritten cell shows."""
    return np.full_like(like, np.nan, dtype=dtype, order="C", shape=shape)


def scratch(like, shape):
    """Return an uninitialised float32 array beside `like` (NumPy or CuPy), for what passes between kernels."""
    return np.empty_like(like, dtype=np.float32, order="C", shape=shape)


def check_grid(H, B):
    """Raise ShapeError where heads or sequences do not fit on the grid's y and z axes."""
    limits.check_grid(H=H, B=B)


def check_width(D, rung):
    """Raise ShapeError where a head is wider than the threads of a rung can hold."""
    if D > WIDTH_LIMIT:
        raise ShapeError(f"D={D} must be at most {WIDTH_LIMIT} for rung {rung}; rung v1_three_pass takes any D")
