"""What the widgets ask of plain data: an array of the right axes and numbers, or a sentence that says what is wrong."""

import numpy as np

from minikernels.core.errors import DtypeError
from minikernels.core.shapes import bind

__all__ = ["checked", "size"]

KINDS = {"f": "floats", "i": "whole numbers", "u": "whole numbers", "b": "true or false"}


def checked(name, value, layout, kinds="fiu", **sizes):
    """Return a value as an array with one axis for each letter of a layout.

    Parameters
    ----------
    name : str
        What the caller calls it.
    value : array_like
    layout : str
        One letter an axis: ``"TD"``.
    kinds : str
        NumPy's letters for what its elements may be; ``"f"`` must be finite.
    **sizes : (name, array, layout)
        Arrays checked before, whose letters must agree: ``k=(k, "TD")``.

    Returns
    -------
    ndarray

    Raises
    ------
    DtypeError, ShapeError
        If the elements or the axes do not fit.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:  # a ragged list
        raise DtypeError(f"{name} is no array: {error}") from None
    if array.dtype.kind not in kinds:
        wanted = " or ".join(dict.fromkeys(KINDS[kind] for kind in kinds))
        raise DtypeError(f"{name} holds {array.dtype.name}; it must hold {wanted}")
    bind(**sizes, **{name: (array, layout)})
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; a picture needs numbers")
    return array


def size(name, value, least=1, most=10**9):
    """Return a whole number inside its bounds, or say what it may be."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        raise ValueError(f"{name} is a whole number from {least:,} to {most:,}, and not {value!r}")
    return int(value)
