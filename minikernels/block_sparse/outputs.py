"""What the launchers of this folder share: arrays beside the inputs, and the limits of their kernels."""

import numpy as np

from minikernels.core.errors import ShapeError

WIDTH_LIMIT = 256  # a thread holds rows of D numbers; beyond this they spill far out of its 255 registers


def new(q):
    """Return o and lse beside q (NumPy or CuPy), full of NaN so that an unwritten cell shows."""
    o = np.full_like(q, np.nan, order="C")
    return o, np.full_like(q, np.nan, dtype=np.float32, order="C", shape=q.shape[:3])


def check_width(D, rung):
    """Raise ShapeError where a head is wider than the threads of a rung can hold."""
    if D > WIDTH_LIMIT:
        raise ShapeError(f"D={D} must be at most {WIDTH_LIMIT} for rung {rung}; rung tiled takes any D")
