"""Quads: four neighbouring lanes that share a row, and how they add up what each of them holds."""

from minikernels.launch import cuda, device

LANES = 4
ALL = 0xFFFFFFFF  # every lane of the warp takes part in a shuffle


@device
def quad_sum(x):
    """Return the sum over the quad, to each of its lanes: first over pairs, then over pairs of pairs."""
    x += cuda.shfl_xor_sync(ALL, x, 1)
    return x + cuda.shfl_xor_sync(ALL, x, 2)
