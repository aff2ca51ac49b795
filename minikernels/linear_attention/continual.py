"""Softmax attention over a window that moves on by one token at a time, at a cost a step that never grows.

`Retroactive` updates the outputs of all tokens of the window for the one that comes and the one that leaves [1]_;
`Nystrom` that of the newest token, by way of M landmarks [2]_. A window is seen whole: there is no causal mask in it.

References
----------
.. [1] Hedegaard, Bakhtiarnia, Iosifidis, Continual Transformers, arXiv:2201.06268.
.. [2] Carreto Picon et al., Continual Low-Rank Scaled Dot-product Attention, arXiv:2412.03214.
"""

from collections import deque

import numpy as np

from minikernels.core.errors import ShapeError
from minikernels.core.numerics import softmax


class Window:
    """The last `length` rows of some streams, oldest first."""

    def __init__(self, length, streams, D, dtype):
        if length < 1:
            raise ShapeError(f"a window of {length} tokens holds nothing; it must be at least 1")
        self.length, self.rows = length, [np.zeros((0, D), dtype) for _ in range(streams)]

    def push(self, *new):
        """Append a row to every stream; return the rows that leave, or None while the window fills."""
        full = len(self.rows[0]) == self.length
        left = [x[0] for x in self.rows] if full else None
        self.rows = [np.concatenate([x[full:], row[None]]) for x, row in zip(self.rows, new, strict=True)]
        return left


class Retroactive:
    """Attention of all tokens of a window over all of it, one token after another: O(N D) a step.

    A row's sums ``l = sum e^(s - m)`` and ``av = sum e^(s - m) v`` are computed once, when it comes; afterwards the new
    key is added to them and the one that leaves is subtracted.

    Parameters
    ----------
    length, D : int
        Tokens of the window, N, and head width.
    scale : float, optional
        Factor on scores, ``D ** -0.5`` by default.
    dtype : dtype
        Of the sums, float32 by default.
    refresh : bool
        Whether rows are computed anew where subtraction has eaten their digits, as below.

    Notes
    -----
    Subtraction is where it hurts: when the key that a row looked at most leaves, what is left is a small difference of
    large sums. A row whose sum has fallen below `FLOOR` of its largest is computed anew (`anew` counts them); without
    that, errors of float32 show.

    Attributes
    ----------
    m, l, top : ndarray of shape (n,)
        For each row: what is subtracted from its scores, its sum of exponentials, and the largest that sum has been.
    av : ndarray of shape (n, D)
        Sum of exponentials times values.
    anew : int
        Rows computed anew so far.
    """

    FLOOR = 1e-3

    def __init__(self, length, D, scale=None, dtype=np.float32, refresh=True):
        self.window = Window(length, 3, D, dtype)
        self.scale, self.refresh, self.anew = np.dtype(dtype).type(D**-0.5 if scale is None else scale), refresh, 0
        self.m, self.l, self.top = np.zeros((3, 0), dtype)
        self.av = np.zeros((0, D), dtype)

    @property
    def nbytes(self):
        """Return the bytes kept between tokens."""
        return sum(x.nbytes for x in (*self.window.rows, self.m, self.l, self.top, self.av))

    def step(self, q, k, v):
        """Take one token, (D,) each, and return the outputs of all tokens in the window, (n, D)."""
        left = self.window.push(q, k, v)
        rows = self.window.rows[0][:-1] * self.scale
        self.m, self.l, self.top, self.av = (x[1:] if left else x for x in (self.m, self.l, self.top, self.av))
        for sign, key in ((1, (k, v)), (-1, left[1:] if left else None)):
            if key is not None:
                p = np.exp(np.minimum(rows @ key[0] - self.m, 80))  # a later key may score far above m
                self.l, self.av = self.l + sign * p, self.av + sign * p[:, None] * key[1]
        self.top = np.maximum(self.top, self.l)
        self.append(self.fresh(self.window.rows[0][-1:] * self.scale))
        if self.refresh:
            low = np.flatnonzero((self.l < self.FLOOR * self.top) | (self.l > 1e6))
            self.anew += len(low)
            self.m[low], self.l[low], self.av[low] = self.fresh(self.window.rows[0][low] * self.scale)
            self.top[low] = self.l[low]
        return self.av / self.l[:, None]

    def fresh(self, rows):
        """Return m, l and av of rows of queries, computed from all keys of the window."""
        score = rows @ self.window.rows[1].T
        m = score.max(axis=1) if len(score) else np.zeros(0, score.dtype)
        p = np.exp(score - m[:, None])
        return m, p.sum(axis=1), p @ self.window.rows[2]

    def append(self, state):
        """Add the newest row's sums."""
        m, l, av = state
        self.m, self.l, self.top = (np.append(x, y) for x, y in ((self.m, m), (self.l, l), (self.top, l)))
        self.av = np.concatenate([self.av, av])


