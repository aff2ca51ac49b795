"""Exercise 07.4: tokens merged into slots.

In Dynamic Memory Compression a head decides for every token: where alpha is true it is averaged into the last slot,
else it opens a new one. The average is weighted: a token weighs omega, a slot the sum z of what went into it,

    slot = (z * slot + omega * token) / (z + omega),    z = z + omega

The first token opens a slot whatever alpha says: there is none to merge it into.

Check it with ``minikernels check 07.4``.
"""

import numpy as np


def merge(x, alpha, omega):
    """Return the slots that the tokens of one head end in.

    Parameters
    ----------
    x : ndarray of shape (S, D), float32
        Keys, or values; at least one.
    alpha : ndarray of shape (S,), bool
        Merge into the last slot?
    omega : ndarray of shape (S,), float32
        What each token weighs, above 0.

    Returns
    -------
    ndarray of shape (slots, D), float32
    """
    slots, z = [], np.float32(0)
    for t in range(len(x)):
        # Change the last of slots, or append to them; keep z the weight of the last one.
        # Your lines start here.
        pass
        # Your lines end here.
    return np.array(slots, np.float32).reshape(len(slots), x.shape[1])
