"""The papers' equation in NumPy, float64 inside: the oracle that every other rung answers to.

`scan` is the equation; `plain` the same in the inputs' own precision, which sets the error budget; `judge` holds a
rung's outputs against both.
"""

from typing import NamedTuple

import numpy as np

from minikernels.core.numerics import accumulator
from minikernels.core.oracle import check
from minikernels.selective_scan.gates import silu, step_sizes


def scan(u, delta, a, b, c, d=None, z=None, delta_bias=None, delta_softplus=False, initial_state=None):
    """Return the selective scan and its last state, both float64.

    Parameters
    ----------
    u, delta : ndarray of shape (B, T, E)
        Inputs and step sizes.
    a : ndarray of shape (E, N)
        Rates; negative, so that a state decays.
    b, c : ndarray of shape (B, T, N)
        How much of a token enters each state, and how much of each state leaves.
    d, z, delta_bias, initial_state : ndarray or None
        (E,), (B, T, E), (E,) and (B, E, N): the input's direct share, gates, bias of the step sizes, state at the
        start.
    delta_softplus : bool
        Whether step sizes go through softplus, after the bias.

    Returns
    -------
    o : ndarray of shape (B, T, E)
    state : ndarray of shape (B, E, N)

    Notes
    -----
    ``h_t = exp(delta_t a) h_{t-1} + delta_t u_t b_t``, ``y_t = c_t . h_t + d u_t``, ``o_t = y_t silu(z_t)``: [1]_,
    algorithm 2 and section 3.3. Work 6*B*T*E*N FLOP and B*T*E*N exponentials.

    References
    ----------
    .. [1] Gu, Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, arXiv:2312.00752.
    """
    return computed(np.float64, u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state)


def plain(u, delta, a, b, c, d=None, z=None, delta_bias=None, delta_softplus=False, initial_state=None):
    """Return what plain NumPy computes of `scan` in the inputs' own precision; the measure of the error budget.

    Everything in float32 or wider, o rounded to u's dtype at the end.
    """
    wide = accumulator(u.dtype)
    o, state = computed(wide, u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state)
    return o.astype(u.dtype), state


def computed(dtype, u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state):
    """Return the scan and its last state, everything in one dtype."""
    arrays = (u, delta, a, b, c, d, z, delta_bias, initial_state)
    u, delta, a, b, c, d, z, delta_bias, h = (None if x is None else x.astype(dtype) for x in arrays)
    step = step_sizes(delta, delta_bias, delta_softplus)
    y, h = recur(step, step * u, a, b, c, np.zeros((len(u), *a.shape), dtype) if h is None else h)
    y = y if d is None else y + d * u
    return y if z is None else y * silu(z), h


def recur(step, drive, a, b, c, h):
    """Return ``c_t . h_t`` of shape (B, T, E) and the last h (B, E, N), one token after another."""
    y = np.empty(drive.shape, drive.dtype)
    for t in range(drive.shape[1]):
        h = np.exp(step[:, t, :, None] * a) * h + drive[:, t, :, None] * b[:, t, None]
        y[:, t] = (h * c[:, t, None]).sum(axis=-1)
    return y, h


class Expected(NamedTuple):
    """What a scan should give: exactly, in plain NumPy, and how large the terms are that it is summed from."""

    exact: tuple
    rough: tuple
    terms: tuple

    def judge(self, o, state):
        """Return the oracle's verdict on a rung's outputs: {"o": Verdict, "state": Verdict}."""
        (o64, state64), (o_plain, state_plain), (o_terms, state_terms) = self
        return {
            "o": check(o, o64, o_plain, letters="BTE", magnitude=o_terms, rounded=np.abs(o64)),
            "state": check(state, state64, state_plain, name="state", letters="BEN", magnitude=state_terms),
        }


def expected(u, delta, a, b, c, d=None, z=None, delta_bias=None, delta_softplus=False, initial_state=None):
    """Return what `scan` and `plain` make of the same inputs, to judge several rungs by."""
    given = u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state
    return Expected(scan(*given), plain(*given), terms(*given))


def judge(o, state, u, delta, a, b, c, **options):
    """Return the oracle's verdict on a rung's outputs: {"o": Verdict, "state": Verdict}."""
    return expected(u, delta, a, b, c, **options).judge(o, state)


def terms(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state):
    """Return the largest sums of absolute values that an output, and a state, is summed from."""
    arrays = (u, delta, a, b, c, d, z, delta_bias, initial_state)
    u, delta, a, b, c, d, z, delta_bias, h = (None if x is None else x.astype(np.float64) for x in arrays)
    step = step_sizes(delta, delta_bias, delta_softplus)
    h = np.zeros((len(u), *a.shape)) if h is None else np.abs(h)
    y, h = recur(step, np.abs(step * u), a, np.abs(b), np.abs(c), h)
    y = y if d is None else y + np.abs(d * u)
    y = y if z is None else y * np.abs(silu(z))
    return largest(y), largest(h)


def largest(x):
    """Return the largest finite value, or 0 where there is none."""
    return float(np.max(x, initial=0, where=np.isfinite(x)))
