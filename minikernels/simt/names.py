"""What a name in a kernel's source means: a constant, a type, or part of ``cuda``, ``math`` or Python.

Objects are recognised by what they are called, never by importing numba: the machine runs where numba is
absent, and the names of a graded submission are resolved without running it.
"""

import builtins
import math
from dataclasses import dataclass

import numpy as np

__all__ = ["CUDA_CALLS", "DTYPES", "Builtin", "Cast", "Cuda", "Device", "Math", "Namespace", "describe", "member",
           "source_names"]

DTYPES = {n: np.dtype(n) for n in ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8",
                                   "uint16", "uint32", "uint64")}
DTYPES |= {"boolean": np.dtype(bool), "bool_": np.dtype(bool), "intp": np.dtype(np.int64),
           "uintp": np.dtype(np.uint64), "intc": np.dtype(np.int32), "f2": DTYPES["float16"], "f4": DTYPES["float32"],
           "f8": DTYPES["float64"], "i1": DTYPES["int8"], "i2": DTYPES["int16"], "i4": DTYPES["int32"],
           "i8": DTYPES["int64"], "u1": DTYPES["uint8"], "u2": DTYPES["uint16"], "u4": DTYPES["uint32"],
           "u8": DTYPES["uint64"], "byte": DTYPES["uint8"], "float_": DTYPES["float32"], "double": DTYPES["float64"],
           "half": DTYPES["float16"], "single": DTYPES["float32"]}

CUDA_SPECIALS = {"threadIdx", "blockIdx", "blockDim", "gridDim"}  # with .x .y .z
CUDA_VALUES = {"laneid", "warpsize"}
CUDA_CALLS = {  # name -> (least, most) arguments
    "grid": (1, 1), "gridsize": (1, 1), "syncthreads": (0, 0), "syncthreads_count": (1, 1), "syncthreads_and": (1, 1),
    "syncthreads_or": (1, 1), "syncwarp": (0, 1), "threadfence": (0, 0), "threadfence_block": (0, 0),
    "threadfence_system": (0, 0), "nanosleep": (1, 1), "shfl_sync": (3, 3), "shfl_up_sync": (3, 3),
    "shfl_down_sync": (3, 3), "shfl_xor_sync": (3, 3), "all_sync": (2, 2), "any_sync": (2, 2), "eq_sync": (2, 2),
    "ballot_sync": (2, 2), "match_any_sync": (2, 2), "match_all_sync": (2, 2), "activemask": (0, 0),
    "lanemask_lt": (0, 0), "popc": (1, 1), "brev": (1, 1), "clz": (1, 1), "ffs": (1, 1), "selp": (3, 3), "fma": (3, 3)}
CUDA_MATH = {"cbrt": "cbrt", "rsqrt": "rsqrt"}
CUDA_ARRAYS = {"shared": {"array"}, "local": {"array"}, "const": {"array_like"}}
ATOMICS = {"add": 3, "sub": 3, "and_": 3, "or_": 3, "xor": 3, "inc": 3, "dec": 3, "exch": 3, "max": 3, "min": 3,
           "nanmax": 3, "nanmin": 3, "compare_and_swap": 3, "cas": 4}
FP16 = {"hadd": "Add", "hsub": "Sub", "hmul": "Mult", "hdiv": "Div", "hfma": "fma", "hneg": "USub", "habs": "abs",
        "hmax": "max", "hmin": "min", "hexp": "exp", "hexp2": "exp2", "hlog": "log", "hlog2": "log2",
        "hlog10": "log10", "hsin": "sin", "hcos": "cos", "hsqrt": "sqrt", "hrsqrt": "rsqrt", "hfloor": "floor",
        "hceil": "ceil", "htrunc": "trunc", "hrint": "rint", "heq": "Eq", "hne": "NotEq", "hge": "GtE", "hgt": "Gt",
        "hle": "LtE", "hlt": "Lt"}
BUILTINS = {"abs", "bool", "divmod", "float", "int", "len", "max", "min", "pow", "range", "round"}
MATH_CONSTANTS = {"pi": math.pi, "e": math.e, "inf": math.inf, "nan": math.nan, "tau": math.tau}
MATH_UNARY = {"exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "sin", "cos", "tan", "asin", "acos",
              "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "gamma", "lgamma", "floor",
              "ceil", "trunc", "fabs", "degrees", "radians", "cbrt"}
MATH_OTHER = {"pow", "fmod", "atan2", "hypot", "copysign", "ldexp", "isnan", "isinf", "isfinite", "modf", "frexp"}
NUMPY_MATH = {"abs": "fabs", "absolute": "fabs", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "rint": "rint",
              **{n: n for n in ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "sin", "cos", "tan",
                                "sinh", "cosh", "tanh", "floor", "ceil", "trunc", "fabs", "cbrt")}}


@dataclass(frozen=True)
class Namespace:
    """A module-like name: ``cuda``, ``cuda.shared``, ``math``, ``np``, ``numba``."""

    name: str


@dataclass(frozen=True)
class Cuda:
    """A function of ``cuda``, by its dotted name."""

    name: str


