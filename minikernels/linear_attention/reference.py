"""The equation in NumPy, in three forms that agree: recurrent, the oracle in float64; quadratic; and chunked.

`attention` is the oracle of every rung; `plain` the same in the inputs' own precision, which sets the error budget;
`judge` holds a rung's outputs against both. Gradients stand in `reference_backward`.
"""

import numpy as np

from minikernels.core.numerics import accumulator
from minikernels.core.oracle import check


def attention(q, k, v, decay, gate, scale, initial_state=None):
    """Return linear attention and the last state, both float64, by the recurrence.

    Parameters
    ----------
    q, k, v : ndarray of shape (B, H, T, D)
        Queries, keys and values.
    decay : ndarray of shape (H,)
        What one token leaves of a head's state, in (0, 1].
    gate : ndarray of shape (B, H, T, D) or None
        Log-gates, at most 0.
    scale : float
        Factor on every output.
    initial_state : ndarray of shape (B, H, D, D) or None
        The state before the first token; zeros by default.

    Returns
    -------
    o : ndarray of shape (B, H, T, D), float64
    state : ndarray of shape (B, H, D, D), float64

    Notes
    -----
    ``S_t = diag(decay e^g_t) S_(t-1) + k_t v_t^T``, ``o_t = scale q_t S_t``: section 2 of [1]_ for decays, section 4.1
    of [2]_ for gates. Work 4*B*H*T*D*D FLOP and more for the gates.

    References
    ----------
    .. [1] Qin et al., Lightning Attention-2, arXiv:2401.04658.
    .. [2] Yang et al., Gated Linear Attention, arXiv:2312.06635.
    """
    return recurrent(*(x.astype(np.float64) for x in (q, k, v)), decay, gate, scale, initial_state)


def recurrent(q, k, v, decay, gate, scale, initial_state=None):
    """Return o and the last state one token after another, in q's precision."""
    a, state, o = kept(q, decay, gate), begun(q, initial_state), np.empty_like(q)
    for t in range(q.shape[2]):
        state = a[:, :, t, :, None] * state + k[:, :, t, :, None] * v[:, :, t, None, :]
        o[:, :, t] = q.dtype.type(scale) * (q[:, :, t, None, :] @ state)[:, :, 0]
    return o, state


def quadratic(q, k, v, decay, gate, scale, initial_state=None):
    """Return o and the last state by weights of all pairs, row by row: ``e^(b_t - b_s)`` with b the summed log-gates.

    Every exponent is at most 0, since b never grows: nothing can overflow.
    """
    state, o = begun(q, initial_state), np.empty_like(q)
    b = np.cumsum(np.log(kept(q, decay, None)) + (0 if gate is None else gate.astype(q.dtype)), axis=2)
    for t in range(q.shape[2]):
        weight = np.exp(b[:, :, t : t + 1] - b[:, :, : t + 1])  # (B, H, t + 1, D)
        score = np.sum(q[:, :, t : t + 1] * weight * k[:, :, : t + 1], axis=-1)
        before = (q[:, :, t] * np.exp(b[:, :, t]))[:, :, None] @ state
        o[:, :, t] = scale * (score[:, :, None] @ v[:, :, : t + 1] + before)[:, :, 0]
    if q.shape[2]:
        end = b[:, :, -1:]
        state = np.exp(end).swapaxes(-1, -2) * state + (k * np.exp(end - b)).swapaxes(-1, -2) @ v
    return o, state


def chunked(q, k, v, decay, gate, scale, initial_state=None, chunk=16, rounded=None):
    """Return o and the last state, pairs within chunks of tokens and a state between them.

    Factors are products of what the tokens between leave, never quotients: at most 1 each, and exact to rounding.
    Where `rounded` is a dtype, what a tensor core would multiply is rounded to it first.
    """
    a, state, o = kept(q, decay, gate), begun(q, initial_state), np.empty_like(q)
    for first in range(0, q.shape[2], chunk):
        here = np.s_[:, :, first : first + chunk]
        q_tile, k_tile, v_tile, a_tile = q[here], k[here], v[here], a[here]
        before = np.cumprod(a_tile, axis=2)  # what is left at t of the state before the chunk
        after = np.ones_like(a_tile)  # what is left at the chunk's end of token s
        after[:, :, :-1] = np.cumprod(a_tile[:, :, :0:-1], axis=2)[:, :, ::-1]
        score = to(pairs(q_tile, k_tile, a_tile) * q.dtype.type(scale), rounded)
        o[here] = q.dtype.type(scale) * (to(q_tile * before, rounded) @ to(state, rounded)) + score @ v_tile
        state = before[:, :, -1, :, None] * state + to(k_tile * after, rounded).swapaxes(-1, -2) @ v_tile
    return o, state


