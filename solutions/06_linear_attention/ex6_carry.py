"""Exercise 06.6: segments side by side.

One block walks over a head from the first token to the last: with 16 heads, 16 blocks. To use more of a GPU the tokens
of a head are cut into segments. A segment does not know the state before it, but what it will do with it: multiply row
i by left[i], and add the state that its own tokens make from zeros. Two such maps, one after the other, are again one.

Check it with ``minikernels check 06.6``.
"""

import numpy as np


def carry(left, local, state):
    """Return the state before each of n segments, and the one after the last.

    Parameters
    ----------
    left : ndarray of shape (n, D), float32
        What each segment leaves of each row of the state before it.
    local : ndarray of shape (n, D, D), float32
        The state that each segment makes from zeros.
    state : ndarray of shape (D, D), float32
        The state before the first segment.

    Returns
    -------
    before : ndarray of shape (n, D, D), float32
    after : ndarray of shape (D, D), float32
    whole_left, whole_local : ndarray of shape (D,) and (D, D), float32
        The map of all segments together, whatever the state before them is.
    """
    n, D = left.shape
    before, after = np.full_like(local, np.nan), state.copy()
    whole_left, whole_local = np.ones(D, np.float32), np.zeros((D, D), np.float32)
    # Your lines start here.
    for i in range(n):
        before[i] = after
        after = left[i][:, None] * after + local[i]
        whole_local = left[i][:, None] * whole_local + local[i]
        whole_left = left[i] * whole_left
    # Your lines end here.
    return before, after, whole_left, whole_local
