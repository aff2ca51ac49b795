"""Block-sparse attention in NumPy, in a kernel's own loop order: rows of query blocks walk over lists of key blocks.

``hbm`` in a comment marks what a kernel would read from or write to HBM; everything else would live in shared memory
and registers.
"""

import numpy as np

from minikernels.block_sparse.lists import block_lists
from minikernels.core.numerics import accumulator, finish, shift


def attention(q, k, v, mask, block, causal, scale):
    """Return o in q's dtype and lse in float32 or wider: rows of blocks outside, their lists of key blocks inside.

    Differs from reference: scores exist a block at a time, and only those of blocks that are kept and seen.

    Parameters
    ----------
    q, k, v, mask, block, causal, scale
        As in `reference.attention`.

    Notes
    -----
    Algorithm 5 of [1]_ with queries outside. HBM bytes: `traffic.tiled`.

    References
    ----------
    .. [1] Dao et al., FlashAttention, arXiv:2205.14135.
    """
    (B, H, T, _), (G, S), R = q.shape, k.shape[1:3], block[0]
    lists = block_lists(mask, T, S, block, causal)
    o, lse = np.full(q.shape, np.nan, q.dtype), np.full(q.shape[:3], np.nan, accumulator(q.dtype))
    for b, h, i in np.ndindex(B, H, mask.shape[2]):
        n = np.ravel_multi_index((b % mask.shape[0], h % mask.shape[1], i), mask.shape[:3])
        columns = lists.columns[lists.starts[n] : lists.starts[n + 1]]
        rows, head = np.arange(i * R, min(i * R + R, T)), (b, h // (H // G))
        q_tile = q[b, h, rows].astype(lse.dtype) * lse.dtype.type(scale)  # hbm read
        diagonal = S - T if causal else S  # row t sees the keys up to t + diagonal
        state = walk(q_tile, k[head], v[head], columns, lists.full[n], rows + diagonal, block[1])
        o[b, h, rows], lse[b, h, rows] = finish(*state)  # hbm write
    return o, lse


def walk(q_tile, k, v, columns, full, last, C):
    """Return the state (m, l, o) of some query rows after their list of key blocks.

    Parameters
    ----------
    q_tile : ndarray of shape (rows, D), float32 or wider
        Queries, scale included.
    k, v : ndarray of shape (S, D)
    columns : ndarray of int
        The key blocks; in the first `full` of them every row sees every key.
    full : int
    last : ndarray of shape (rows,), int
        The last key that each row may see.
    C : int
        Keys of a block.
    """
    m, l, o = np.full(len(q_tile), -np.inf, q_tile.dtype), np.zeros(len(q_tile), q_tile.dtype), np.zeros_like(q_tile)
    for n, j in enumerate(columns):
        keys = np.arange(j * C, min(j * C + C, len(k)))
        k_tile, v_tile = k[keys].astype(q_tile.dtype), v[keys].astype(q_tile.dtype)  # hbm read
        score = q_tile @ k_tile.T
        if n >= full:  # only partial blocks need the mask
            score = np.where(keys <= last[:, None], score, -np.inf)
        m_new = np.maximum(m, score.max(axis=1))
        alpha, p = np.exp(m - shift(m_new)), np.exp(score - shift(m_new)[:, None])
        m, l, o = m_new, alpha * l + p.sum(axis=1), alpha[:, None] * o + p @ v_tile
    return m, l, o
