"""Ragged caches: how many keys each sequence has, checked where looking costs nothing."""

import numpy as np

from minikernels.core.errors import ShapeError
from minikernels.core.shapes import bind, same_dtype

__all__ = ["checked_lengths", "marked"]


def checked_lengths(lengths, q, sizes, place, marks=False):
    """Return lengths as int32 beside q, and which of them (on a GPU) are not in 0..S; None where that cannot be.

    Parameters
    ----------
    lengths : array of shape (B,), int32 or int64, or None
        Keys of each sequence; None for S each.
    q : array of shape (B, H, D)
        Beside which the lengths live.
    sizes : Sizes
        Has B and S.
    place : str
        ``cpu`` or ``gpu``. On a GPU looking at lengths would make the host wait: a wrong one becomes 0, and the
        sequence is reported, for `marked`.
    marks : bool
        Whether the kernel makes NaN of a wrong length itself: on a GPU it then gets them as they are.

    Raises
    ------
    ShapeError, DtypeError
        If lengths are not B integers, or (on the CPU) one is not in 0..S.
    """
    B, S = sizes.unpack("BS")
    if lengths is None:
        return np.full_like(q, S, dtype=np.int32, shape=(B,)), None
    bind(q=(q, "BHD"), lengths=(lengths, "B"))
    same_dtype(("int32", "int64"), lengths=lengths)
    if marks and place == "gpu":
        return (lengths if lengths.dtype == np.int32 else np.clip(lengths, -1, S + 1).astype(np.int32)), None
    bad = (lengths < 0) | (lengths > S)
    if place == "gpu":
        return np.where(bad, 0, lengths).astype(np.int32), bad
    if bad.any():
        b = int(np.argmax(bad))
        raise ShapeError(f"lengths[{b}] is {int(lengths[b])}; a sequence has 0 to S={S} keys")
    return lengths.astype(np.int32), None


def marked(o, bad):
    """Return o (B, H, D) with NaN in the sequences that are `bad`, a bool array (B,) or None for none."""
    return o if bad is None else np.where(bad[:, None, None], o.dtype.type(np.nan), o)
