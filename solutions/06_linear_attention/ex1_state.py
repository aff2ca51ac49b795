"""Exercise 06.1: a state instead of a cache.

Without the softmax a head need not keep its keys and values: it keeps the sum of their outer products, a D x D matrix,
and forgets a little of it with every token. The last state is part of the answer: whoever has it can go on without the
text.

Check it with ``minikernels check 06.1``.
"""

import numpy as np


def recurrent(q, k, v, decay, state):
    """Return the outputs of T tokens and the state after the last of them.

    Parameters
    ----------
    q, k, v : ndarray of shape (T, D), float32
    decay : float
        What one token leaves of the state, in (0, 1]: it is multiplied by this before the token's k v^T is added.
    state : ndarray of shape (D, D), float32
        The state before the first token: row i belongs to key channel i, column j to value channel j.

    Returns
    -------
    o : ndarray of shape (T, D), float32
        ``o_t = q_t S_t``, where S_t holds token t too.
    state : ndarray of shape (D, D), float32
    """
    o = np.full_like(v, np.nan)
    state, decay = state.copy(), np.float32(decay)
    # Your lines start here.
    for t in range(len(q)):
        state = decay * state + np.outer(k[t], v[t])
        o[t] = q[t] @ state
    # Your lines end here.
    return o, state
