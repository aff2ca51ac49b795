"""Decoding over the ragged heads of Dynamic Memory Compression in NumPy, float64 inside; its plain twin, its judge."""

import numpy as np

from minikernels.core.numerics import softmax
from minikernels.core.oracle import check


def decode(q, k_pages, v_pages, page_table, lengths, scale):
    """Return attention of one query token a sequence over the slots of its heads, float64.

    Parameters
    ----------
    q : ndarray of shape (B, H, D)
    k_pages, v_pages : ndarray of shape (pages, P, 1, D)
        Slot s of head [b, g] stands in page ``page_table[b * G + g, s // P]`` at s % P.
    page_table : ndarray of shape (B * G, max_pages), int
    lengths : ndarray of shape (B * G,), int
        Slots of each head.
    scale : float
        Factor on every score.

    Returns
    -------
    ndarray of shape (B, H, D), float64
        0 where a head has no slot.
    """
    return attend(q, k_pages, v_pages, page_table, lengths, scale, np.float64)


def plain(q, k_pages, v_pages, page_table, lengths, scale):
    """Return what plain NumPy computes of `decode` in the inputs' own precision; the measure of the error budget."""
    wide = np.result_type(q.dtype, np.float32)
    return attend(q, k_pages, v_pages, page_table, lengths, scale, wide, q.dtype).astype(q.dtype)


def attend(q, k_pages, v_pages, page_table, lengths, scale, wide, rounded=None):
    """Return the attention of every head's query rows over its own slots, one head after another."""
    B, H, D = q.shape
    G = len(page_table) // B
    rows = q.reshape(B * G, H // G, D).astype(wide)  # the query heads of a group side by side
    o = np.zeros_like(rows)
    for head, (pages, length) in enumerate(zip(page_table, lengths)):
        k, v = gathered(k_pages, v_pages, pages, length, wide)
        p, _ = softmax(rows[head] @ k.T * rows.dtype.type(scale))
        o[head] = (p if rounded is None else p.astype(rounded).astype(wide)) @ v
    return o.reshape(q.shape)


def gathered(k_pages, v_pages, pages, length, wide):
    """Return the keys and the values (length, D) of one head."""
    used = pages[: -(-length // k_pages.shape[1])]
    return (x[used].reshape(-1, x.shape[3])[:length].astype(wide) for x in (k_pages, v_pages))


def judge(o, q, k_pages, v_pages, page_table, lengths, scale):
    """Return the oracle's verdict on a rung's o: {"o": Verdict}."""
    arrays = q, k_pages, v_pages, page_table, lengths, scale
    largest, score = 0.0, 0.0
    rows = np.abs(q.astype(np.float64)).reshape(len(page_table), -1, q.shape[2])
    for row, pages, length in zip(rows, page_table, lengths):
        k, v = (np.abs(x) for x in gathered(k_pages, v_pages, pages, length, np.float64))
        largest = max(largest, float(np.max(v, initial=0)))
        score = max(score, float(np.max(row @ k.T, initial=0)) * abs(scale))
    return {"o": check(o, decode(*arrays), plain(*arrays), letters="BHD", magnitude=largest, exponent=score)}
