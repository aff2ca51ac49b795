"""Caches that forget: which tokens to keep, by place (StreamingLLM) or by the attention they got (heavy hitters, H2O).

A policy gives the indices of the tokens to keep; `take` cuts keys and values down to them, and any decode goes on from
there. Keys keep the positions that they were made with.
"""

import numpy as np

from minikernels.core.errors import ShapeError
from minikernels.core.numerics import FLOATS, causal_mask, score_scale
from minikernels.core.shapes import bind, same_dtype
from minikernels.kv_compression.cache import whole
from minikernels.launch import back, gathered

__all__ = ["attention_mass", "heavy_hitters", "streaming", "take"]

BLOCK_T = 256  # queries whose probabilities exist at a time


def streaming(S, *, recent, sinks=4):
    """Return which of S tokens to keep: the first, on which attention rests that has nowhere to go, and the newest.

    Parameters
    ----------
    S : int
        Tokens in the cache.
    recent : int
        Newest tokens kept.
    sinks : int
        First tokens kept.

    Returns
    -------
    ndarray of shape (W,), int64
        Ascending; W = min(S, sinks + recent).

    References
    ----------
    .. [1] Xiao et al., Efficient Streaming Language Models with Attention Sinks, arXiv:2309.17453.

    Examples
    --------
    >>> streaming(10, sinks=2, recent=3)
    array([0, 1, 7, 8, 9])
    """
    S, recent, sinks = whole("S", S, 0), whole("recent", recent, 0), whole("sinks", sinks, 0)
    first = min(S, sinks)
    return np.append(np.arange(first), np.arange(max(first, S - recent), S))


def heavy_hitters(mass, *, keep, recent):
    """Return which tokens of each head to keep: the newest, and of the others those that got the most attention.

    Parameters
    ----------
    mass : array of shape (B, G, S), a float dtype
        Attention that each token has got so far (`attention_mass`).
    keep : int
        Tokens kept for their mass. Of equal ones the older stay.
    recent : int
        Newest tokens kept, which have had little time to be attended to.

    Returns
    -------
    array of shape (B, G, W), int64, of mass's kind
        Ascending in each head; W = min(S, keep + recent).

    Notes
    -----
    Algorithm 1 of [1]_, called after every token, keeps a budget of keep + recent; called once, it prunes a prompt.

    References
    ----------
    .. [1] Zhang et al., H2O: Heavy-Hitter Oracle for Efficient Generative Inference, arXiv:2306.14048.

    Examples
    --------
    >>> heavy_hitters(np.array([[[0.1, 0.7, 0.2, 0.6, 0.3]]]), keep=2, recent=1)
    array([[[1, 3, 4]]])
    """
    keep, recent = whole("keep", keep, 0), whole("recent", recent, 0)
    (mass,), like, _ = gathered(mass=mass)
    S = bind(mass=(mass, "BGS"))["S"]
    same_dtype(FLOATS, mass=mass)
    old = max(0, S - recent)
    order = np.argsort(-mass[..., :old], axis=-1, kind="stable")[..., :keep]
    newest = np.broadcast_to(np.asarray(np.arange(old, S), like=mass), (*mass.shape[:2], S - old))
    kept = np.concatenate((np.sort(order, axis=-1), newest), axis=-1).astype(np.int64)
    return back(kept, like)


def attention_mass(q, k, *, causal=True, scale=None):
    """Return the attention that each key got: its probabilities summed over queries, and over the heads of a group.

    Parameters
    ----------
    q : array of shape (B, H, T, D), a float dtype
    k : array of shape (B, G, S, D), of q's kind and dtype
        Query head h reads head ``h // (H / G)``.
    causal : bool
        Query t sees key s iff ``s <= t + S - T``.
    scale : float, optional
        Factor on every score; ``D ** -0.5`` by default.

    Returns
    -------
    array of shape (B, G, S), float32 or wider, of q's kind
        Each query that sees a key spends 1.
    """
    (q, k), like, _ = gathered(q=q, k=k)
    sizes = bind(q=(q, "BHTD"), k=(k, "BGSD"))
    sizes.divides("G", "H")
    wide = np.result_type(same_dtype(FLOATS, q=q, k=k), np.float32)
    B, H, G, T, S, D = sizes.unpack("BHGTSD")
    scale, mass = score_scale(scale, D), np.zeros_like(q, wide, shape=(B, G, S))
    if 0 in (B, H, T, S):
        return back(mass, like)
    for t in range(0, T, BLOCK_T):
        rows = np.arange(t, min(T, t + BLOCK_T))
        q_rows = q[:, :, t : t + BLOCK_T].astype(wide).reshape(B, G, H // G * len(rows), D)
        score = (q_rows @ k.astype(wide).swapaxes(-1, -2)).reshape(B, G, H // G, len(rows), S) * wide.type(scale)
        if causal:
            score = np.where(np.asarray(causal_mask(rows, np.arange(S), T, S), like=q), score, -np.inf)
        mass += probabilities(score).sum(axis=(2, 3))
    return back(mass, like)


def probabilities(score):
    """Return softmax over the last axis, which is not empty; a row of nothing but -inf gives zeros."""
    m = score.max(axis=-1, keepdims=True)
    p = np.exp(score - np.where(m == -np.inf, 0, m))
    total = p.sum(axis=-1, keepdims=True)
    return p / np.where(total == 0, 1, total)


def take(x, kept):
    """Return the kept tokens of keys or values.

    Parameters
    ----------
    x : array of shape (B, G, S, D)
        Or (B, G, S), such as the attention mass of the tokens.
    kept : array of shape (W,) or (B, G, W), int32 or int64
        Indices, 0 to S - 1.

    Returns
    -------
    array of shape (B, G, W, D) or (B, G, W), of x's kind
    """
    if isinstance(kept, np.ndarray) and kept.ndim == 1:
        (x,), like, _ = gathered(x=x)
        kept = np.asarray(kept, like=x)
    else:
        (x, kept), like, _ = gathered(x=x, kept=kept)
    layout = "BGSD" if x.ndim == 4 else "BGS"
    S = bind(x=(x, layout), kept=(kept, "W" if kept.ndim == 1 else "BGW"))["S"]
    same_dtype(("int32", "int64"), kept=kept)
    if kept.size and (int(kept.min()) < 0 or int(kept.max()) >= S):
        raise ShapeError(f"kept names token {int(kept.min() if kept.min() < 0 else kept.max())}; "
                         f"there are 0 to S - 1 = {S - 1}")
    if kept.ndim == 1:
        return back(x[:, :, kept], like)
    place = kept[..., None] if x.ndim == 4 else kept
    return back(np.take_along_axis(x, np.broadcast_to(place, (*kept.shape, *x.shape[3:])), axis=2), like)
