"""ABC: attention over M slots of memory that every token is written to, however long the text.

    Kbar_t = sum_(i<=t) phi_i k_i / sum phi_i,   Vbar_t likewise,   o_t = softmax(q_t Kbar_t^T scale) Vbar_t

with phi_i = exp(W x_i), M numbers a token: how strongly it is written to each slot ([1]_, sections 2 and 4). What is
written where is the whole design: `one_hot` makes clusters, `window` a sliding window, a table of positions Linformer.

References
----------
.. [1] Peng et al., ABC: Attention with Bounded-memory Control, arXiv:2110.02488.
"""

import numpy as np

from minikernels.core.numerics import shift, softmax
from minikernels.core.shapes import bind


class Memory:
    """M slots of one head: weighted means of the keys and values written to them.

    Parameters
    ----------
    slots, D : int
        M, and the head width.
    dtype : dtype
        Of the sums; float32 by default.

    Attributes
    ----------
    m : ndarray of shape (M,)
        Largest exponent written to each slot; sums are kept relative to it, so that none overflows. -inf where empty.
    total : ndarray of shape (M,)
    k, v : ndarray of shape (M, D)
        Sums of ``phi``, ``phi k`` and ``phi v``, times ``exp(-m)``.
    """

    def __init__(self, slots, D, dtype=np.float32):
        self.m = np.full(slots, -np.inf, dtype)
        self.total = np.zeros(slots, dtype)
        self.k, self.v = np.zeros((2, slots, D), dtype)

    @property
    def nbytes(self):
        """Return the bytes of the memory: the same after any number of tokens."""
        return sum(x.nbytes for x in (self.m, self.total, self.k, self.v))

    def write(self, k, v, log_phi):
        """Write one token, k and v (D,), with the strengths ``exp(log_phi)`` (M,); -inf leaves a slot alone."""
        m = np.maximum(self.m, log_phi)
        kept, added = np.exp(self.m - shift(m)), np.exp(log_phi - shift(m))
        self.m, self.total = m, kept * self.total + added
        self.k = kept[:, None] * self.k + added[:, None] * k
        self.v = kept[:, None] * self.v + added[:, None] * v

    def read(self, q, scale):
        """Return attention of one query (D,) over the slots that hold something; 0 where none does."""
        full = self.total > 0
        total = np.where(full, self.total, 1)[:, None]
        score = np.where(full, (self.k / total) @ q * q.dtype.type(scale), -np.inf)
        return softmax(score)[0] @ (self.v / total)


def attention(q, k, v, log_phi, scale=None):
    """Return ABC attention of one head, token by token; each token is written before its query reads.

    Parameters
    ----------
    q, k, v : ndarray of shape (T, D)
    log_phi : ndarray of shape (T, M)
        ``W x_t``: the logarithm of how strongly token t is written to each slot.
    scale : float, optional
        Factor on scores, ``D ** -0.5`` by default.

    Returns
    -------
    ndarray of shape (T, D)

    Raises
    ------
    ShapeError
        If a shape does not fit.
    """
    sizes = bind(q=(q, "TD"), k=(k, "TD"), v=(v, "TD"), log_phi=(log_phi, "TM"))
    scale = max(1, sizes["D"]) ** -0.5 if scale is None else scale
    memory, o = Memory(sizes["M"], sizes["D"], q.dtype), np.empty_like(q)
    for t in range(sizes["T"]):
        memory.write(k[t], v[t], log_phi[t])
        o[t] = memory.read(q[t], scale)
    return o


def one_hot(slots, M):
    """Return log_phi that writes token t to slot ``slots[t]`` alone: keys of one cluster share a slot."""
    return np.where(np.arange(M) == np.asarray(slots)[:, None], 0.0, -np.inf).astype(np.float32)


def window(T, M, step=200.0):
    """Return log_phi that makes the memory a window over the last M tokens.

    Token t goes to slot t mod M, e^step times as strongly as the token before it: what stood there is no longer seen.
    """
    return np.where(np.arange(T)[:, None] % M == np.arange(M), step * np.arange(T)[:, None], -np.inf)
