"""Exercise 05.6: attention as a recurrent network.

The output of one query over the keys seen so far is o / l, where with m the largest score so far

    l = sum of exp(score - m)        o = sum of exp(score - m) * v

(m, l, o) is a state of fixed size, and a token is one more of the same kind: (score, 1, v). Two such states merge: M is
the larger m, and each l and o counts times exp(m - M). Read the tokens one at a time and write the output after each,
as a recurrent network would; a token may be masked, with a score of -inf.

Check it with ``minikernels check 05.6``.
"""

import numpy as np


def stream(score, v):
    """Return the attention of one query over every prefix of the tokens.

    Parameters
    ----------
    score : ndarray of shape (T,), float32
        The query's scores; -inf where a token is masked.
    v : ndarray of shape (T, D), float32
        Values.

    Returns
    -------
    ndarray of shape (T, D), float32
        Row t is softmax attention over the tokens 0 to t; zeros while all of them are masked.
    """
    out = np.zeros(v.shape, np.float32)
    m, l, o = np.float32(-np.inf), np.float32(0), np.zeros(v.shape[1], np.float32)
    for t in range(len(v)):
        # Merge the token into (m, l, o).
        # Your lines start here.
        if score[t] > -np.inf:
            M = max(m, score[t])
            old, new = np.exp(m - M), np.exp(score[t] - M)
            m, l, o = M, old * l + new, old * o + new * v[t]
        # Your lines end here.
        if l > 0:
            out[t] = o / l
    return out
