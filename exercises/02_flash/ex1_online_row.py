"""Exercise 02.1: one row of online softmax.

A safe softmax needs the largest score before it can sum. Online softmax sums at once, under the largest score so far,
and mends what it has when a larger one comes:

    m' = max(m, s)    alpha = e^(m - m')    l' = alpha l + e^(s - m')    o' = alpha o + e^(s - m') v

Check it with ``minikernels check 02.1``.
"""

import numpy as np


def online_row(scores, v):
    """Return the state of one query row after one pass over its keys.

    Parameters
    ----------
    scores : ndarray of shape (S,), float32
        The row's scores. A key that the row may not see has the score -inf, and such a key may come first.
    v : ndarray of shape (S, D), float32
        The keys' values.

    Returns
    -------
    m : float32
        The largest score; -inf if no key was seen.
    l : float32
        Sum of ``exp(score - m)``; 0 if no key was seen.
    o : ndarray of shape (D,), float32
        Sum of ``exp(score - m) * value``, not yet divided by l; zeros if no key was seen.
    """
    m, l, o = np.float32(-np.inf), np.float32(0), np.zeros(v.shape[1], np.float32)
    for score, value in zip(scores, v):
        m_new = max(m, score)
        # Your lines start here.
        # Your lines end here.
    return m, l, o
