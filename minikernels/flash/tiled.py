"""Tiled attention in NumPy, in a kernel's own loop order: FlashAttention's and FlashAttention-2's.

``hbm`` in a comment marks what a kernel would read from or write to HBM; everything else would live in shared memory
and registers.
"""

import numpy as np

from minikernels.core.numerics import accumulator, causal_mask, finish, shift

BLOCK_T, BLOCK_S = 128, 128  # large enough that NumPy's per-call cost does not show


def attention_keys_outside(q, k, v, causal, scale, block_t=BLOCK_T, block_s=BLOCK_S):
    """Return o in q's dtype and lse in float32 or wider: keys outside, queries inside.

    Differs from online: a tile of queries absorbs a tile of keys at a time, so each score tile is a matrix product.
    K and V are read once; the state (m, l, o) of every query tile is fetched from HBM and put back once a key tile.

    Parameters
    ----------
    q, k, v, causal, scale
        As in `reference.attention`.
    block_t, block_s : int
        Rows in a tile of queries, and in a tile of keys.

    Notes
    -----
    Algorithm 1 of [1]_, with o unnormalised until the end. HBM bytes: `traffic.tiled_keys_outside`.

    References
    ----------
    .. [1] Dao et al., FlashAttention, arXiv:2205.14135.
    """
    q_heads, o, lse = grouped(q, k)
    T, S = q.shape[2], k.shape[2]
    m_hbm, l_hbm, o_hbm = fresh(q_heads)
    for s in range(0, S, block_s):
        keys = np.arange(s, min(s + block_s, S))
        k_tile, v_tile = k[:, :, keys], v[:, :, keys]  # hbm read
        for t in range(0, T, block_t):
            rows = np.arange(t, min(t + block_t, T))
            if s >= seen_by_tile(rows, T, S, causal):
                continue
            state = m_hbm[..., rows], l_hbm[..., rows], o_hbm[..., rows, :]  # hbm read
            q_tile = q_heads[..., rows, :]  # hbm read
            state = absorb_tile(state, q_tile, k_tile, v_tile, rows, keys, (T, S), causal, scale)
            m_hbm[..., rows], l_hbm[..., rows], o_hbm[..., rows, :] = state  # hbm write
    o[...], lse[...] = finish(m_hbm, l_hbm, o_hbm)
    return o.reshape(q.shape), lse.reshape(q.shape[:3])


def attention(q, k, v, causal, scale, block_t=BLOCK_T, block_s=BLOCK_S):
    """Return o in q's dtype and lse in float32 or wider: queries outside, keys inside.

    Differs from attention_keys_outside: the loops are exchanged. The state of a query tile never leaves the chip, K
    and V are read once a query tile, and query tiles do not wait for each other.

    Notes
    -----
    Algorithm 1 of [1]_. HBM bytes: `traffic.tiled`.

    References
    ----------
    .. [1] Dao, FlashAttention-2, arXiv:2307.08691.
    """
    q_heads, o, lse = grouped(q, k)
    T, S = q.shape[2], k.shape[2]
    for t in range(0, T, block_t):
        rows = np.arange(t, min(t + block_t, T))
        q_tile = q_heads[..., rows, :]  # hbm read
        state = fresh(q_tile)
        for s in range(0, seen_by_tile(rows, T, S, causal), block_s):
            keys = np.arange(s, min(s + block_s, S))
            state = absorb_tile(state, q_tile, k[:, :, keys], v[:, :, keys], rows, keys, (T, S), causal, scale)
        o[..., rows, :], lse[..., rows] = finish(*state)  # hbm write
    return o.reshape(q.shape), lse.reshape(q.shape[:3])


def absorb_tile(state, q_tile, k_tile, v_tile, rows, keys, sizes, causal, scale):
    """Absorb a tile of keys into the state (m, l, o) of a tile of queries, and return the new state.

    Parameters
    ----------
    state : (ndarray (B, G, R, t), ndarray (B, G, R, t), ndarray (B, G, R, t, D))
        m, l and unnormalised o, for the R = H / G query heads of each group.
    q_tile : ndarray of shape (B, G, R, t, D)
    k_tile, v_tile : ndarray of shape (B, G, s, D)
    rows, keys : ndarray of int
        Which queries and keys the tiles hold.
    sizes : (int, int)
        T and S.
    """
    m, l, o = state
    B, G, R, t, D = q_tile.shape
    stacked = (q_tile.astype(o.dtype) * o.dtype.type(scale)).reshape(B, G, R * t, D)  # heads of a group share K
    score = (stacked @ k_tile.astype(o.dtype).swapaxes(-1, -2)).reshape(B, G, R, t, -1)
    if causal and keys[-1] > rows[0] + sizes[1] - sizes[0]:  # only a tile that the diagonal crosses needs the mask
        score = np.where(causal_mask(rows, keys, *sizes), score, -np.inf)
    m_new = np.maximum(m, score.max(axis=-1))
    alpha = np.exp(m - shift(m_new))
    p = np.exp(score - shift(m_new)[..., None])
    pv = (p.reshape(B, G, R * t, -1) @ v_tile.astype(o.dtype)).reshape(o.shape)
    return m_new, alpha * l + p.sum(axis=-1), alpha[..., None] * o + pv


def seen_by_tile(rows, T, S, causal):
    """Return how many keys the last row of a query tile sees: key tiles beyond them are skipped whole."""
    return max(0, min(S, int(rows[-1]) + 1 + S - T)) if causal else S


def grouped(q, k):
    """Return q as (B, G, H/G, T, D), and outputs o (q's dtype) and lse of the same grouping, filled with NaN."""
    (B, H, T, D), G = q.shape, k.shape[1]
    shape = (B, G, H // G if G else 0, T, D)
    return q.reshape(shape), np.full(shape, np.nan, q.dtype), np.full(shape[:-1], np.nan, accumulator(q.dtype))


def fresh(q_tile):
    """Return the state of rows that have seen no key: m = -inf, l = 0, o = 0, in float32 or wider."""
    wide = accumulator(q_tile.dtype)
    return np.full(q_tile.shape[:-1], -np.inf, wide), np.zeros(q_tile.shape[:-1], wide), np.zeros(q_tile.shape, wide)
