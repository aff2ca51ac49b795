"""Decide whether a rung's output is right: an error budget derived from data, and a verdict in words.

A rung passes if its error against the float64 reference is at most twice the error that a plain NumPy
computation makes in the rung's own precision, plus a rounding band. A cell that is NaN where the reference is
not, an infinity of the wrong sign or in the wrong place, a wrong shape and a wrong dtype all fail whatever
the budget. Outputs are filled with NaN before a launch (`unwritten`), so that a cell which no thread wrote fails
as well.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["BAND_ULPS", "FACTOR", "Verdict", "check", "unwritten"]

FACTOR = 2.0  # a rung may sum in another order than plain NumPy does, and lose up to this much more
BAND_ULPS = 4.0  # and this many units in the last place of the terms summed: in a small array NumPy may be lucky


@dataclass(frozen=True)
class Verdict:
    """What the oracle found.

    Attributes
    ----------
    passed : bool
        Whether every cell is within the budget. A Verdict is true where it passed.
    error : float
        Absolute difference from the float64 reference in the worst cell; NaN where that is not the number, infinity
        or NaN that it should be.
    budget : float
        The largest difference allowed there.
    plain_error : float
        Largest difference that plain NumPy made in the same precision.
    worst : tuple of int or None
        Index of the cell whose difference is the largest share of its budget (of the first NaN where there is one);
        None where there are no cells, or the shape is wrong.
    message : str
        One sentence or two.
    """

    passed: bool
    error: float
    budget: float
    plain_error: float
    worst: tuple | None
    message: str

    def __bool__(self):
        return self.passed


def unwritten(shape, dtype):
    """Return an array full of NaN, to be handed to a kernel as its output."""
    return np.full(shape, np.nan, dtype)


def check(out, reference, plain, *, name="o", letters=None, magnitude=None, exponent=0.0, rounded=None):
    """Judge one output of a rung against the float64 reference.

    Parameters
    ----------
    out : ndarray
        What the rung computed.
    reference : ndarray of the same shape, float64
        The oracle's result.
    plain : ndarray of the same shape
        What plain NumPy computes in the rung's own precision. Its dtype is the one `out` must have.
    name : str
        How messages call the array.
    letters : str, optional
        One letter an axis, such as ``"BHTD"``: messages then say ``o[b=0, h=1, t=62, d=3]``.
    magnitude : float, optional
        Size of the terms that were summed; the rounding band is relative to it (`rounding_band`). The
        default is the largest finite absolute value of the reference, which is too small where large terms cancel.
    exponent : float, optional
        Size of the terms that an exponent was summed from: one rounding of x moves exp(x) by |x| units.
    rounded : float or ndarray, optional
        Size of what each cell's roundings to the dtype of `out` act on, where it is known better than by `magnitude`;
        it broadcasts to the cells. It matters where that dtype is coarser than the sums, as float16 is.

    Returns
    -------
    Verdict

    Examples
    --------
    >>> exact = np.array([1.0, 2.0, 3.0])
    >>> check(exact.astype("float32"), exact, exact.astype("float32")).passed
    True
    >>> print(check(np.array([1, 2, 4], "float32"), exact, exact.astype("float32")).message)
    o[2] is 4 but should be 3: off by 1, where 1.8e-06 is allowed (plain NumPy in float32 is off by 0). 1 of 3 cells \
is wrong.
    """
    out, plain, reference = np.asarray(out), np.asarray(plain), np.asarray(reference, np.float64)
    if out.shape != reference.shape:
        return refused(f"{name} has shape {out.shape}; it should be {reference.shape}.")
    if out.dtype != plain.dtype:
        return refused(f"{name} has dtype {out.dtype}; it should be {plain.dtype}.")
    plain_error = largest(difference(plain, reference))
    if magnitude is None:
        magnitude = largest(np.abs(reference))
    band = rounding_band(out.dtype, magnitude, magnitude if rounded is None else rounded, exponent)
    budget = np.broadcast_to(FACTOR * plain_error + band, reference.shape)
    off = difference(out, reference)
    wrong = ~(off <= budget)  # also true where off is NaN
    if not off.size:
        return Verdict(True, 0.0, 0.0, plain_error, None, f"{name} is right: it has no cells.")
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(np.isnan(off), np.inf, np.where(off == 0, 0.0, off / budget))
    worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(share)), off.shape))
    error, allowed = float(off[worst]), float(budget[worst])
    if not wrong.any():
        message = f"{name} is right: off by {error:.2g} in the worst cell, where {allowed:.2g} is allowed."
        return Verdict(True, error, allowed, plain_error, worst, message)
    message = f"{describe(out, reference, worst, name, letters)}{allowance(error, allowed, plain, plain_error)}"
    return Verdict(False, error, allowed, plain_error, worst, f"{message} {tally(wrong, name, letters)}")


def refused(message):
    """Return the Verdict of an output that cannot be compared at all."""
    return Verdict(False, float("nan"), 0.0, 0.0, None, message)


def rounding_band(dtype, magnitude, rounded, exponent):
    """Return the error always allowed: one rounding to `dtype`, and a few of the sums and of an exponent."""
    wide = np.result_type(dtype, np.float32)
    return float(np.finfo(dtype).eps) * rounded + (BAND_ULPS + exponent) * float(np.finfo(wide).eps) * magnitude


def difference(x, reference):
    """Return |x - reference|: 0 where both are NaN or the same infinity, NaN where only one is finite or NaN."""
    x = x.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(x - reference)
    same = (x == reference) | (np.isnan(x) & np.isnan(reference))
    comparable = np.isfinite(x) & np.isfinite(reference)
    return np.where(same, 0.0, np.where(comparable, off, np.nan))


def largest(values):
    """Return the largest finite value, or 0 where there is none."""
    return float(np.max(values, initial=0.0, where=np.isfinite(values)))


def describe(out, reference, worst, name, letters):
    """Return ``o[b=0, t=3] is 4 but should be 3``, and why a NaN may be there."""
    cell, found, wanted = cell_name(name, worst, letters), out[worst], reference[worst]
    if np.isnan(found):
        return f"{cell} is NaN but should be {wanted:.6g}: no thread wrote it, or it was computed from a NaN."
    return f"{cell} is {found:.6g} but should be {wanted:.6g}"


def allowance(off, budget, plain, plain_error):
    """Return the half sentence on how far off the worst cell is and how far it may be."""
    if np.isnan(off):
        return ""
    measure = f"plain NumPy in {plain.dtype} is off by {plain_error:.2g}"
    return f": off by {off:.2g}, where {budget:.2g} is allowed ({measure})."


def tally(wrong, name, letters):
    """Return how many cells are wrong and which is the first."""
    count = int(wrong.sum())
    if count == 1:
        return f"1 of {wrong.size} cells is wrong."
    first = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return f"{count} of {wrong.size} cells are wrong, the first is {cell_name(name, first, letters)}."


def cell_name(name, index, letters):
    """Return ``o[0, 3]``, or ``o[b=0, t=3]`` where letters are known."""
    if letters:
        return f"{name}[{', '.join(f'{a.lower()}={i}' for a, i in zip(letters, index, strict=True))}]"
    return f"{name}[{', '.join(str(i) for i in index)}]"
