"""Softmax that survives rows which see nothing, causal visibility, and the merging of partial results.

Everything here works on NumPy arrays of any floating dtype and keeps that dtype.
"""

import math
import numbers

import numpy as np

from minikernels.core.errors import DtypeError

__all__ = [
    "FLOATS", "LN2", "LOG2E", "accumulator", "causal_mask", "finish", "keys_seen", "merge", "score_scale", "shift",
    "softmax",
]

FLOATS = ("float16", "float32", "float64")  # dtypes that the NumPy rungs take

LOG2E = math.log2(math.e)  # exp(x) == exp2(x * LOG2E): one multiplication, folded into the softmax scale
LN2 = math.log(2.0)  # a base-2 logarithm times LN2 is the natural one


def accumulator(dtype):
    """Return the dtype in which sums over `dtype` are kept: float32 or wider."""
    return np.result_type(dtype, np.float32)


def score_scale(scale, D):
    """Return the factor on attention scores as a float: ``D ** -0.5`` unless one is given.

    Raises
    ------
    DtypeError
        If `scale` is not a real number.

    >>> score_scale(None, D=64)
    0.125
    """
    if scale is None:
        return D**-0.5 if D else 1.0
    if not isinstance(scale, numbers.Real):
        raise DtypeError(f"scale is of type {type(scale).__name__}; it must be a number")
    return float(scale)


def keys_seen(T, S, causal):
    """Return how many keys each of T queries sees: a prefix of the S keys, int64 of shape (T,).

    A causal mask is aligned bottom right: query t sees key s iff ``s <= t + S - T``, so the last query sees
    every key and, where S < T, the first T - S queries see none.

    >>> keys_seen(4, 2, causal=True)
    array([0, 0, 1, 2])
    """
    if not causal:
        return np.full(T, S, np.int64)
    return np.clip(np.arange(T) + (S - T + 1), 0, S)


def causal_mask(rows, keys, T, S):
    """Return a bool array (len(rows), len(keys)): True where the query may see the key.

    >>> causal_mask(np.arange(2), np.arange(3), T=2, S=3).astype(int)
    array([[1, 1, 0],
           [1, 1, 1]])
    """
    return keys[None, :] <= rows[:, None] + (S - T)


def shift(m):
    """Return the row maxima with -inf replaced by 0, so that ``scores - shift(m)`` has no inf - inf."""
    return np.where(m == -np.inf, np.zeros_like(m), m)


def softmax(scores):
    """Return softmax over the last axis and its natural log-sum-exp.

    Parameters
    ----------
    scores : ndarray of shape (..., S)
        Masked cells hold -inf. S may be 0.

    Returns
    -------
    p : ndarray of shape (..., S)
        A row of nothing but -inf gives zeros, where ``exp(s) / sum`` would give NaN.
    lse : ndarray of shape (...)
        -inf for such a row.
    """
    m = np.max(scores, axis=-1, initial=-np.inf)
    p = np.exp(scores - shift(m)[..., None])
    l = np.sum(p, axis=-1)
    return finish(m, l, p)


def finish(m, l, o):
    """Return ``o / l`` and ``m + log(l)``, and 0 and -inf where no key was seen (l = 0).

    Parameters
    ----------
    m, l : ndarray of shape (...)
        Running maximum, and running sum of ``exp(score - m)``.
    o : ndarray of shape (..., D)
        Running sum of ``exp(score - m) * v``.
    """
    empty = l == 0
    divisor = np.where(empty, np.ones_like(l), l)
    return o / divisor[..., None], np.where(empty, np.full_like(m, -np.inf), m + np.log(divisor))


def merge(first, second):
    """Merge two partial attentions (m, l, o) over disjoint keys into one.

    The operator is associative and commutative: online softmax, split-KV decoding and a parallel scan over
    keys all use it. ``o`` is unnormalised: ``sum exp(score - m) v``.

    >>> one = (np.float64(2.0), np.float64(1.0), np.array([3.0]))
    >>> none = (np.float64(-np.inf), np.float64(0.0), np.array([0.0]))
    >>> [float(np.squeeze(x)) for x in merge(one, none)]
    [2.0, 1.0, 3.0]
    """
    m1, l1, o1 = first
    m2, l2, o2 = second
    m = np.maximum(m1, m2)
    a1, a2 = np.exp(m1 - shift(m)), np.exp(m2 - shift(m))
    return m, a1 * l1 + a2 * l2, a1[..., None] * o1 + a2[..., None] * o2
