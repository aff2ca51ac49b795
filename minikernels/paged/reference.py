"""The equation in NumPy, float64 inside: the oracle that every other rung answers to.

`decode` is the equation over gathered pages; `plain` the same in the inputs' own precision, which sets the error
budget; `judge` holds a rung's output against both.
"""

import numpy as np

from minikernels.core.numerics import softmax
from minikernels.core.oracle import check


def decode(q, k_pages, v_pages, page_table, lengths, scale):
    """Return attention of one query token a sequence over its pages, float64.

    Parameters
    ----------
    q : ndarray of shape (B, H, D)
        The newest token's queries.
    k_pages, v_pages : ndarray of shape (pages, P, G, D)
        The pool; query head h reads head ``h // (H / G)``. Slots that a sequence does not hold may contain anything.
    page_table : ndarray of shape (B, max_pages), int
    lengths : ndarray of shape (B,), int
    scale : float
        Factor on every score.

    Returns
    -------
    ndarray of shape (B, H, D), float64
        0 in sequences without keys.

    Notes
    -----
    [1] eq. 4 with one softmax over all pages: ``o_h = softmax(q_h K_g^T scale) V_g``, where row t of K_g is
    ``k_pages[page_table[b, t // P], t % P, g]``. Work 4*H*D*sum(lengths) FLOP.

    References
    ----------
    .. [1] Kwon et al., PagedAttention, arXiv:2309.06180.
    """
    k, v = (gather(x, page_table, lengths).astype(np.float64) for x in (k_pages, v_pages))
    return attend(q.astype(np.float64), k, v, lengths, scale)


def plain(q, k_pages, v_pages, page_table, lengths, scale):
    """Return what plain NumPy computes of `decode` in the inputs' own precision; the measure of the error budget.

    Sums in float32 or wider, probabilities rounded to the input dtype before they meet V, o rounded at the end.
    """
    wide = np.result_type(q.dtype, np.float32)
    k, v = (gather(x, page_table, lengths).astype(wide) for x in (k_pages, v_pages))
    return attend(q.astype(wide), k, v, lengths, scale, rounded=q.dtype).astype(q.dtype)


def gather(pages, page_table, lengths):
    """Return the sequences' tokens one after another, (B, G, S, D) with S = max_pages * P, and 0 past each length."""
    (_, P, G, D), (B, max_pages) = pages.shape, page_table.shape
    x = np.zeros((B, max_pages, P, G, D), pages.dtype)
    used = np.arange(max_pages) < -(-lengths[:, None] // max(1, P))
    x[used] = pages[page_table[used]]
    x = x.reshape(B, max_pages * P, G, D)
    return np.where((np.arange(max_pages * P) < lengths[:, None])[..., None, None], x, 0).swapaxes(1, 2)


def attend(q, k, v, lengths, scale, rounded=None):
    """Return softmax attention of q (B, H, D) over the first ``lengths[b]`` of the keys k and v (B, G, S, D)."""
    (B, H, D), (G, S) = q.shape, k.shape[1:3]
    q_heads = q.reshape(B, G, H // G if G else 0, D)  # the query heads of a group side by side
    score = q_heads @ k.swapaxes(-1, -2) * q.dtype.type(scale)
    p, _ = softmax(np.where(np.arange(S) < lengths[:, None, None, None], score, -np.inf))
    p = p if rounded is None else p.astype(rounded).astype(q.dtype)
    return (p @ v).reshape(q.shape)


def judge(o, q, k_pages, v_pages, page_table, lengths, scale):
    """Return the oracle's verdict on a rung's o, its rounding band relative to the terms summed: {"o": Verdict}."""
    exact, rough = (f(q, k_pages, v_pages, page_table, lengths, scale) for f in (decode, plain))
    (B, H, D), G = q.shape, k_pages.shape[2]
    k, v = (np.abs(gather(x, page_table, lengths).astype(np.float64)) for x in (k_pages, v_pages))
    q_heads = np.abs(q.astype(np.float64)).reshape(B, G, H // G if G else 0, D)
    largest_score = float(np.max(q_heads @ k.swapaxes(-1, -2), initial=0)) * abs(scale)
    verdict = check(o, exact, rough, letters="BHD", magnitude=float(np.max(v, initial=0)), exponent=largest_score)
    return {"o": verdict}
