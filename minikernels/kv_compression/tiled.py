"""Decoding over quantised caches in NumPy, in a kernel's own loop order: a group of tokens at a time.

``hbm`` in a comment marks what a kernel would read from or write to HBM; everything else would live in shared memory
and registers.
"""

from functools import reduce

import numpy as np

from minikernels.core.numerics import accumulator, finish, merge, shift

BLOCK_S = 256  # tokens of a tile: large enough that NumPy's per-call cost does not show


def decode(q, k_cache, v_cache, lengths, scale, block_s=BLOCK_S):
    """Return o in q's dtype: every tile of tokens is dequantised and gives a state (m, l, o); the states are merged.

    Differs from reference: no dequantised cache exists, only a tile of it at a time. What crosses HBM are codes, scales
    and minima, and of the newest tokens the numbers themselves.

    Parameters
    ----------
    q, k_cache, v_cache, lengths, scale
        As in `reference.decode`.
    block_s : int
        Tokens of a tile.

    Notes
    -----
    ``M = max m_i; o = sum e^(m_i - M) o_i / sum e^(m_i - M) l_i``. HBM bytes: `traffic.tiled`.
    """
    (B, H, D), G, wide = q.shape, k_cache.shape[1], accumulator(q.dtype)
    q_tile = q.astype(wide).reshape(B, G, H // G, D) * wide.type(scale)  # hbm read
    longest = int(np.max(lengths, initial=0))
    tiles = (np.arange(s, min(s + block_s, longest)) for s in range(0, longest, block_s))
    states = (state(q_tile, k_cache, v_cache, lengths, keys) for keys in tiles)
    m, l, o = reduce(merge, states, fresh(q_tile))
    return finish(m, l, o)[0].reshape(B, H, D).astype(q.dtype)  # hbm write


def state(q_tile, k_cache, v_cache, lengths, keys):
    """Return (m, l, o) of all rows over some consecutive tokens: maximum, sum of exp(score - m), and that weighting v.

    Parameters
    ----------
    q_tile : ndarray of shape (B, G, R, D), float32 or wider
        Queries, scale included, R = H / G to a group.
    k_cache, v_cache : QuantizedCache of shape (B, G, S, D)
    lengths : ndarray of shape (B,), int
    keys : ndarray of int
        Which tokens.
    """
    held = keys < lengths[:, None]  # (B, keys)
    tiles = (cache.tokens(keys[0], keys[-1] + 1, q_tile.dtype) for cache in (k_cache, v_cache))  # hbm read
    k_tile, v_tile = (np.where(held[:, None, :, None], x, 0) for x in tiles)
    score = np.where(held[:, None, None], q_tile @ k_tile.swapaxes(-1, -2), -np.inf)
    m = score.max(axis=-1)
    p = np.exp(score - shift(m)[..., None])
    return m, p.sum(axis=-1), p @ v_tile


def fresh(q_tile):
    """Return the state of rows that have seen no key: m = -inf, l = 0, o = 0."""
    return (np.full(q_tile.shape[:-1], -np.inf, q_tile.dtype), np.zeros(q_tile.shape[:-1], q_tile.dtype),
            np.zeros_like(q_tile))
