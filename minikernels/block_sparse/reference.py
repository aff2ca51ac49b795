"""The equation in NumPy, float64 inside: the oracle that every other rung answers to.

`attention` is dense attention with every block of the mask spread out; `plain` the same in the inputs' own precision,
which sets the error budget; `judge` holds a rung's outputs against both.
"""

import numpy as np

from minikernels.block_sparse.lists import visible
from minikernels.core.numerics import softmax
from minikernels.core.oracle import check


def attention(q, k, v, mask, block, causal, scale):
    """Return attention over the kept blocks and the log-sum-exp of every row of scores, both float64.

    Parameters
    ----------
    q : ndarray of shape (B, H, T, D)
        Queries.
    k, v : ndarray of shape (B, G, S, D)
        Keys and values; query head h reads head ``h // (H / G)``.
    mask : ndarray of shape (B or 1, H or 1, ceil(T/R), ceil(S/C)), bool
        Query t sees key s only if ``mask[b, h, t // R, s // C]``.
    block : (int, int)
        R and C.
    causal : bool
        Query t sees key s only if ``s <= t + S - T``.
    scale : float
        Factor on every score.

    Returns
    -------
    o : ndarray of shape (B, H, T, D), float64
        0 in rows that see no key.
    lse : ndarray of shape (B, H, T), float64
        -inf in such rows.

    Notes
    -----
    Section 3.3 of [1]_: ``S = Q K^T * scale`` where the mask is 1 and -inf where it is 0. As it stands here it takes
    4*B*H*T*S*D FLOP whatever the mask.

    References
    ----------
    .. [1] Dao et al., FlashAttention, arXiv:2205.14135.
    """
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    p, lse = softmax(scores(q, k, mask, block, causal, scale))
    return p @ per_query_head(v, q), lse


def plain(q, k, v, mask, block, causal, scale):
    """Return o and lse as plain NumPy computes them in the inputs' own precision; the measure of the error budget.

    Sums in float32 or wider, P rounded to the input dtype before it meets V, o rounded at the end.
    """
    wide = np.result_type(q.dtype, np.float32)
    p, lse = softmax(scores(q.astype(wide), k.astype(wide), mask, block, causal, scale))
    o = p.astype(q.dtype).astype(wide) @ per_query_head(v.astype(wide), q)
    return o.astype(q.dtype), lse


def judge(o, lse, q, k, v, mask, block, causal, scale):
    """Return the oracle's verdicts on a rung's o and lse: {"o": Verdict, "lse": Verdict}."""
    given = q, k, v, mask, block, causal, scale
    exact, rough = attention(*given), plain(*given)
    terms = largest_score(q, k, scale)
    sizes = {"magnitude": largest(v), "exponent": terms}
    if q.dtype == np.float16:  # roundings of P to float16 fall independently: they add up as a root of a sum of squares
        p, _ = softmax(scores(q.astype(np.float64), k.astype(np.float64), mask, block, causal, scale))
        spread = np.sqrt(p**2 @ per_query_head(v.astype(np.float64) ** 2, q))
        sizes["rounded"] = np.abs(exact[0]) + spread
    return {
        "o": check(o, exact[0], rough[0], name="o", letters="BHTD", **sizes),
        "lse": check(lse, exact[1], rough[1], name="lse", letters="BHT", magnitude=terms),
    }


def scores(q, k, mask, block, causal, scale):
    """Return ``q k^T scale`` of shape (B, H, T, S), -inf where a query may not see a key."""
    s = q @ per_query_head(k, q).swapaxes(-1, -2) * q.dtype.type(scale)
    return np.where(visible(mask, *s.shape[-2:], block, causal), s, -np.inf)


def per_query_head(x, q):
    """Repeat the G heads of `x` so that query head h finds its own at h: (B, G, S, D) -> (B, H, S, D)."""
    H, G = q.shape[1], x.shape[1]
    return np.repeat(x, H // G, axis=1) if G else x


def largest_score(q, k, scale):
    """Return the largest ``sum |q k| scale``: the size of the terms that a score is summed from."""
    q, k = np.abs(q.astype(np.float32)), per_query_head(np.abs(k.astype(np.float32)), q)
    heads = (largest(q[at] @ k[at].T) for at in np.ndindex(q.shape[:2]))
    return abs(scale) * max(heads, default=0.0)


def largest(x):
    """Return the largest absolute value, or 0 of an empty array."""
    return float(np.max(np.abs(x), initial=0))
