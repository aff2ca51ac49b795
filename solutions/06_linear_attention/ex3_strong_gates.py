"""Exercise 06.3: gates of -20, and no overflow.

A gate a channel, e^g, multiplies row i of the state with every token. Between token s and a later token t a key's
channel i is left e^(g_(s+1) + ... + g_t) of. The sums b_t = g_1 + ... + g_t give that as e^b_t / e^b_s, which takes one
product of matrices, and fails: sixteen gates of -20 make e^-320, which float32 does not hold, and 0 / 0 is NaN.

Every weight that is wanted is at most 1. Compute them so that nothing larger ever appears, and nothing is divided.

Check it with ``minikernels check 06.3``.
"""

import numpy as np


def gated_scores(q, k, g):
    """Return the scores of the tokens of a chunk against each other.

    Parameters
    ----------
    q, k : ndarray of shape (C, D), float32
    g : ndarray of shape (C, D), float32
        Log-gates, from 0 down to -20 and less; g[t] acts on what came before token t.

    Returns
    -------
    ndarray of shape (C, C), float32
        ``score[t, s] = sum_i q[t, i] k[s, i] e^(g[s+1, i] + ... + g[t, i])`` for s <= t, and 0 for s > t.
    """
    C = len(q)
    score = np.zeros((C, C), np.float32)
    # Your lines start here.
    faded = k.copy()
    for t in range(C):
        faded[:t] *= np.exp(g[t])  # the keys before, as token t sees them
        score[t, : t + 1] = faded[: t + 1] @ q[t]
    # Your lines end here.
    return score
