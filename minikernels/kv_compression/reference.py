"""The equation in NumPy, float64 inside: dequantise, then attend. The oracle that every rung of decode answers to.

`decode` is the equation; `plain` the same in the inputs' own precision, which sets the error budget; `judge` holds a
rung's output against both. The caches come as objects with ``dequantize(dtype)``.
"""

import numpy as np

from minikernels.core.numerics import softmax
from minikernels.core.oracle import check


def decode(q, k_cache, v_cache, lengths, scale):
    """Return attention of one query token a sequence over dequantised caches, float64.

    Parameters
    ----------
    q : ndarray of shape (B, H, D)
        The newest token's queries.
    k_cache, v_cache : QuantizedCache of shape (B, G, S, D)
        Query head h reads head ``h // (H / G)``, its first ``lengths[b]`` tokens.
    lengths : ndarray of shape (B,), int
    scale : float
        Factor on every score.

    Returns
    -------
    ndarray of shape (B, H, D), float64
        0 in sequences without keys.

    Notes
    -----
    ``o_h = softmax(q_h K_g^T scale) V_g`` with ``x = minimum + scale * code`` for every number x of K and V but the
    newest tokens' ([1] section 3). Work 4*H*D*sum(lengths) FLOP, and 2 a number for dequantising.

    References
    ----------
    .. [1] Liu et al., KIVI, arXiv:2402.02750.
    """
    k, v = (cache.dequantize(np.float64) for cache in (k_cache, v_cache))
    return attend(q.astype(np.float64), k, v, lengths, scale)


def plain(q, k_cache, v_cache, lengths, scale):
    """Return what plain NumPy computes of `decode` in the inputs' own precision; the measure of the error budget.

    Keys and values dequantised to the input dtype, sums in float32 or wider, probabilities rounded to the input dtype
    before they meet V, o rounded at the end.
    """
    wide = np.result_type(q.dtype, np.float32)
    k, v = (cache.dequantize().astype(wide) for cache in (k_cache, v_cache))
    return attend(q.astype(wide), k, v, lengths, scale, rounded=q.dtype).astype(q.dtype)


def attend(q, k, v, lengths, scale, rounded=None):
    """Return softmax attention of q (B, H, D) over the first ``lengths[b]`` tokens of k and v (B, G, S, D)."""
    (B, H, D), (G, S) = q.shape, k.shape[1:3]
    q_heads = q.reshape(B, G, H // G if G else 0, D)  # the query heads of a group side by side
    held = (np.arange(S) < lengths[:, None])[:, None]  # (B, 1, S)
    k, v = (np.where(held[..., None], x, 0) for x in (k, v))  # 0 * NaN would let what is not there leak in
    score = q_heads @ k.swapaxes(-1, -2) * q.dtype.type(scale)
    p, _ = softmax(np.where(held[:, :, None], score, -np.inf))
    p = p if rounded is None else p.astype(rounded).astype(q.dtype)
    return (p @ v).reshape(q.shape)


def judge(o, q, k_cache, v_cache, lengths, scale):
    """Return the oracle's verdict on a rung's o: {"o": Verdict}."""
    exact, rough = (f(q, k_cache, v_cache, lengths, scale) for f in (decode, plain))
    held = (np.arange(k_cache.shape[2]) < lengths[:, None])[:, None, :, None]
    k, v = (np.where(held, np.abs(cache.dequantize(np.float64)), 0) for cache in (k_cache, v_cache))
    (B, H, D), G = q.shape, k.shape[1]
    q_heads = np.abs(q.astype(np.float64)).reshape(B, G, H // G if G else 0, D)
    score = largest(q_heads @ k.swapaxes(-1, -2)) * abs(scale)
    return {"o": check(o, exact, rough, letters="BHD", magnitude=largest(v), exponent=score)}


def largest(x):
    """Return the largest number, or 0 of an empty array."""
    return float(np.max(x, initial=0))
