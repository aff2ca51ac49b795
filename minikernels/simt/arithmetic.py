"""Arithmetic with numba's types: what each operator returns, and what it counts as.

numba computes on integers in 64 bits, and mixes an integer or a Python float with a float32 into float64.
NumPy's own rules differ in places, so each operator looks its result type up here. The rules are numba's,
read from its typing of every pair of types; a test compares the two tables.
"""

import math
from functools import cache

import numpy as np

__all__ = ["BINARY", "HALF", "MATH", "UNARY", "Operator", "arithmetic_type", "common_type", "convert",
           "math_type"]

BOOL, I64, U64 = np.dtype(bool), np.dtype(np.int64), np.dtype(np.uint64)
F16, F32, F64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
# Integers that numba converts to a float of this width without widening it.
EXACT = {F16: {BOOL, np.dtype(np.int8)}, F32: {BOOL, *map(np.dtype, (np.int8, np.int16, np.uint8))}}


def _integer(kind):
    return kind in "biu"


@cache
def arithmetic_type(a, b):
    """Return the dtype in which numba adds, subtracts or multiplies dtypes ``a`` and ``b``."""
    if _integer(a.kind) and _integer(b.kind):
        return U64 if a.kind == b.kind == "u" else I64
    if a.kind == b.kind == "f":
        return max(a, b, key=lambda d: d.itemsize)
    real, whole = (a, b) if a.kind == "f" else (b, a)
    if real == F64 or whole in EXACT[real]:
        return real
    return F32 if real == F16 and whole in EXACT[F32] else F64


@cache
def common_type(a, b):
    """Return the dtype that numba gives a variable, ``min`` or ``max`` of dtypes ``a`` and ``b``."""
    if a == b:
        return a
    if _integer(a.kind) and _integer(b.kind):
        return b if a == BOOL else a if b == BOOL else np.promote_types(a, b)
    if {a, b} == {np.dtype(np.uint16), F32}:
        return F32
    return arithmetic_type(a, b)


def _divide_type(a, b):
    # an integer over an integer is float64 for numba, as for Python 3
    return F64 if _integer(a.kind) and _integer(b.kind) else arithmetic_type(a, b)


def _floor_type(a, b):
    kind = arithmetic_type(a, b)
    return F32 if kind == F16 else kind


def _power_type(a, b):
    if a.kind == "f" and _integer(b.kind):
        return F32 if a == F16 else a
    return _floor_type(a, b)


def _bits_type(a, b):
    if "f" in (a.kind, b.kind):
        raise TypeError("bitwise operators take integers; cast with int32(...) first")
    return BOOL if a == b == BOOL else arithmetic_type(a, b)


def _shift_type(a, b):
    if "f" in (a.kind, b.kind):
        raise TypeError("shifts take integers; cast with int32(...) first")
    return U64 if a.kind == "u" else I64


def convert(a, dtype):
    """Return ``a`` as another type, as a GPU does: a float out of an integer's range becomes its nearest end."""
    if a.dtype == dtype:
        return a
    if a.dtype.kind != "f" or dtype.kind not in "iu":
        return a.astype(dtype)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    wide = np.trunc(np.nan_to_num(a.astype(F64), nan=0.0, posinf=np.inf, neginf=-np.inf))
    over, under = wide >= float(high), wide <= float(low)
    inside = np.where(over | under, 0.0, wide).astype(dtype)
    return np.where(over, dtype.type(high), np.where(under, dtype.type(low), inside))[()]


def _power(a, b):
    if a.dtype.kind == "f":
        return np.power(a, b)
    # NumPy refuses negative integer powers; for numba they are 0, but for the bases 1 and -1
    whole = np.power(a, np.where(b < 0, (b & b.dtype.type(1)) if b.dtype.kind != "f" else 0, b))
    return np.where((b < 0) & (np.abs(a) != 1), a.dtype.type(0), whole)[()]


def _left(a, b):
    return np.left_shift(a, np.asarray(b).astype(a.dtype)[()])


def _right(a, b):
    return np.right_shift(a, np.asarray(b).astype(a.dtype)[()])


class Operator:
    """One binary operator: its NumPy function, its result type, and the rules learnt per pair of dtypes."""

    def __init__(self, name, function, result, counts=True, casts_right=True):
        self.name, self.function, self.result = name, function, result
        self.counts, self.casts_right = counts, casts_right
        self.rules = {}

    def learn(self, a, b):
        """Return (left cast or None, right cast or None, counter, widened) for dtypes ``a`` and ``b``."""
        kind = self.result(a, b)
        counter = None if kind.kind != "f" or not self.counts else f"flop{kind.itemsize * 8}"
        right = None if b == kind or not self.casts_right else kind
        # float64 that nobody wrote: it arises where a narrower operand is widened
        widened = kind == F64 and not a == b == F64
        rule = self.rules[a, b] = (None if a == kind else kind, right, counter, widened)
        return rule


