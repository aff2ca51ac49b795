"""What the launchers of this folder share: outputs beside the inputs, and arrays that stand in where none was given."""

import numpy as np

from minikernels.core.errors import ShapeError

STATES_LIMIT = 256  # states of a channel that one thread, or one warp, holds
WARP_STATES_LIMIT = 128  # of the rungs in CUDA C++: 4 a lane of one warp


def new(u, shape=None, dtype=None):
    """Return an output array of u's kind, full of NaN so that an unwritten cell shows."""
    return np.full_like(u, np.nan, order="C", shape=u.shape if shape is None else shape, dtype=dtype or u.dtype)


def zeros(u, *shape):
    """Return float32 zeros of u's kind."""
    return np.zeros_like(u, order="C", shape=shape, dtype=np.float32)


def completed(u, a, d, z, delta_bias, initial_state):
    """Return (d, z, delta_bias, initial_state), each an array: zeros, or for z any, where none was given.

    A kernel without gates, or without a direct share, is compiled without them and reads neither array.
    """
    (B, _, E), N = u.shape, a.shape[1]
    d = zeros(u, E) if d is None else d
    delta_bias = zeros(u, E) if delta_bias is None else delta_bias
    state = zeros(u, B, E, N) if initial_state is None else initial_state
    return d, u if z is None else z, delta_bias, state


def check_states(N, rung, limit=STATES_LIMIT, other="tiled"):
    """Raise ShapeError where a channel has more states than a rung can hold."""
    if N > limit:
        raise ShapeError(f"N={N} must be at most {limit} for rung {rung}; rung {other} takes more")


def check_warp(N, rung):
    """Raise ShapeError where a rung in CUDA C++, or its closed form, is given more states than a warp holds."""
    check_states(N, rung, WARP_STATES_LIMIT, "v2_token_major")
