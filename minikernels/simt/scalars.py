"""Python's builtins and the rest of ``math`` on lane values, with numba's result types."""

import numpy as np

from minikernels.simt.arithmetic import F64, I64, convert, math_type
from minikernels.simt.views import View

__all__ = ["Scalars"]


class Scalars:
    """The part of the machine that converts, rounds and unpacks."""

    zero = np.int64(0)

    def number(self, a):
        """Return an argument that has to be a number."""
        if not hasattr(a, "dtype"):
            raise TypeError("a number is needed here, not an array, a tuple or nothing")
        return a

    def python_abs(self, a):
        """``abs``: keeps the type."""
        return np.abs(a)

    def python_int(self, a):
        """``int``: keeps an integer's type; a float becomes int64 without its fraction."""
        if a.dtype.kind in "iu":
            return a
        return convert(a, I64)

    def python_float(self, a):
        """``float``: keeps a float's type, as numba does; an integer becomes float64."""
        return a if a.dtype.kind == "f" else a.astype(F64)

    def python_bool(self, a):
        """``bool``."""
        return self.truth(a)

    def python_len(self, a):
        """``len`` of an array or a tuple."""
        if isinstance(a, tuple):
            return np.int64(len(a))
        if not isinstance(a, View) or not a.ndim:
            raise TypeError("len() takes an array or a tuple")
        return a.shape[0]

    def python_round(self, a, digits=None):
        """``round``: half to even; int64 without digits, else the type of ``a``."""
        if digits is None:
            return convert(np.rint(a), I64) if a.dtype.kind == "f" else a.astype(I64)
        scale = np.float64(10.0) ** np.asarray(digits, F64)
        return (np.rint(a * scale) / scale).astype(a.dtype)[()]

    def python_divmod(self, a, b):
        """``divmod``: (floor quotient, remainder)."""
        return self.binary("FloorDiv", a, b), self.binary("Mod", a, b)

    def math_other(self, name, *values, literal=False):
        """The functions of ``math`` that take two numbers or return something else than a float."""
        if name in ("isnan", "isinf", "isfinite"):
            a = values[0] if values[0].dtype.kind == "f" else values[0].astype(F64)
            return getattr(np, name)(a)
        if name in ("modf", "frexp"):
            a = values[0] if values[0].dtype.kind == "f" else values[0].astype(F64)
            one, two = getattr(np, name)(a)
            return one, two if name == "modf" else two.astype(np.int32)
        a, b = values
        if name == "ldexp":
            return np.ldexp(a if a.dtype.kind == "f" else a.astype(F64), b.astype(np.int32))
        kind = math_type(name, a.dtype, b.dtype)
        if kind == F64 and not a.dtype == b.dtype == F64:
            self.slipped(f"math.{name}", a, b, literal)
        self.count_special()
        function = {"fmod": np.fmod, "atan2": np.arctan2, "hypot": np.hypot, "copysign": np.copysign,
                    "pow": np.power}[name]
        return function(a.astype(kind), b.astype(kind))

    def unpack(self, value, count):
        """Return the items of a tuple (or of an array's rows) for an assignment to ``count`` names."""
        if not isinstance(value, tuple):
            raise TypeError(f"only tuples unpack into {count} names")
        if len(value) != count:
            raise TypeError(f"a tuple of {len(value)} does not unpack into {count} names")
        return value

    def as_index(self, value):
        """Return a variable used as an index: a tuple stays one."""
        return value if isinstance(value, tuple) else (value,)
