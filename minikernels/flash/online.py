"""Online softmax: one pass over the keys, three running numbers a row, no row of scores kept.

The safe softmax needs the maximum of a row before it can sum, and the sum before it can divide: three passes over
scores that must be stored in between. Here every key is absorbed when it is met, and what was summed before under a
smaller maximum is rescaled.
"""

import math

import numpy as np

from minikernels.core.numerics import accumulator, finish, shift


def absorb(m, l, o, score, value):
    """Absorb one key into the running state of any number of rows.

    Parameters
    ----------
    m, l : ndarray of shape (...)
        Largest score so far (-inf at the start), and sum of ``exp(score - m)`` (0 at the start).
    o : ndarray of shape (..., D)
        Sum of ``exp(score - m) * v`` (0 at the start).
    score : ndarray of shape (...)
        The key's score in each row; -inf where the row may not see it.
    value : ndarray of shape (..., D)
        The key's value.

    Returns
    -------
    m, l, o
        The new state: ``m' = max(m, s)``, ``alpha = exp(m - m')``, ``l' = alpha l + exp(s - m')``,
        ``o' = alpha o + exp(s - m') v``.
    """
    m_new = np.maximum(m, score)
    alpha, p = np.exp(m - shift(m_new)), np.exp(score - shift(m_new))
    return m_new, alpha * l + p, alpha[..., None] * o + p[..., None] * value


def row(q, k, v, scale):
    """Return o and lse of one query row, key by key.

    Parameters
    ----------
    q : ndarray of shape (D,)
        The query.
    k, v : ndarray of shape (S, D)
        The keys it sees and their values.
    scale : float
        Factor on every score.

    Returns
    -------
    o : ndarray of shape (D,)
    lse : float

    Examples
    --------
    >>> q, k = np.array([1.0, 0.0]), np.array([[0.0, 1.0], [0.0, 2.0]])
    >>> o, lse = row(q, k, np.array([[1.0, 2.0], [3.0, 4.0]]), scale=1.0)
    >>> o, bool(np.isclose(lse, np.log(2)))
    (array([2., 3.]), True)
    """
    m, l, o = np.asarray(-math.inf, q.dtype), np.zeros((), q.dtype), np.zeros_like(q)
    for key, value in zip(k, v, strict=True):
        m, l, o = absorb(m, l, o, (key @ q) * q.dtype.type(scale), value)
    return finish(m, l, o)


def attention(q, k, v, causal, scale):
    """Return o in q's dtype and lse in float32 or wider; every row streams over the keys at once.

    Differs from reference: the T x S scores never exist; a row keeps m, l and o. Parameters as there.
    """
    (B, H, T, D), (G, S), wide = q.shape, k.shape[1:3], accumulator(q.dtype)
    q_heads = q.astype(wide).reshape(B, G, H // G if G else 0, T, D)  # the query heads of a group side by side
    m, l, o = np.full(q_heads.shape[:-1], -np.inf, wide), np.zeros(q_heads.shape[:-1], wide), np.zeros_like(q_heads)
    for s in range(S):
        rows = np.s_[:, :, :, max(0, s + T - S) if causal else 0 :]  # the queries that see key s
        key, value = (x[:, :, None, None, s].astype(wide) for x in (k, v))  # (B, G, 1, 1, D)
        score = np.sum(q_heads[rows] * key, axis=-1) * wide.type(scale)
        m[rows], l[rows], o[rows] = absorb(m[rows], l[rows], o[rows], score, value)
    o, lse = finish(m, l, o)
    return o.reshape(B, H, T, D).astype(q.dtype), lse.reshape(B, H, T)
