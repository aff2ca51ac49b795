"""The paper's equation in NumPy, float64 inside: the oracle that every other rung answers to.

`attention` and `attention_backward` are the equations; `plain` and `plain_backward` the same in the inputs' own
precision, which sets the error budget; `judge` and `judge_backward` hold a rung's outputs against both.
"""

import numpy as np

from minikernels.core.numerics import causal_mask, softmax
from minikernels.core.oracle import check


def attention(q, k, v, causal, scale):
    """Return softmax attention and the log-sum-exp of every row of scores, both float64.

    Parameters
    ----------
    q : ndarray of shape (B, H, T, D)
        Queries.
    k, v : ndarray of shape (B, G, S, D)
        Keys and values; query head h reads head ``h // (H / G)``.
    causal : bool
        Query t sees key s iff ``s <= t + S - T``.
    scale : float
        Factor on every score.

    Returns
    -------
    o : ndarray of shape (B, H, T, D), float64
        0 in rows that see no key.
    lse : ndarray of shape (B, H, T), float64
        Natural logarithm; -inf in rows that see no key.

    Notes
    -----
    ``O = softmax(Q K^T scale) V``, [1] section 2.2, standard attention. Work 4*B*H*T*S*D FLOP.

    References
    ----------
    .. [1] Dao et al., FlashAttention, arXiv:2205.14135.
    """
    p, lse = softmax(scores(q.astype(np.float64), k.astype(np.float64), causal, scale))
    return p @ per_query_head(v.astype(np.float64), q), lse


def attention_backward(q, k, v, o, lse, do, causal, scale):
    """Return dq, dk and dv in float64, from [1] appendix B.2; `o` and `lse` are computed anew.

    With ``P = softmax(S)``: ``dV = P^T dO``, ``dP = dO V^T``, ``dS = P * (dP - rowsum(P * dP))``,
    ``dQ = dS K scale``, ``dK = dS^T Q scale``. A key/value head sums over the query heads that share it.
    """
    q, k, v, do = (x.astype(np.float64) for x in (q, k, v, do))
    p, _ = softmax(scores(q, k, causal, scale))
    dp = do @ per_query_head(v, q).swapaxes(-1, -2)
    ds = p * (dp - np.sum(p * dp, axis=-1, keepdims=True)) * scale
    dq = ds @ per_query_head(k, q)
    dk, dv = ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ do
    return dq, per_key_head(dk, k), per_key_head(dv, v)


def plain(q, k, v, causal, scale):
    """Return o and lse as plain NumPy computes them in the inputs' own precision.

    The measure of the error budget (`minikernels.core.oracle`): sums in float32 or wider, P rounded to the
    input dtype before it meets V, as a tensor core needs it, and o rounded at the end.
    """
    wide = np.result_type(q.dtype, np.float32)
    p, lse = softmax(scores(q.astype(wide), k.astype(wide), causal, scale))
    o = p.astype(q.dtype).astype(wide) @ per_query_head(v.astype(wide), q)
    return o.astype(q.dtype), lse


def plain_backward(q, k, v, o, lse, do, causal, scale):
    """Return dq, dk and dv as plain NumPy computes them in the inputs' own precision; the budget's measure."""
    wide = np.result_type(q.dtype, np.float32)
    q_, k_, v_, o_, do_ = (x.astype(wide) for x in (q, k, v, o, do))
    p, _ = softmax(scores(q_, k_, causal, scale))
    dp = do_ @ per_query_head(v_, q).swapaxes(-1, -2)
    ds = p * (dp - np.sum(do_ * o_, axis=-1, keepdims=True)) * wide.type(scale)
    p, ds = (x.astype(q.dtype).astype(wide) for x in (p, ds))
    dk, dv = ds.swapaxes(-1, -2) @ q_, p.swapaxes(-1, -2) @ do_
    grads = ds @ per_query_head(k_, q), per_key_head(dk, k), per_key_head(dv, v)
    return tuple(x.astype(q.dtype) for x in grads)


def judge(o, lse, q, k, v, causal, scale):
    """Return the oracle's verdicts on a rung's o and lse: {"o": Verdict, "lse": Verdict}."""
    exact, rough = attention(q, k, v, causal, scale), plain(q, k, v, causal, scale)
    terms = largest_score(q, k, scale)
    sizes = {"magnitude": largest(v), "exponent": terms}
    if q.dtype == np.float16:  # roundings of P to float16 fall independently: they add up as a root of a sum of squares
        p, _ = softmax(scores(q.astype(np.float64), k.astype(np.float64), causal, scale))
        spread = np.sqrt(p**2 @ per_query_head(v.astype(np.float64) ** 2, q))
        sizes["rounded"] = np.abs(exact[0]) + spread
    return {
        "o": check(o, exact[0], rough[0], name="o", letters="BHTD", **sizes),
        "lse": check(lse, exact[1], rough[1], name="lse", letters="BHT", magnitude=terms),
    }


def judge_backward(dq, dk, dv, q, k, v, do, causal, scale):
    """Return the oracle's verdicts on a rung's gradients: {"dq": Verdict, "dk": Verdict, "dv": Verdict}."""
    o, lse = plain(q, k, v, causal, scale)
    exact = attention_backward(q, k, v, o, lse, do, causal, scale)
    rough = plain_backward(q, k, v, o, lse, do, causal, scale)
    names = zip(("dq", "dk", "dv"), ("BHTD", "BGSD", "BGSD"), (dq, dk, dv), exact, rough, strict=True)
    terms = largest_score(q, k, scale)
    return {name: check(x, e, r, name=name, letters=letters, exponent=terms) for name, letters, x, e, r in names}


def largest_score(q, k, scale):
    """Return the largest ``sum |q k| scale``: the size of the terms that a score is summed from."""
    q, k = np.abs(q.astype(np.float32)), per_query_head(np.abs(k.astype(np.float32)), q)
    heads = (largest(q[at] @ k[at].T) for at in np.ndindex(q.shape[:2]))  # one at a time: S numbers a row are many
    return abs(scale) * max(heads, default=0.0)


def largest(x):
    """Return the largest absolute value, or 0 of an empty array."""
    return float(np.max(np.abs(x), initial=0))


def scores(q, k, causal, scale):
    """Return ``q k^T scale`` of shape (B, H, T, S), -inf where a query may not see a key."""
    s = q @ per_query_head(k, q).swapaxes(-1, -2) * q.dtype.type(scale)
    T, S = s.shape[-2:]
    return np.where(causal_mask(np.arange(T), np.arange(S), T, S), s, -np.inf) if causal else s


def per_query_head(x, q):
    """Repeat the G heads of `x` so that query head h finds its own at h: (B, G, S, D) -> (B, H, S, D)."""
    H, G = q.shape[1], x.shape[1]
    return np.repeat(x, H // G, axis=1) if G else x


def per_key_head(x, k):
    """Sum a gradient over the query heads of each key/value head: (B, H, S, D) -> (B, G, S, D)."""
    B, G, S, D = k.shape
    return x.reshape(B, G, x.shape[1] // G if G else 0, S, D).sum(axis=2)
