"""Exercise 03.4: score blocks without looking into them.

SeerAttention's gate reads a block of queries, or of keys, as one row: its mean, its maximum and its minimum over the
block's tokens, side by side. A linear map takes each row to W numbers, and the softmax of their products says how much
attention a block of keys may expect from a block of queries. T and S tokens become a map of ceil(T/R) x ceil(S/C).

Check it with ``minikernels check 03.4``.
"""

import numpy as np


def gate_scores(q, k, w_query, w_key, size):
    """Return the scores of the blocks of one head: softmax(pool(q) w_query (pool(k) w_key)^T / sqrt(W)), causal.

    Parameters
    ----------
    q, k : ndarray of shape (T, D), float32
        Queries and keys, as many of one as of the other.
    w_query, w_key : ndarray of shape (3*D, W), float32
        Linear maps of mean, maximum and minimum, in this order.
    size : int
        Tokens of a block, of queries and of keys; the last block may hold fewer.

    Returns
    -------
    ndarray of shape (ceil(T/size), ceil(T/size)), float32
        Each row adds up to 1; blocks right of the diagonal have 0.
    """
    starts = np.arange(0, len(q), size)  # of the blocks
    scores = np.zeros((len(starts), len(starts)), np.float32)
    # Your lines start here.
    # Your lines end here.
    return scores