@dataclass(frozen=True)
class Special:
    """A value that the hardware provides: ``threadIdx.x``, ``laneid``."""

    name: str


@dataclass(frozen=True)
class Math:
    """A function of ``math``."""

    name: str


@dataclass(frozen=True)
class Builtin:
    """A Python builtin that kernels may use."""

    name: str


@dataclass(frozen=True)
class Cast:
    """A scalar type: a cast when called, a dtype in array declarations."""

    dtype: np.dtype


@dataclass(frozen=True)
class Device:
    """A device function: the plain Python function behind it, or its node in a graded source."""

    function: object


def member(space, name):
    """Return what ``space.name`` means, or None where the machine does not know it."""
    if space.name == "cuda":
        if name in CUDA_SPECIALS or name in CUDA_ARRAYS or name in ("atomic", "fp16"):
            return Namespace(f"cuda.{name}")
        if name in CUDA_VALUES:
            return Special(name)
        if name in CUDA_CALLS:
            return Cuda(name)
        return Math(CUDA_MATH[name]) if name in CUDA_MATH else None
    head, _, tail = space.name.partition(".")
    if head == "cuda" and tail in CUDA_SPECIALS:
        return Special(f"{tail}.{name}") if name in ("x", "y", "z") else None
    if head == "cuda" and tail in CUDA_ARRAYS:
        return Cuda(f"{tail}.{name}") if name in CUDA_ARRAYS[tail] else None
    if space.name == "cuda.atomic":
        return Cuda(f"atomic.{name}") if name in ATOMICS else None
    if space.name == "cuda.fp16":
        return Cuda(f"fp16.{name}") if name in FP16 else None
    if space.name == "math":
        if name in MATH_CONSTANTS:
            return MATH_CONSTANTS[name]
        return Math(name) if name in MATH_UNARY | MATH_OTHER else None
    if space.name == "np":
        if name in DTYPES:
            return Cast(DTYPES[name])
        if name in ("inf", "nan", "pi", "e"):
            return MATH_CONSTANTS[name]
        if name in ("minimum", "maximum"):
            return Builtin(name[:3])
        return Math(NUMPY_MATH[name]) if name in NUMPY_MATH else None
    if space.name == "numba":
        if name in DTYPES:
            return Cast(DTYPES[name])
        return Namespace(name) if name in ("cuda",) else Namespace("numba") if name == "types" else None
    return None


def describe(value):
    """Return what a Python object that a kernel refers to means to the machine (itself, if a constant)."""
    if isinstance(value, (bool, int, float, np.bool_, np.number, np.ndarray, tuple, Namespace, Cuda, Special, Math,
                          Builtin, Cast, Device)) or value is None:
        return value
    if isinstance(value, type) and issubclass(value, np.generic):
        return Cast(np.dtype(value))
    if isinstance(value, np.dtype):
        return Cast(value)
    name, module = getattr(value, "__name__", ""), getattr(value, "__module__", "") or ""
    if type(value).__name__ == "module":
        return _module(name)
    if module.endswith("cuda.random"):
        raise LookupError("part of cuda.random")
    if hasattr(value, "py_func"):
        return Device(value.py_func)
    if isinstance(value, np.ufunc):
        return member(Namespace("np"), name)
    if name in BUILTINS and getattr(builtins, name) is value:
        return Builtin(name)
    if module == "math":
        return Math(name) if name in MATH_UNARY | MATH_OTHER else None
    if "cuda" in module and "numba" in module or "cuda" in type(value).__module__ and "numba" in type(value).__module__:
        return _stub(value, name)
    if type(value).__module__.startswith("numba") and str(value) in DTYPES:
        return Cast(DTYPES[str(value)])
    if str(value) == "bool" and type(value).__module__.startswith("numba"):
        return Cast(np.dtype(bool))
    raise LookupError(f"a {type(value).__name__}")


def _module(name):
    if name in ("numba.cuda", "numba_cuda.numba.cuda") or name.startswith("numba.cuda.simulator"):
        return Namespace("cuda")
    plain = {"math": "math", "numpy": "np", "numba": "numba", "numba.types": "numba", "numba.core.types": "numba"}
    if name in plain:
        return Namespace(plain[name])
    raise LookupError(f"the module {name}")


def _stub(value, name):
    # numba describes its stubs as '<threadIdx.{x,y,z}>', '<shared>'; others carry their name
    label = getattr(value, "_description_", "") or ""
    name = name or label.strip("<>").split(".")[0]
    for candidate in (name, label.strip("<>").split(".")[0].removesuffix("()")):
        found = member(Namespace("cuda"), candidate)
        if found is not None:
            return found
    raise LookupError(f"cuda.{name}")


def source_names():
    """Return the names that a graded source may use without importing anything."""
    names = {"cuda": Namespace("cuda"), "math": Namespace("math"), "np": Namespace("np"), "numpy": Namespace("np"),
             "numba": Namespace("numba")}
    names |= {n: Cast(d) for n, d in DTYPES.items() if n[-1].isdigit() and len(n) > 3 and n not in ("i1", "u1")}
    return names | {"boolean": Cast(DTYPES["boolean"])} | {n: Builtin(n) for n in BUILTINS}