class Nystrom:
    """The newest token's attention over a window, by way of M landmarks: O(M D) a step, whatever the window's length.

        softmax(q K~^T)  pinv(softmax(Q~ K~^T))  softmax(Q~ K^T) V

    The last factor, (M, D), is a sum over the window: the new key is added and the one that leaves subtracted. The
    middle one depends on the landmarks alone.

    Parameters
    ----------
    q_marks, k_marks : ndarray of shape (M, D)
        Landmarks, such as `landmarks` of an earlier piece of the text. They stay until `move` exchanges them.
    length : int
        Tokens of the window, N.
    scale : float, optional
        Factor on scores, ``D ** -0.5`` by default.
    refresh : int, optional
        Steps after which the sums are computed anew, ``length`` by default: that bounds what rounding adds up to, at
        O(M D) a step more on average.
    """

    def __init__(self, q_marks, k_marks, length, scale=None, refresh=None):
        D, dtype = q_marks.shape[1], q_marks.dtype
        self.length, self.scale = length, dtype.type(D**-0.5 if scale is None else scale)
        self.held, self.every, self.steps = deque(), refresh or length, 0  # the window's keys and values, oldest first
        self.move(q_marks, k_marks)

    def move(self, q_marks, k_marks):
        """Exchange the landmarks: everything that depends on them is computed anew."""
        self.q_marks, self.k_marks = q_marks * self.scale, k_marks
        self.middle = pseudo_inverse(softmax(self.q_marks @ k_marks.T)[0])
        self.resum()

    def resum(self):
        """Compute the sums over the window anew, relative to the largest score of each landmark."""
        rows = np.array(self.held, self.k_marks.dtype).reshape(-1, 2, self.k_marks.shape[1])
        keys, values = rows[:, 0], rows[:, 1]
        score = self.q_marks @ keys.T
        self.m = np.max(score, axis=1, initial=0).astype(score.dtype)
        p = np.exp(score - self.m[:, None])
        self.l, self.av = p.sum(axis=1), p @ values

    @property
    def nbytes(self):
        """Return the bytes kept between tokens."""
        held = sum(k.nbytes + v.nbytes for k, v in self.held)
        return held + sum(x.nbytes for x in (self.q_marks, self.k_marks, self.middle, self.m, self.l, self.av))

    def step(self, q, k, v):
        """Take one token, (D,) each, and return its output, (D,)."""
        self.held.append((k, v))
        left = self.held.popleft() if len(self.held) > self.length else None
        self.steps += 1
        for sign, pair in ((1, (k, v)), (-1, left)):
            if pair is not None:
                p = np.exp(np.minimum(self.q_marks @ pair[0] - self.m, 80))
                self.l, self.av = self.l + sign * p, self.av + sign * p[:, None] * pair[1]
        if self.steps % self.every == 0 or (self.l < 1e-3).any() or (self.l > 1e6).any():
            self.resum()
        seen = softmax((q * self.scale) @ self.k_marks.T)[0]
        return seen @ (self.middle @ (self.av / self.l[:, None]))


def attention(q, k, v, length, scale=None):
    """Return what `Retroactive` returns after the last of T tokens, from the equation: (min(T, N), D)."""
    q, k, v = (x[-length:] for x in (q, k, v))
    return softmax(q @ k.T * q.dtype.type(q.shape[1] ** -0.5 if scale is None else scale))[0] @ v


def nystrom(q, k, v, q_marks, k_marks, scale=None):
    """Return Nystrom's approximation of ``softmax(q k^T scale) v`` from the equation: (T, D)."""
    scale = q.dtype.type(q.shape[1] ** -0.5 if scale is None else scale)
    middle = pseudo_inverse(softmax(q_marks @ k_marks.T * scale)[0])
    return softmax(q @ k_marks.T * scale)[0] @ (middle @ (softmax(q_marks @ k.T * scale)[0] @ v))


def landmarks(x, M):
    """Return M landmarks, means of as many equal runs of rows: (T, D) to (M, D)."""
    if not 1 <= M <= len(x):
        raise ShapeError(f"M={M} landmarks of T={len(x)} tokens; there are 1 to T")
    return np.stack([part.mean(axis=0) for part in np.array_split(x, M)]).astype(x.dtype)


def pseudo_inverse(a, steps=6):
    """Return the pseudo-inverse of a square matrix by Newton and Schulz's iteration, matrix products alone.

    Six steps are what [2]_ takes; each multiplies the number of correct digits where it converges.
    """
    z, eye = a.T / (np.abs(a).sum(axis=0).max() * np.abs(a).sum(axis=1).max()), np.eye(len(a), dtype=a.dtype)
    for _ in range(steps):
        az = a @ z
        z = z @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az))) / 4
    return z
