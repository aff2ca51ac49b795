"""Attention in NumPy, in a kernel's own loop order: a tile of keys at a time, merged by (m, l, o).

``hbm`` in a comment marks what a kernel would read from or write to HBM; everything else would live in shared memory
and registers.
"""

from functools import reduce

import numpy as np

from minikernels.core.numerics import accumulator, causal_mask, finish, merge, shift

BLOCK_T, BLOCK_S = 128, 256  # large enough that NumPy's per-call cost does not show


def decode(q, k, v, lengths, scale, block_s=BLOCK_S):
    """Return o in q's dtype: every split of the keys gives a state (m, l, o), and the states are merged.

    Differs from reference: no row of scores is kept, and the splits do not wait for each other. The query heads of a
    group are rows of one small matrix, so that a tile of K and V serves all of them.

    Parameters
    ----------
    q, k, v, lengths, scale
        As in `reference.decode`.
    block_s : int
        Keys of a split.

    Notes
    -----
    ``M = max m_i; o = sum e^(m_i - M) o_i / sum e^(m_i - M) l_i``. HBM bytes: `traffic.tiled`.
    """
    (B, H, D), G, wide = q.shape, k.shape[1], accumulator(q.dtype)
    q_tile = q.astype(wide).reshape(B, G, H // G, D) * wide.type(scale)  # hbm read
    longest = int(np.max(lengths, initial=0))
    splits = (np.arange(s, min(s + block_s, longest)) for s in range(0, longest, block_s))
    states = (split(q_tile, k, v, lengths, keys) for keys in splits)
    m, l, o = reduce(merge, states, fresh(q_tile))
    return finish(m, l, o)[0].reshape(B, H, D).astype(q.dtype)  # hbm write


def split(q_tile, k, v, lengths, keys):
    """Return the state (m, l, o) of all rows over some consecutive keys.

    Parameters
    ----------
    q_tile : ndarray of shape (B, G, R, D), float32 or wider
        Queries, scale included, R = H / G to a group.
    k, v : ndarray of shape (B, G, S, D)
    lengths : ndarray of shape (B,), int
    keys : ndarray of int
        Which keys.
    """
    held = keys < lengths[:, None]  # (B, keys)
    tiles = (np.where(held[:, None, :, None], x[:, :, keys], 0) for x in (k, v))  # hbm read
    k_tile, v_tile = (x.astype(q_tile.dtype) for x in tiles)
    score = np.where(held[:, None, None], q_tile @ k_tile.swapaxes(-1, -2), -np.inf)
    return state(score, v_tile)


def state(score, v_tile):
    """Return (m, l, o) of rows of scores: maximum, sum of exp(score - m), and the same sum weighting v."""
    m = score.max(axis=-1)
    p = np.exp(score - shift(m)[..., None])
    return m, p.sum(axis=-1), p @ v_tile


def attention(q, k, v, causal, scale, block_t=BLOCK_T, block_s=BLOCK_S):
    """Return o in q's dtype: queries outside, keys inside, the query heads of a group stacked.

    Differs from reference: scores exist a tile at a time. A tile of K and V is read once for all H / G heads that
    share it.

    Parameters
    ----------
    q, k, v, causal, scale
        As in `reference.attention`.
    block_t, block_s : int
        Rows in a tile of queries, and in a tile of keys.
    """
    (B, H, T, D), (G, S), wide = q.shape, k.shape[1:3], accumulator(q.dtype)
    o = np.full((B, G, H // G, T, D), np.nan, q.dtype)
    for t in range(0, T, block_t):
        rows = np.arange(t, min(t + block_t, T))
        q_tile = q.reshape(o.shape)[..., rows, :].astype(wide) * wide.type(scale)  # hbm read
        seen = max(0, min(S, int(rows[-1]) + 1 + S - T)) if causal else S
        states = []
        for s in range(0, seen, block_s):
            keys = np.arange(s, min(s + block_s, S))
            k_tile, v_tile = (x[:, :, None, keys].astype(wide) for x in (k, v))  # hbm read
            score = q_tile @ k_tile.swapaxes(-1, -2)
            states.append(state(np.where(causal_mask(rows, keys, T, S), score, -np.inf) if causal else score, v_tile))
        o[..., rows, :] = finish(*reduce(merge, states, fresh(q_tile)))[0]  # hbm write
    return o.reshape(q.shape)


def fresh(q_tile):
    """Return the state of rows that have seen no key: m = -inf, l = 0, o = 0."""
    return (np.full(q_tile.shape[:-1], -np.inf, q_tile.dtype), np.zeros(q_tile.shape[:-1], q_tile.dtype),
            np.zeros_like(q_tile))
