"""What stands before and after the recurrence in NumPy: step sizes by softplus, gates by silu."""

import numpy as np

__all__ = ["THRESHOLD", "silu", "softplus", "step_sizes"]

THRESHOLD = 20.0  # above it softplus(x) is x: exp(-20) is less than half a unit in float32's last place of 20


def step_sizes(delta, delta_bias, delta_softplus):
    """Return delta (B, T, E) with the bias (E,) added, through softplus if asked for."""
    step = delta if delta_bias is None else delta + delta_bias
    return softplus(step) if delta_softplus else step


def softplus(x):
    """Return log(1 + exp(x)) up to a threshold of 20, and x above it.

    >>> softplus(np.array([-1000.0, 0.0, 25.0]))
    array([ 0.        ,  0.69314718, 25.        ])
    """
    return np.where(x > THRESHOLD, x, np.log1p(np.exp(np.minimum(x, x.dtype.type(THRESHOLD)))))


def silu(x):
    """Return x / (1 + exp(-x)), by tanh, which does not overflow.

    >>> silu(np.array([-1000.0, 0.0, 2.0]))
    array([-0.        ,  0.        ,  1.76159416])
    """
    half = x.dtype.type(0.5)
    return x * (half * np.tanh(half * x) + half)
