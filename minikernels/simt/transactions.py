"""From the addresses of a warp's lanes to what the memory system does: sectors and wavefronts.

Rows are warps: every function takes arrays of shape (rows, 32) and returns totals or one number per row.
"""

import numpy as np

from minikernels.simt.lanes import WARP

__all__ = ["BANKS", "SECTOR_BYTES", "sectors", "wavefronts"]

SECTOR_BYTES = 32
BANKS, BANK_BYTES = 32, 4


def sectors(addresses, active):
    """Return the number of distinct 32-byte sectors each warp's request touches.

    Parameters
    ----------
    addresses : ndarray of shape (rows, 32), int64
        Byte address of each lane's element, aligned to its size (so that it lies in one sector).
    active : ndarray of shape (rows, 32), bool, or None
        None where every lane is active.

    Returns
    -------
    ndarray of shape (rows,), int64
    """
    return _distinct(addresses // SECTOR_BYTES, active)


def wavefronts(addresses, active, itemsize, store=False):
    """Return (wavefronts, the wavefronts a conflict-free access of that width would take) per warp.

    A wavefront serves each bank once. Lanes that want the same 4-byte word share it (a broadcast; of several
    stores to one word one wins). Elements of 8 bytes are served half a warp at a time unless the whole warp
    fits in one wavefront.

    Parameters
    ----------
    addresses : ndarray of shape (rows, 32), int64
        Byte address in shared memory.
    active : ndarray of shape (rows, 32), bool, or None
    itemsize : int
        Bytes of an element: 1, 2, 4 or 8.
    store : bool
        Whether the request writes.
    """
    words = addresses // BANK_BYTES
    if itemsize <= BANK_BYTES:
        count = _deepest_bank(words, active)
        return count, np.minimum(count, 1)
    both = np.concatenate([words, words + 1], axis=1)
    mask = None if active is None else np.concatenate([active, active], axis=1)
    whole = _deepest_bank(both, mask)
    half = WARP // 2
    split = np.zeros_like(whole)
    for part in (slice(0, half), slice(half, WARP)):
        lanes = np.concatenate([words[:, part], words[:, part] + 1], axis=1)
        split += _deepest_bank(lanes, None if active is None else np.concatenate([active[:, part]] * 2, axis=1))
    count = np.where(whole <= 1, whole, split)
    halves = 2 if active is None else active.reshape(-1, 2, half).any(axis=2).sum(axis=1)  # that ask for anything
    return count, np.minimum(count, halves)


def _distinct(values, active):
    """Return the number of distinct values among the active columns of each row."""
    if active is not None:
        values = np.where(active, values, np.iinfo(np.int64).max)  # sorts last, and counts as one value more
    if (values[:, 1:] < values[:, :-1]).any():
        values = np.sort(values, axis=1)
    count = 1 + np.count_nonzero(values[:, 1:] != values[:, :-1], axis=1)
    if active is not None:
        count -= ~active.all(axis=1)
    return count


def _deepest_bank(words, active):
    """Return per row the largest number of distinct words that one bank has to serve (0 if no lane is active)."""
    rows, columns = words.shape
    bank = words % BANKS
    key = bank * (np.int64(1) << 40) + words  # groups by bank, then by word
    if active is not None:
        key = np.where(active, key, np.int64(BANKS) << 40)
    order = np.sort(key, axis=1)
    fresh = np.ones(order.shape, bool)
    fresh[:, 1:] = order[:, 1:] != order[:, :-1]
    slot = np.arange(rows)[:, None] * (BANKS + 1) + (order >> 40)
    depth = np.bincount(slot[fresh], minlength=rows * (BANKS + 1)).reshape(rows, BANKS + 1)
    return depth[:, :BANKS].max(axis=1, initial=0)
