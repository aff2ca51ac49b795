"""Device functions of the numba rungs: step sizes by softplus, gates by silu."""

import math

from minikernels.launch import device, float32


@device
def softplus(x):
    """Return log(1 + exp(x)) up to 20, and x above it."""
    y = x
    if x <= float32(20):
        y = math.log1p(math.exp(x))
    return y


@device
def silu(x):
    """Return x / (1 + exp(-x)); exp overflows to infinity for x < -88, and the quotient is 0 as it should be."""
    return x / (float32(1) + math.exp(-x))
