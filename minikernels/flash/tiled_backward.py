"""The backward pass tile by tile in NumPy: P is recomputed from q, k and lse, and nothing of size T x S is stored.

Two passes, as in the kernels: one that owns keys and sums dk and dv over queries, one that owns queries and sums dq
over keys. Each score is computed twice, and no two tiles ever add to the same gradient.
"""

import numpy as np

from minikernels.core.numerics import accumulator, causal_mask, keys_seen

BLOCK_T, BLOCK_S = 128, 128


def attention_backward(q, k, v, o, lse, do, causal, scale, block_t=BLOCK_T, block_s=BLOCK_S):
    """Return dq, dk and dv in q's dtype; sums are float32 or wider.

    Differs from reference: scores come back tile by tile from lse, ``P = exp(S - lse)``, and ``rowsum(P * dP)`` from
    ``delta = rowsum(do * o)``, one number a row, before any tile is touched.

    Parameters
    ----------
    q, o, do : ndarray of shape (B, H, T, D)
        Queries, the forward pass's result, and the gradient of the loss by it.
    k, v : ndarray of shape (B, G, S, D)
        Keys and values.
    lse : ndarray of shape (B, H, T)
        From the forward pass.
    causal, scale
        As in the forward pass.
    block_t, block_s : int
        Rows in a tile of queries, and in a tile of keys.

    References
    ----------
    .. [1] Dao, FlashAttention-2, arXiv:2307.08691, algorithm 2.
    """
    wide, (B, G, S, D), (H, T) = accumulator(q.dtype), k.shape, q.shape[1:3]
    R = H // G if G else 0
    by_group = (B, G, R, T, D)  # the query heads of a group side by side
    qw, ow, dow = (x.astype(wide).reshape(by_group) for x in (q, o, do))
    kw, vw = (x.astype(wide)[:, :, None] for x in (k, v))  # (B, G, 1, S, D)
    lse, delta = lse.reshape(by_group[:-1]), np.sum(dow * ow, axis=-1)
    dq, dk, dv = np.zeros_like(qw), np.zeros((B, G, S, D), wide), np.zeros((B, G, S, D), wide)

    def tile(rows, keys):
        """Return P and dS of one tile, (B, G, R, t, s)."""
        s = qw[..., rows, :] @ kw[..., keys, :].swapaxes(-1, -2) * wide.type(scale)
        if causal:
            s = np.where(causal_mask(rows, keys, T, S), s, -np.inf)
        base = lse[..., rows, None]
        p = np.exp(s - np.where(base == -np.inf, 0, base))  # a row that sees no key has lse = -inf and P = 0
        dp = dow[..., rows, :] @ vw[..., keys, :].swapaxes(-1, -2)
        return p, p * (dp - delta[..., rows, None])

    seen = keys_seen(T, S, causal)
    for s in range(0, S, block_s):  # pass 1: a tile of keys owns dk and dv
        keys = np.arange(s, min(s + block_s, S))
        first = int(np.searchsorted(seen, s, side="right")) // block_t * block_t  # tile of the first query to see key s
        for t in range(first, T, block_t):
            rows = np.arange(t, min(t + block_t, T))
            p, ds = tile(rows, keys)
            dv[:, :, keys] += np.sum(p.swapaxes(-1, -2) @ dow[..., rows, :], axis=2)
            dk[:, :, keys] += np.sum(ds.swapaxes(-1, -2) @ qw[..., rows, :], axis=2)
    for t in range(0, T, block_t):  # pass 2: a tile of queries owns dq
        rows = np.arange(t, min(t + block_t, T))
        for s in range(0, int(seen[rows[-1]]), block_s):
            keys = np.arange(s, min(s + block_s, S))
            dq[..., rows, :] += tile(rows, keys)[1] @ kw[..., keys, :]
    dq, dk = dq * wide.type(scale), dk * wide.type(scale)
    return dq.reshape(q.shape).astype(q.dtype), dk.astype(q.dtype), dv.astype(q.dtype)
