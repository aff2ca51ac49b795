"""Exercise 04.2: what one more token does to pages and references.

Sequences that were forked share pages; ``references[page]`` counts the sequences that a page is part of. A sequence
that gains a token writes to the slot after its last token. If that slot is in a page that others share, they must not
see the token: the sequence gets a copy of the page, and writes to the copy. If its last page is full, or it has none,
it gets an empty page.

Check it with ``minikernels check 04.2``.
"""

import numpy as np


def append_token(table, length, references, P):
    """Return what happens when a sequence gains a token.

    Parameters
    ----------
    table : ndarray of shape (max_pages,), int64
        The sequence's pages, then -1; there is room for one more.
    length : int
        Its tokens.
    references : ndarray of shape (pages,), int64
        How many sequences each page is part of; 0 is a free page. Where a page is needed, it is the first free one.
    P : int
        Tokens of a page.

    Returns
    -------
    table, references : ndarray of int64
        As they are afterwards, as new arrays; as they were where no page is free and one is needed.
    copied : int
        The page that was copied, or -1.
    written : int
        The page that the token goes to, or -1 where there is none for it.
    """
    table, references, copied, written = table.copy(), references.copy(), -1, -1
    # Your lines start here.
    at, slot = length // P, length % P
    shared = slot > 0 and references[table[at]] > 1
    free = np.flatnonzero(references == 0)
    if slot > 0 and not shared:
        written = table[at]
    elif len(free):
        written = free[0]
        if shared:
            copied = table[at]
            references[copied] -= 1
        table[at] = written
        references[written] = 1
    # Your lines end here.
    return table, references, np.int64(copied), np.int64(written)
