"""Paged attention in NumPy, in a kernel's own loop order: a few pages at a time, merged by (m, l, o).

``hbm`` in a comment marks what a kernel would read from or write to HBM; everything else would live in shared memory
and registers.
"""

from functools import reduce

import numpy as np

from minikernels.core.numerics import accumulator, finish, merge, shift

BLOCK_S = 256  # keys of a step, whole pages: large enough that NumPy's per-call cost does not show


def decode(q, k_pages, v_pages, page_table, lengths, scale, block_s=BLOCK_S):
    """Return o in q's dtype: some pages of every sequence give a state (m, l, o), and the states are merged.

    Differs from reference: nothing is gathered beforehand and no row of scores is kept. A page is read when its turn
    comes, through the table, for all query heads that share its keys.

    Parameters
    ----------
    q, k_pages, v_pages, page_table, lengths, scale
        As in `reference.decode`.
    block_s : int
        Keys of a step, rounded up to whole pages.

    Notes
    -----
    ``M = max m_i; o = sum e^(m_i - M) o_i / sum e^(m_i - M) l_i``. HBM bytes: `traffic.tiled`.
    """
    (B, H, D), (P, G), wide = q.shape, k_pages.shape[1:3], accumulator(q.dtype)
    q_tile = q.astype(wide).reshape(B, G, H // G, D) * wide.type(scale)  # hbm read
    step, pages = -(-block_s // P), -(-int(np.max(lengths, initial=0)) // P)
    columns = (np.arange(j, min(j + step, pages)) for j in range(0, pages, step))
    states = (absorbed(q_tile, k_pages, v_pages, page_table, lengths, j) for j in columns)
    m, l, o = reduce(merge, states, fresh(q_tile))
    return finish(m, l, o)[0].reshape(B, H, D).astype(q.dtype)  # hbm write


def absorbed(q_tile, k_pages, v_pages, page_table, lengths, columns):
    """Return the state (m, l, o) of all rows over the pages in some columns of the page table.

    Parameters
    ----------
    q_tile : ndarray of shape (B, G, R, D), float32 or wider
        Queries, scale included, R = H / G to a group.
    k_pages, v_pages, page_table, lengths
        As in `decode`.
    columns : ndarray of int
    """
    P, wide = k_pages.shape[1], q_tile.dtype
    token = (columns[:, None] * P + np.arange(P)).ravel()
    held = token < lengths[:, None]  # (B, tokens)
    page = np.where(held[:, ::P], page_table[:, columns], 0)  # hbm read; past a length, any page that there is
    tiles = (x[page].reshape(*held.shape, *x.shape[2:]) for x in (k_pages, v_pages))  # hbm read
    k_tile, v_tile = (np.where(held[..., None, None], x, 0).swapaxes(1, 2).astype(wide) for x in tiles)
    score = np.where(held[:, None, None], q_tile @ k_tile.swapaxes(-1, -2), -np.inf)
    m = score.max(axis=-1)
    p = np.exp(score - shift(m)[..., None])
    return m, p.sum(axis=-1), p @ v_tile


def fresh(q_tile):
    """Return the state of rows that have seen no key: m = -inf, l = 0, o = 0."""
    rows = q_tile.shape[:-1]
    return np.full(rows, -np.inf, q_tile.dtype), np.zeros(rows, q_tile.dtype), np.zeros_like(q_tile)
