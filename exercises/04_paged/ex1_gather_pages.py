"""Exercise 04.1: the tokens of a sequence, found through its page table.

The keys of all sequences lie in one pool of pages, P tokens each. Token t of a sequence is in page ``table[t // P]``,
slot ``t % P``. Past the sequence's last page the table holds -1, which is no page (and which NumPy would take for the
last one); past its last token a page may hold anything.

Check it with ``minikernels check 04.1``.
"""

import numpy as np


def gather_pages(pages, table, length):
    """Return the sequence's tokens one after another.

    Parameters
    ----------
    pages : ndarray of shape (pages, P, G, D), float32
        The pool.
    table : ndarray of shape (max_pages,), int64
        The sequence's pages, then -1.
    length : int
        Its tokens, 0 to max_pages * P.

    Returns
    -------
    ndarray of shape (length, G, D), float32
    """
    _, P, G, D = pages.shape
    tokens = np.full((length, G, D), np.nan, np.float32)
    # Your lines start here.
    # Your lines end here.
    return tokens