BINARY = {
    "Add": Operator("+", np.add, arithmetic_type),
    "Sub": Operator("-", np.subtract, arithmetic_type),
    "Mult": Operator("*", np.multiply, arithmetic_type),
    "Div": Operator("/", np.divide, _divide_type),
    "FloorDiv": Operator("//", np.floor_divide, _floor_type),
    "Mod": Operator("%", np.mod, _floor_type),
    "Pow": Operator("**", _power, _power_type),
    "BitAnd": Operator("&", np.bitwise_and, _bits_type, counts=False),
    "BitOr": Operator("|", np.bitwise_or, _bits_type, counts=False),
    "BitXor": Operator("^", np.bitwise_xor, _bits_type, counts=False),
    "LShift": Operator("<<", _left, _shift_type, counts=False, casts_right=False),
    "RShift": Operator(">>", _right, _shift_type, counts=False, casts_right=False),
    "min": Operator("min", np.fmin, common_type),  # the CUDA functions: the number wins over NaN
    "max": Operator("max", np.fmax, common_type),
}


def _negate(a):
    kind = a.dtype if a.dtype.kind == "f" else U64 if a.dtype.kind == "u" else I64
    return np.negative(a).astype(kind) if a.dtype != BOOL else np.negative(a.astype(kind))


def _invert(a):
    if a.dtype.kind == "f":
        raise TypeError("~ takes integers; cast with int32(...) first")
    return np.invert(a) if a.dtype == BOOL else np.invert(a).astype(U64 if a.dtype.kind == "u" else I64)


def _plus(a):
    return a if a.dtype.kind == "f" else a.astype(U64 if a.dtype.kind == "u" else I64)


UNARY = {
    "USub": _negate,
    "UAdd": _plus,
    "Invert": _invert,
    "Not": lambda a: np.logical_not(a),
}

def math_type(name, a, b):
    """Return the dtype of a function of ``math`` of two numbers: numba has it for float32 and for float64."""
    if _integer(a.kind) and _integer(b.kind) and name in ("atan2", "hypot"):
        return F64
    narrow = EXACT[F32] | {F16, F32}
    return F32 if a in narrow and (b in narrow or (name == "pow" and b == np.dtype(np.int32))) else F64


# The functions of one number that float16 has; for the others it becomes float32
HALF = {"exp", "exp2", "log", "log2", "log10", "sqrt", "rsqrt", "sin", "cos", "floor", "ceil", "trunc", "rint", "fabs"}


def _scalar(function):
    # NumPy lacks these; one call a lane is fast enough for functions that few kernels use
    def safe(x):
        try:
            return function(x)
        except (ValueError, OverflowError) as error:  # lanes that are switched off compute on whatever they hold
            return math.nan if isinstance(error, ValueError) else math.inf

    return lambda x: np.vectorize(safe, otypes=[np.asarray(x).dtype])(x)[()]


# name -> (function, counts as a special function). Integers become float64, as in numba.
MATH = {
    "exp": (np.exp, True), "exp2": (np.exp2, True), "expm1": (np.expm1, True),
    "log": (np.log, True), "log2": (np.log2, True), "log10": (np.log10, True), "log1p": (np.log1p, True),
    "sqrt": (np.sqrt, True), "rsqrt": (lambda x: np.reciprocal(np.sqrt(x)), True),
    "sin": (np.sin, True), "cos": (np.cos, True), "tan": (np.tan, True),
    "asin": (np.arcsin, True), "acos": (np.arccos, True), "atan": (np.arctan, True),
    "sinh": (np.sinh, True), "cosh": (np.cosh, True), "tanh": (np.tanh, True),
    "asinh": (np.arcsinh, True), "acosh": (np.arccosh, True), "atanh": (np.arctanh, True),
    "erf": (_scalar(math.erf), True), "erfc": (_scalar(math.erfc), True),
    "gamma": (_scalar(math.gamma), True), "lgamma": (_scalar(math.lgamma), True),
    "cbrt": (np.cbrt, True),
    "floor": (np.floor, False), "ceil": (np.ceil, False), "trunc": (np.trunc, False), "rint": (np.rint, False),
    "fabs": (np.abs, False), "degrees": (np.degrees, False), "radians": (np.radians, False),
}
