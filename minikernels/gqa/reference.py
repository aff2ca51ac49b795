"""The papers' equation in NumPy, float64 inside: the oracle that every other rung answers to.

`decode` and `attention` are the equation; `plain` and `plain_attention` the same in the inputs' own precision, which
sets the error budget; `judge` and `judge_attention` hold a rung's output against both.
"""

import numpy as np

from minikernels.core.numerics import keys_seen, softmax
from minikernels.core.oracle import check


def decode(q, k, v, lengths, scale):
    """Return attention of one query token a sequence, float64.

    Parameters
    ----------
    q : ndarray of shape (B, H, D)
        The newest token's queries.
    k, v : ndarray of shape (B, G, S, D)
        The cache; query head h reads head ``h // (H / G)``. Rows from ``lengths[b]`` on may hold anything.
    lengths : ndarray of shape (B,), int
        How many keys each sequence has.
    scale : float
        Factor on every score.

    Returns
    -------
    ndarray of shape (B, H, D), float64
        0 in sequences without keys.

    Notes
    -----
    ``o_h = softmax(q_h K_g^T scale) V_g`` with ``g = h // (H / G)``: [1] section 3 is G = 1, [2] any G. Work
    4*H*D*sum(lengths) FLOP.

    References
    ----------
    .. [1] Shazeer, Fast Transformer Decoding: One Write-Head is All You Need, arXiv:1911.02150.
    .. [2] Ainslie et al., GQA, arXiv:2305.13245.
    """
    wide = (x.astype(np.float64) for x in (q[:, :, None], k, v))
    return attend(*wide, lengths[:, None], scale)[:, :, 0]


def attention(q, k, v, causal, scale):
    """Return attention of T queries a head, q (B, H, T, D) to (B, H, T, D), float64; causal is bottom-right aligned."""
    seen = np.broadcast_to(keys_seen(q.shape[2], k.shape[2], causal), (q.shape[0], q.shape[2]))
    return attend(*(x.astype(np.float64) for x in (q, k, v)), seen, scale)


def plain(q, k, v, lengths, scale):
    """Return what plain NumPy computes of `decode` in the inputs' own precision; the measure of the error budget.

    Sums in float32 or wider, probabilities rounded to the input dtype before they meet V, o rounded at the end.
    """
    wide = (x.astype(np.result_type(q.dtype, np.float32)) for x in (q[:, :, None], k, v))
    return attend(*wide, lengths[:, None], scale, rounded=q.dtype)[:, :, 0].astype(q.dtype)


def plain_attention(q, k, v, causal, scale):
    """Return what plain NumPy computes of `attention` in the inputs' own precision."""
    seen = np.broadcast_to(keys_seen(q.shape[2], k.shape[2], causal), (q.shape[0], q.shape[2]))
    wide = (x.astype(np.result_type(q.dtype, np.float32)) for x in (q, k, v))
    return attend(*wide, seen, scale, rounded=q.dtype).astype(q.dtype)


def attend(q, k, v, seen, scale, rounded=None):
    """Return softmax attention where query t of sequence b sees the first ``seen[b, t]`` keys; 0 where it sees none."""
    (B, H, T, D), (G, S) = q.shape, k.shape[1:3]
    q_heads = q.reshape(B, G, H // G if G else 0, T, D)  # the query heads of a group side by side
    key = np.arange(S)
    held = (key < np.max(seen, axis=1, initial=0)[:, None])[:, None, :, None]
    k, v = (np.where(held, x, 0)[:, :, None] for x in (k, v))  # 0 * NaN would let what no query sees leak in
    score = q_heads @ k.swapaxes(-1, -2) * q.dtype.type(scale)
    p, _ = softmax(np.where(key < seen[:, None, None, :, None], score, -np.inf))
    p = p if rounded is None else p.astype(rounded).astype(q.dtype)
    return (p @ v).reshape(q.shape)


def judge(o, q, k, v, lengths, scale):
    """Return the oracle's verdict on a decode rung's o: {"o": Verdict}."""
    exact, rough = (f(q, k, v, lengths, scale) for f in (decode, plain))
    held = np.arange(k.shape[2]) < lengths[:, None]
    k, v = (np.where(held[:, None, :, None], x, 0) for x in (k, v))
    return {"o": verdict(o, exact, rough, q[:, :, None], k, v, scale, "BHD")}


def judge_attention(o, q, k, v, causal, scale):
    """Return the oracle's verdict on an attention rung's o: {"o": Verdict}."""
    exact, rough = (f(q, k, v, causal, scale) for f in (attention, plain_attention))
    return {"o": verdict(o, exact, rough, q, k, v, scale, "BHTD")}


def verdict(o, exact, rough, q, k, v, scale, letters):
    """Return the oracle's verdict, with its rounding band relative to the terms that were summed."""
    return check(o, exact, rough, letters=letters, magnitude=largest(v), exponent=largest_score(q, k, scale))


def largest_score(q, k, scale):
    """Return the largest ``sum |q k| scale``: the size of the terms that a score is summed from."""
    (B, H, T, D), G = q.shape, k.shape[1]
    q_heads = np.abs(q.astype(np.float64)).reshape(B, G, H // G if G else 0, T, D)
    return largest(q_heads @ np.abs(k.astype(np.float64))[:, :, None].swapaxes(-1, -2)) * abs(scale)


def largest(x):
    """Return the largest absolute value, or 0 of an empty array."""
    return float(np.max(np.abs(x.astype(np.float64)), initial=0))
