"""DBA, a variant that is not sparse but of low rank: dynamic bilinear low-rank attention, in NumPy.

Instead of leaving out blocks of the T x T matrix, DBA never has more than L rows to attend with: L learned rows gather
what the T tokens hold, attend to one another, and are handed back. Both maps between tokens and rows depend on the
input, unlike Linformer's fixed projection. Without a causal mask: a row sees all tokens.
"""

from typing import NamedTuple

import numpy as np

from minikernels.core.errors import ShapeError
from minikernels.core.numerics import softmax
from minikernels.core.shapes import bind, same_dtype

__all__ = ["Weights", "attention", "maps", "random_weights", "work"]

LAYOUTS = "LM", "MN", "MN", "MW", "WN", "WN", "WW", "ML"  # of what Weights holds


class Weights(NamedTuple):
    """What DBA learns; L rows, model width M, score width N, value width W.

    Attributes
    ----------
    rows : ndarray of shape (L, M)
        P of [1]_: what each row looks for.
    row_query, key : ndarray of shape (M, N)
        Of rows and of tokens, where rows gather.
    value : ndarray of shape (M, W)
    inner_query, inner_key : ndarray of shape (W, N)
        Of rows, where rows attend to one another.
    inner_value : ndarray of shape (W, W)
    expand : ndarray of shape (M, L)
        How much of each row a token gets back.
    """

    rows: np.ndarray
    row_query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    inner_query: np.ndarray
    inner_key: np.ndarray
    inner_value: np.ndarray
    expand: np.ndarray


def random_weights(M, L=16, N=16, W=16, seed=0, dtype="float32"):
    """Return normal weights that keep the size of what they act on, for tests and lessons."""
    shapes = (L, M), (M, N), (M, N), (M, W), (W, N), (W, N), (W, W), (M, L)
    rng = np.random.default_rng(seed)
    return Weights(*((rng.standard_normal(shape) * shape[0] ** -0.5).astype(dtype) for shape in shapes))


def attention(x, weights):
    """Return what every token gets back from the L rows.

    Parameters
    ----------
    x : ndarray of shape (B, T, M), float32 or float64
        Tokens.
    weights : Weights

    Returns
    -------
    ndarray of shape (B, T, W), of x's dtype
        An empty sequence gives an empty result.

    Raises
    ------
    ShapeError, DtypeError
        If x and the weights do not fit.

    Notes
    -----
    ``C = softmax((P Wpq)(X Wpk)^T / sqrt(N)) X Wpv`` gathers, ``A = softmax((C Wq)(C Wk)^T / sqrt(N)) C Wv`` attends,
    ``softmax_L(X We) A`` expands. Work linear in T: `work`.

    References
    ----------
    .. [1] Qin et al., DBA: Efficient Transformer with Dynamic Bilinear Low-Rank Attention, arXiv:2211.16368.
    """
    gather, expand = maps(x, weights)
    c = gather @ (x @ weights.value)  # (B, L, W)
    score = (c @ weights.inner_query) @ (c @ weights.inner_key).swapaxes(-1, -2)
    a = softmax(score * x.dtype.type(max(1, weights.inner_key.shape[1]) ** -0.5))[0] @ (c @ weights.inner_value)
    return expand @ a


def maps(x, weights):
    """Return the maps from tokens to rows, (B, L, T), and back, (B, T, L); what each row or token takes adds up to 1.

    Parameters
    ----------
    x : ndarray of shape (B, T, M)
    weights : Weights
    """
    M = bind(x=(x, "BTM"))["M"]
    same_dtype(("float32", "float64"), x=x, **weights._asdict())
    bind(**dict(zip(weights._fields, zip(weights, LAYOUTS, strict=True), strict=True)))
    if weights.rows.shape[1] != M:
        rule = f"M={M} must equal M={weights.rows.shape[1]} of the weights"
        raise ShapeError(f"x has shape {x.shape} = (B, T, M); {rule}")
    score = (weights.rows @ weights.row_query) @ (x @ weights.key).swapaxes(-1, -2)
    gather = softmax(score * x.dtype.type(max(1, weights.key.shape[1]) ** -0.5))[0]
    return gather, softmax(x @ weights.expand)[0]


def work(B, T, M, L=16, N=16, W=16):
    """Return the FLOP of `attention`, products alone: linear in T where dense attention is quadratic.

    >>> work(1, 2048, 128) - work(1, 1024, 128) == work(1, 3072, 128) - work(1, 2048, 128)
    True
    """
    tokens = T * (M * N + M * W + M * L + L * N + 2 * L * W)  # keys, values, expand; scores; gather and hand back
    rows = L * M * N + L * (2 * W * N + W * W) + L * L * (N + W)
    return 2 * B * (tokens + rows)