def pairs(q_tile, k_tile, a_tile):
    """Return ``sum_d q_td k_sd a_(s+1)d ... a_td`` for s <= t, and 0 elsewhere: (B, H, n, D) to (B, H, n, n)."""
    faded, score = k_tile.copy(), np.zeros((*q_tile.shape[:3], q_tile.shape[2]), q_tile.dtype)
    for t in range(q_tile.shape[2]):
        faded[:, :, :t] *= a_tile[:, :, t : t + 1]  # keys as token t sees them
        score[:, :, t, : t + 1] = (faded[:, :, : t + 1] @ q_tile[:, :, t, :, None])[..., 0]
    return score


def kept(q, decay, gate):
    """Return what each token leaves of each row of the state, ``decay e^gate``, (B, H, T, D) in q's precision."""
    a = np.broadcast_to(decay.astype(q.dtype)[:, None, None], q.shape)
    return a if gate is None else a * np.exp(gate.astype(q.dtype))


def begun(q, initial_state):
    """Return the state before the first token in q's precision, (B, H, D, D)."""
    B, H, _, D = q.shape
    return np.zeros((B, H, D, D), q.dtype) if initial_state is None else initial_state.astype(q.dtype)


def to(x, rounded):
    """Return x rounded to a dtype, in its own."""
    with np.errstate(over="ignore"):
        return x if rounded is None else x.astype(rounded).astype(x.dtype)


def plain(q, k, v, decay, gate, scale, initial_state=None):
    """Return o and the last state as plain NumPy computes them in the inputs' own precision.

    The measure of the error budget (`minikernels.core.oracle`): sums in float32 or wider; scores, faded keys and the
    state rounded to the input dtype before they are multiplied, as a tensor core needs it; o rounded at the end.
    """
    wide = accumulator(q.dtype)
    rounded = q.dtype if q.dtype != wide else None
    o, state = chunked(*(x.astype(wide) for x in (q, k, v)), decay, gate, scale, initial_state, rounded=rounded)
    return o.astype(q.dtype), state


def judge(o, state, q, k, v, decay, gate, scale, initial_state=None):
    """Return the oracle's verdicts on a rung's o and last state (not on the state if it is None)."""
    inputs = q, k, v, decay, gate, scale, initial_state
    exact, rough = attention(*inputs), plain(*inputs)
    sizes = terms(*inputs)
    rounded = largest(exact[0])
    verdicts = {"o": check(o, exact[0], rough[0], name="o", letters="BHTD", magnitude=sizes[0], rounded=rounded)}
    if state is not None:
        rounded = spread(*inputs) if q.dtype == np.float16 else None
        verdicts["state"] = check(state, exact[1], rough[1], name="state", letters="BHDD", magnitude=sizes[1],
                                  rounded=rounded)
    return verdicts


def spread(q, k, v, decay, gate, scale, initial_state=None):
    """Return what roundings of faded keys or values to float16 do to each cell of the state, in units of float32's.

    They fall independently: the terms of a cell add up as a root of a sum of squares.
    """
    squares = (np.square(x, dtype=np.float32) for x in (q, k, v))
    start = None if initial_state is None else np.square(initial_state)
    _, state = chunked(*squares, np.square(decay), None if gate is None else 2 * gate.astype(np.float32), 0.0, start)
    return np.sqrt(state) * float(np.finfo(np.float16).eps / np.finfo(np.float32).eps)


def terms(q, k, v, decay, gate, scale, initial_state=None):
    """Return the largest sums of absolute terms that o and the last state are made of; the rounding band's measure."""
    wide = accumulator(q.dtype)
    sizes = (np.abs(x).astype(wide) for x in (q, k, v))
    start = None if initial_state is None else np.abs(initial_state)
    return [largest(x) for x in chunked(*sizes, decay, gate, abs(scale), start)]


def largest(x):
    """Return the largest finite absolute value, or 0 where there is none."""
    return float(np.max(np.abs(x), initial=0, where=np.isfinite(x)))
