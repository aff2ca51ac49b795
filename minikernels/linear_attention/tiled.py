"""Linear attention in NumPy, in a kernel's own loop order: a chunk of tokens at a time, the state carried on the chip.

``hbm`` in a comment marks what a kernel would read from or write to HBM; everything else would live in shared memory
and registers.
"""

import numpy as np

from minikernels.core.numerics import accumulator

CHUNK, GATED_CHUNK = 64, 16  # tokens of a chunk; gates weigh every pair channel by channel, which grows with the chunk


def attention(q, k, v, decay, gate, scale, initial_state=None, chunk=None):
    """Return o in q's dtype and the last state: pairs within a chunk, one product with the state before it.

    Differs from reference: o of a whole chunk comes from two matrix products, and the state moves on once a chunk.

    Parameters
    ----------
    q, k, v, decay, gate, scale, initial_state
        As in `reference.attention`.
    chunk : int, optional
        Tokens of a chunk.

    Notes
    -----
    ``o = ((Q K^T) * M) V + Lambda Q S`` and ``S <- lambda^C S + (lambda^C Lambda^-1 K)^T V``, with
    s <= t ([1]_, section 3.2). With gates the powers are products of gates, channel by channel. Every factor is a
    product of numbers up to 1: none is ever divided by.

    References
    ----------
    .. [1] Qin et al., Lightning Attention-2, arXiv:2401.04658.
    """
    wide, (B, H, T, D) = accumulator(q.dtype), q.shape
    size = chunk or (CHUNK if gate is None else GATED_CHUNK)
    state = np.zeros((B, H, D, D), wide) if initial_state is None else initial_state.astype(wide)  # hbm read
    o = np.full(q.shape, np.nan, q.dtype)
    for first in range(0, T, size):
        here = np.s_[:, :, first : first + size]
        q_tile, k_tile, v_tile = (x[here].astype(wide) for x in (q, k, v))  # hbm read
        a = per_token(decay, None if gate is None else gate[here], q_tile)  # hbm read
        before, after = prefixes(a)
        score = decayed_scores(q_tile, k_tile, a)
        o_tile = (score @ v_tile + (before * q_tile) @ state) * wide.type(scale)
        state = before[:, :, -1, :, None] * state + (after * k_tile).swapaxes(-1, -2) @ v_tile
        o[here] = o_tile  # hbm write
    return o, state  # hbm write


def per_token(decay, gate, tile):
    """Return what each token leaves of the state, ``decay e^gate``: (B, H, n, D), or (1, H, n, 1) without gates."""
    a = decay.astype(tile.dtype)[None, :, None, None]
    return np.repeat(a, tile.shape[2], axis=2) if gate is None else a * np.exp(gate.astype(tile.dtype))


def prefixes(a):
    """Return what is left of the state before the chunk at each token, and of each token at the chunk's end."""
    after = np.ones_like(a)
    after[:, :, :-1] = np.cumprod(a[:, :, :0:-1], axis=2)[:, :, ::-1]
    return np.cumprod(a, axis=2), after


def decayed_scores(q_tile, k_tile, a):
    """Return ``q_t . k_s``, weighted by what the tokens between leave: 0 where s > t."""
    if a.shape[-1] == 1:  # one number a head: the weights of all pairs are a small matrix
        return q_tile @ k_tile.swapaxes(-1, -2) * between(a[..., 0])
    score, faded = np.zeros((*q_tile.shape[:3], q_tile.shape[2]), q_tile.dtype), k_tile.copy()
    for t in range(q_tile.shape[2]):
        faded[:, :, :t] *= a[:, :, t : t + 1]  # the keys so far, as token t sees them
        # Not by @: BLAS may read past the end of a row of odd length and warn of what it finds there.
        score[:, :, t, : t + 1] = np.einsum("bhsd,bhd->bhs", faded[:, :, : t + 1], q_tile[:, :, t])
    return score


def between(a):
    """Return the product of a[s+1] ... a[t] for s <= t, 0 elsewhere: (1, H, n) to (1, H, n, n)."""
    n = a.shape[-1]
    weight = np.zeros((*a.shape, n), a.dtype)
    for t in range(n):
        weight[..., t, :t] = weight[..., t - 1, :t] * a[..., t, None]
        weight[..., t, t] = 1
    return weight
