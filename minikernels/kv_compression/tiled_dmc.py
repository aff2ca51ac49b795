"""Decoding over ragged heads in NumPy, in a kernel's own order: a page of every head at a time, merged by (m, l, o)."""

import numpy as np

from minikernels.core.numerics import accumulator, finish, merge, shift


def decode(q, k_pages, v_pages, page_table, lengths, scale):
    """Return o in q's dtype: a head's page gives a state (m, l, o) over its slots; the states are merged.

    Differs from reference: no head's slots are gathered into one array. Step n takes the n-th page of every head that
    has one, so that what ends early costs nothing more.

    Parameters
    ----------
    q, k_pages, v_pages, page_table, lengths, scale
        As in `reference_dmc.decode`.
    """
    P, wide = k_pages.shape[1], accumulator(q.dtype)
    q_tile = (q.astype(wide) * wide.type(scale)).reshape(len(page_table), -1, q.shape[2])  # hbm read
    m, l = np.full(q_tile.shape[:2], -np.inf, wide), np.zeros(q_tile.shape[:2], wide)
    o = np.zeros_like(q_tile)
    for n in range(page_table.shape[1]):
        here = np.flatnonzero(lengths > n * P)  # heads that have an n-th page
        held = np.arange(n * P, n * P + P) < lengths[here, None]
        tiles = (np.where(held[..., None], x[page_table[here, n], :, 0], 0) for x in (k_pages, v_pages))  # hbm read
        k_tile, v_tile = (x.astype(wide) for x in tiles)
        score = np.where(held[:, None], q_tile[here] @ k_tile.swapaxes(-1, -2), -np.inf)
        top = score.max(axis=-1)
        p = np.exp(score - shift(top)[..., None])
        m[here], l[here], o[here] = merge((m[here], l[here], o[here]), (top, p.sum(axis=-1), p @ v_tile))
    return finish(m, l, o)[0].reshape(q.shape).astype(q.dtype)  # hbm write
