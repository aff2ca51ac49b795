"""The gradients of linear attention in NumPy, chunk by chunk: forwards for dq, backwards for dk and dv.

``hbm`` in a comment marks what a kernel would read from or write to HBM.
"""

import numpy as np

from minikernels.core.numerics import accumulator
from minikernels.linear_attention.tiled import CHUNK, GATED_CHUNK, between, per_token, prefixes


def attention_backward(q, k, v, do, decay, gate, scale, initial_state=None, dstate=None, chunk=None):
    """Return dq, dk, dv, dgate and dinitial_state: the chunks of `tiled` once forwards, and once in reverse.

    Differs from reference: a chunk's gradients come from matrix products; what is carried between chunks is the state,
    and then its gradient.

    Parameters
    ----------
    q, k, v, do, decay, gate, scale, initial_state, dstate
        As in `reference_backward.attention_backward`.
    chunk : int, optional
        Tokens of a chunk.

    Notes
    -----
    With ``W_ts`` what the tokens from s + 1 to t leave and ``G = do v^T``: ``dq = scale (Lambda S do + (G * W) k)``,
    ``dk = lambda^C Lambda^-1 dS v + scale (G * W)^T q``, ``dv = dS^T (lambda^C Lambda^-1 k) + P^T do``, and then
    ``dS <- lambda^C dS + scale (Lambda q)^T do``.
    """
    wide, (B, H, T, D) = accumulator(q.dtype), q.shape
    size = chunk or (CHUNK if gate is None else GATED_CHUNK)
    state, grad = (np.zeros((B, H, D, D), wide) if x is None else x.astype(wide) for x in (initial_state, dstate))
    starts, scale = range(0, T, size), wide.type(scale)
    dq, dk, dv = (np.full(q.shape, np.nan, wide) for _ in range(3))

    def tile(first):
        here = np.s_[:, :, first : first + size]
        tiles = [x[here].astype(wide) for x in (q, k, v, do)]  # hbm read
        a = per_token(decay, None if gate is None else gate[here], tiles[0])  # hbm read
        return here, tiles, a, *prefixes(a)

    for first in starts:
        here, (_, k_tile, v_tile, do_tile), a, before, after = tile(first)
        dp = np.tril(do_tile @ v_tile.swapaxes(-1, -2))
        dq[here] = scale * (before * (do_tile @ state.swapaxes(-1, -2)) + faded_sum(dp, k_tile, a))  # hbm write
        state = before[:, :, -1, :, None] * state + (after * k_tile).swapaxes(-1, -2) @ v_tile
    last = np.sum(state * grad, axis=-1)
    for first in reversed(starts):
        here, (q_tile, k_tile, v_tile, do_tile), a, before, after = tile(first)
        dp = np.tril(do_tile @ v_tile.swapaxes(-1, -2))
        dk[here] = after * (v_tile @ grad.swapaxes(-1, -2)) + scale * faded_sum_back(dp, q_tile, a)  # hbm write
        dv[here] = (after * k_tile) @ grad + scale * values_gradient(q_tile, k_tile, a, do_tile)  # hbm write
        grad = before[:, :, -1, :, None] * grad + scale * (before * q_tile).swapaxes(-1, -2) @ do_tile
    return dq, dk, dv, gates_gradient(q, k, dq, dk, last), grad


def gates_gradient(q, k, dq, dk, last):
    """Return ``dg_t = sum_(s >= t) (q_s dq_s - k_s dk_s)`` plus what the last state adds, (B, H, T, D)."""
    steps = q.astype(dq.dtype) * dq - k.astype(dk.dtype) * dk
    return np.cumsum(steps[:, :, ::-1], axis=2)[:, :, ::-1] + last[:, :, None]


def faded_sum(dp, k_tile, a):
    """Return ``sum_s dp_ts W_ts k_s`` for every t."""
    if a.shape[-1] == 1:
        return (dp * between(a[..., 0])) @ k_tile
    out, faded = np.empty_like(k_tile), k_tile.copy()
    for t in range(k_tile.shape[2]):
        faded[:, :, :t] *= a[:, :, t : t + 1]
        out[:, :, t] = (dp[:, :, t, None, : t + 1] @ faded[:, :, : t + 1])[:, :, 0]
    return out


def faded_sum_back(dp, q_tile, a):
    """Return ``sum_t dp_ts W_ts q_t`` for every s: the same from the other end."""
    if a.shape[-1] == 1:
        return (dp * between(a[..., 0])).swapaxes(-1, -2) @ q_tile
    out, faded = np.empty_like(q_tile), q_tile.copy()
    for s in reversed(range(q_tile.shape[2])):
        out[:, :, s] = (dp[:, :, s:, s][:, :, None] @ faded[:, :, s:])[:, :, 0]
        faded[:, :, s:] *= a[:, :, s : s + 1]  # the queries from s on, as token s - 1 meets them
    return out


def values_gradient(q_tile, k_tile, a, do_tile):
    """Return ``sum_t (q_t . W_ts k_s) do_t`` for every s."""
    if a.shape[-1] == 1:
        return (q_tile @ k_tile.swapaxes(-1, -2) * between(a[..., 0])).swapaxes(-1, -2) @ do_tile
    out, faded = np.empty_like(q_tile), q_tile.copy()
    for s in reversed(range(q_tile.shape[2])):
        score = faded[:, :, s:] @ k_tile[:, :, s, :, None]  # (B, H, n - s, 1)
        out[:, :, s] = (score.swapaxes(-1, -2) @ do_tile[:, :, s:])[:, :, 0]
        faded[:, :, s:] *= a[:, :, s : s + 1]
    return out
