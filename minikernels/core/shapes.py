"""Bind the letters of a function's signature to the shapes of the arrays it was given.

One letter has one meaning everywhere (B batch, H query heads, G key/value heads, T queries, S keys, D head
width, ...), so a shape that does not fit can be reported in letters.

>>> import numpy as np
>>> q, k = np.zeros((1, 8, 5, 64)), np.zeros((1, 3, 7, 64))
>>> sizes = bind(q=(q, "BHTD"), k=(k, "BGSD"))
>>> sizes.unpack("BHGTSD")
(1, 8, 3, 5, 7, 64)
>>> sizes.divides("G", "H")
Traceback (most recent call last):
    ...
minikernels.core.errors.ShapeError: k has shape (1, 3, 7, 64) = (B, G, S, D); G=3 must divide H=8
"""

from minikernels.core.errors import DtypeError, ShapeError

__all__ = ["Sizes", "bind", "bind_shapes", "same_dtype"]


class Sizes(dict):
    """Letter -> size, with the array that bound each letter first.

    Attributes
    ----------
    source : dict of str to (str, tuple of int, str)
        Letter -> name, shape and layout of the array that bound it.
    """

    def __init__(self):
        super().__init__()
        self.source = {}

    def add(self, name, array, layout):
        """Bind the letters of `layout` to the shape of `array`, or raise ShapeError."""
        if not hasattr(array, "shape"):
            kind = type(array).__name__
            raise DtypeError(f"{name} is of type {kind}; it must be an array of shape {spelled(layout)}")
        self.add_shape(name, tuple(int(size) for size in array.shape), layout)

    def add_shape(self, name, shape, layout):
        """Bind the letters of `layout` to a shape, or raise ShapeError."""
        if len(shape) != len(layout):
            raise ShapeError(f"{name} has shape {shape}, {axes(len(shape))}; it must be {spelled(layout)}")
        for letter, size in zip(layout, shape, strict=True):
            if letter not in self:
                self[letter] = size
                self.source[letter] = (name, shape, layout)
            elif self[letter] != size:
                other, other_shape, other_layout = self.source[letter]
                raise ShapeError(
                    f"{name} has shape {shape} = {spelled(layout)}; {letter}={size} must equal "
                    f"{letter}={self[letter]} of {other}, whose shape is {other_shape} = {spelled(other_layout)}"
                )

    def unpack(self, letters):
        """Return the sizes of `letters` as a tuple, in the order given."""
        return tuple(self[letter] for letter in letters)

    def divides(self, divisor, multiple):
        """Raise ShapeError unless size `divisor` divides size `multiple` (0 divides only 0)."""
        small, large = self[divisor], self[multiple]
        if large != 0 and (small == 0 or large % small):
            self.refuse(divisor, f"must divide {multiple}={large}")

    def at_most(self, letter, limit, why):
        """Raise ShapeError unless the size of `letter` is at most `limit`; `why` ends the message."""
        if self[letter] > limit:
            self.refuse(letter, f"must be at most {limit}: {why}")

    def refuse(self, letter, rule):
        """Raise the ShapeError that says how the array that bound `letter` breaks `rule`."""
        name, shape, layout = self.source[letter]
        raise ShapeError(f"{name} has shape {shape} = {spelled(layout)}; {letter}={self[letter]} {rule}")


def bind(**arrays):
    """Bind letters to shapes: ``bind(q=(q, "BHTD"), k=(k, "BGSD"))``.

    Parameters
    ----------
    **arrays : (array, str)
        An array and its layout, one letter an axis. Earlier arrays bind a letter, later ones must agree.

    Returns
    -------
    Sizes
        Letter -> size.

    Raises
    ------
    ShapeError
        If an array has another number of axes, or a letter two sizes.
    DtypeError
        If something is no array at all.
    """
    sizes = Sizes()
    for name, (array, layout) in arrays.items():
        sizes.add(name, array, layout)
    return sizes


def bind_shapes(**shapes):
    """As `bind`, of shapes where there are no arrays: ``bind_shapes(q=((2, 8, 64), "BHD"))``."""
    sizes = Sizes()
    for name, (shape, layout) in shapes.items():
        sizes.add_shape(name, shape, layout)
    return sizes


def same_dtype(allowed, **arrays):
    """Return the name of the dtype that all `arrays` share, which must be one of `allowed`.

    Parameters
    ----------
    allowed : sequence of str
        Dtype names, such as ``("float16", "float32")``.
    **arrays : array
        The arrays by name. NumPy and CuPy dtypes are read alike.

    Raises
    ------
    DtypeError
        If a dtype is not allowed or two arrays differ.
    """
    names = {name: str(array.dtype) for name, array in arrays.items()}
    first, expected = next(iter(names.items()))
    for name, found in names.items():
        if found not in allowed:
            raise DtypeError(f"{name} has dtype {found}; it must be {either(allowed)}")
        if found != expected:
            raise DtypeError(f"{name} has dtype {found} and {first} has {expected}; {both(names)} must share one dtype")
    return expected


def spelled(layout):
    """Return a layout as a reader writes it: ``(B, H, T, D)``."""
    return "(" + ", ".join(layout) + ("," if len(layout) == 1 else "") + ")"


def axes(count):
    """Return ``1 axis``, ``2 axes``, ..."""
    return f"{count} axis" if count == 1 else f"{count} axes"


def either(names):
    """Return ``float16``, ``float16 or float32``, ``float16, float32 or float64``."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def both(names):
    """Return ``q``, ``q and k``, ``q, k and v``."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
