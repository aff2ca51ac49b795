"""Aaren, attention as a recurrent network: the scan's operator exchanged for softmax's.

The output of one query over the first t keys is a state (m, l, o): the largest score, the sum of exp(score - m), and
the same sum weighting the values. A token alone is the leaf (score, 1, v). States of neighbouring runs of keys merge by
an associative operator, the one that online softmax and split-KV decoding use; so a prefix scan gives a fixed query's
outputs over all prefixes at once, and a state of a fixed size is all that a stream needs.

References
----------
.. [1] Feng, Tung, Hajimirsadeghi, Ahmed, Bengio, Mori, Attention as an RNN, arXiv:2405.13956.
"""

import numpy as np

from minikernels.core.numerics import accumulator, finish, score_scale
from minikernels.core.shapes import bind
from minikernels.selective_scan.operators import SCANS, softmax

__all__ = ["Stream", "attention", "leaves"]


def leaves(q, k, v, scale=None):
    """Return the states (m, l, o) of single tokens, tokens first: (T, B, H), (T, B, H) and (T, B, H, D).

    Parameters
    ----------
    q : ndarray of shape (H, D)
        One query a head, the same for every prefix: a learned one in [1]_.
    k, v : ndarray of shape (B, H, T, D)
    scale : float, optional
        Factor on every score; ``D ** -0.5`` by default.
    """
    sizes = bind(q=(q, "HD"), k=(k, "BHTD"), v=(v, "BHTD"))
    wide = accumulator(q.dtype)
    q, k, v = (x.astype(wide) for x in (q, k, v))
    score = np.einsum("hd,bhtd->tbh", q, k) * wide.type(score_scale(scale, sizes["D"]))
    return score, np.ones_like(score), np.moveaxis(v, 2, 0).copy()


def attention(q, k, v, *, scale=None, method="blelloch"):
    """Return a query's attention over every prefix of the keys, and what the scan took.

    Parameters
    ----------
    q, k, v, scale
        As for `leaves`.
    method : {"sequential", "hillis_steele", "blelloch"}
        Which prefix scan.

    Returns
    -------
    o : ndarray of shape (B, H, T, D), of q's dtype
        Row t is softmax attention over the keys 0 to t.
    cost : operators.Cost
        Merges, and merges that had to follow one another.
    """
    if method not in SCANS:
        raise ValueError(f"there is no scan {method!r}; there are {', '.join(SCANS)}")
    states, cost = SCANS[method](softmax, leaves(q, k, v, scale))
    return np.moveaxis(finish(*states)[0], 0, 2).astype(q.dtype), cost


class Stream:
    """Attention of a fixed query over the tokens seen so far, one at a time, in memory that does not grow.

    Parameters
    ----------
    q : ndarray of shape (H, D)
        One query a head.
    B : int
        Sequences.
    scale : float, optional
        Factor on every score; ``D ** -0.5`` by default.

    Examples
    --------
    >>> stream = Stream(np.ones((1, 2)), B=1)
    >>> token = np.ones((1, 1, 2))
    >>> stream.push(token, token), stream.push(token, 3 * token)
    (array([[[1., 1.]]]), array([[[2., 2.]]]))
    >>> stream.nbytes
    32
    """

    def __init__(self, q, B, scale=None):
        (H, D), wide = q.shape, accumulator(q.dtype)
        self.q, self.scale = q, scale
        self.state = np.full((B, H), -np.inf, wide), np.zeros((B, H), wide), np.zeros((B, H, D), wide)

    def push(self, k, v):
        """Take in one token's k and v, each (B, H, D); return the output over all tokens so far, (B, H, D)."""
        token = (x[0] for x in leaves(self.q, k[:, :, None], v[:, :, None], self.scale))
        self.state = softmax(self.state, tuple(token))
        m, l, o = self.state
        return finish(m, l, o)[0].astype(self.q.dtype)

    @property
    def nbytes(self):
        """Return the bytes of what is carried from token to token."""
        return sum(x.nbytes for x in self.state)
