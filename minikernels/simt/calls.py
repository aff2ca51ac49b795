"""Rewriting calls: casts, math, builtins, device functions, and what ``cuda`` offers."""

import ast
import math

import numpy as np

from minikernels.simt import names
from minikernels.simt.checks import array_roots

__all__ = ["Calls"]

COMPARISONS = {"Lt", "LtE", "Gt", "GtE", "Eq", "NotEq"}


class Calls:
    """The part of the rewriter that deals with calls."""

    def text_Call(self, node, name=None):
        target = self.meaning(node.func)
        if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
            self.refuse(node, "* and ** in a call do not run in a kernel", "write the arguments out")
        if target is None:
            self.refuse(node, f"{ast.unparse(node.func)}(...) cannot be called in a kernel",
                        "call cuda, math or device functions")
        handler = getattr(self, f"call_{type(target).__name__}", None)
        if handler is None:
            self.refuse(node, f"{ast.unparse(node.func)} is not a function", "drop the parentheses")
        return handler(node, target, name)

    def _arguments(self, node, least, most, what):
        if node.keywords:
            self.refuse(node, f"{what} takes no keyword arguments here", "pass them by position")
        if not least <= len(node.args) <= most:
            wanted = f"{least} argument{'s' * (least != 1)}" if least == most else f"{least} to {most} arguments"
            self.refuse(node, f"{what} takes {wanted} and got {len(node.args)}",
                        "loop over the elements" if what.startswith("np.") else "mend the call")
        return [self.expression(a) for a in node.args]

    def call_Cast(self, node, target, _):
        (value,) = self._arguments(node, 1, 1, str(target.dtype))
        self.explicit64 |= target.dtype == np.float64
        return f"__m.cast({self.constant(target.dtype)}, {value})"

    def call_Math(self, node, target, _):
        n = 2 if target.name in ("pow", "fmod", "atan2", "hypot", "copysign", "ldexp") else 1
        arguments = self._arguments(node, n, n, ast.unparse(node.func))
        if target.name in names.MATH_OTHER:
            literal = n == 2 and any(map(self.is_literal, node.args))
            return f"__m.math_other({target.name!r}, {', '.join(arguments)}{', literal=True' * literal})"
        return f"__m.math({target.name!r}, {arguments[0]})"

    def call_Builtin(self, node, target, _):
        name = target.name
        if name in ("min", "max"):
            items = self._arguments(node, 2, 64, name)
            text = items[0]
            for i, item in enumerate(items[1:], 1):
                literal = any(self.is_literal(a) for a in node.args[: i + 1])
                text = f"__m.{'literal' if literal else 'binary'}({name!r}, {text}, {item})"
            return text
        if name == "range":
            self.refuse(node, "range() stands in a for statement only", "write for i in range(n):")
        limits = {"pow": (2, 2), "divmod": (2, 2), "round": (1, 2)}.get(name, (1, 1))
        arguments = self._arguments(node, *limits, name)
        if name == "pow":
            return f"__m.binary('Pow', {', '.join(arguments)})"
        return f"__m.python_{name}({', '.join(arguments)})"

    def call_Device(self, node, target, _):
        what = ast.unparse(node.func)
        name, parameters, written = self.device_function(node, target)
        arguments = self._arguments(node, len(parameters), len(parameters), f"{what}({', '.join(parameters)})")
        for parameter, argument in zip(parameters, node.args):
            if parameter in written:
                self.stored |= array_roots(argument)
        return f"__m.call({', '.join([name, *arguments])})"

    def call_Cuda(self, node, target, name):
        if target.name in ("shared.array", "local.array"):
            return self._declare(node, target.name.split(".")[0], name)
        if target.name == "const.array_like":
            if len(node.args) != 1 or not isinstance(self.meaning(node.args[0]), np.ndarray):
                self.refuse(node, "cuda.const.array_like takes a NumPy array from outside the kernel", "pass its name")
            return self.text_Name(node.args[0])
        space, _, tail = target.name.partition(".")
        if space == "atomic":
            n = names.ATOMICS[tail]
            if tail == "compare_and_swap":  # (array, expected, new): element 0
                array, *operands = self._arguments(node, 3, 3, "cuda.atomic.compare_and_swap")
                self.stored |= array_roots(node.args[0])
                return f"__m.atomic('cas', {self.site(node)}, {array}, (__m.zero,), {', '.join(operands)})"
            if len(node.args) != n or node.keywords:
                self.refuse(node, f"cuda.atomic.{tail} takes {n} arguments", "pass array, index and value")
            self.stored |= array_roots(node.args[0])
            array, *operands = [self.expression(a) for i, a in enumerate(node.args) if i != 1]
            return (f"__m.atomic({tail!r}, {self.site(node)}, {array}, {self.index(node.args[1])}, "
                    f"{', '.join(operands)})")
        if space == "fp16":
            return self._fp16(node, tail)
        if target.name in ("grid", "gridsize"):
            known = self.static(node.args[0]) if len(node.args) == 1 else None
            if known is None or known.value not in (1, 2, 3):
                self.refuse(node, f"cuda.{target.name} takes the constant 1, 2 or 3", "write the number of axes")
        least, most = names.CUDA_CALLS[target.name]
        arguments = self._arguments(node, least, most, f"cuda.{target.name}")
        return f"__m.{target.name}({', '.join(f'__m.number({a})' for a in arguments)})"

    def _fp16(self, node, tail):
        what = names.FP16[tail]
        n = 3 if what == "fma" else 1 if what in ("USub", "abs") or what in names.MATH_UNARY | {"rsqrt", "rint"} else 2
        arguments = ", ".join(self._arguments(node, n, n, f"cuda.fp16.{tail}"))
        if what == "fma":
            return f"__m.fma({arguments})"
        if what in COMPARISONS:
            return f"__m.compare({what!r}, {arguments})"
        if n == 2:
            return f"__m.binary({what!r}, {arguments})"
        return {"USub": f"__m.unary('USub', {arguments})", "abs": f"__m.python_abs({arguments})"}.get(
            what, f"__m.math({what!r}, {arguments})")

    def _declare(self, node, space, name):
        given = dict(zip(("shape", "dtype"), node.args)) | {k.arg: k.value for k in node.keywords}
        if set(given) - {"shape", "dtype", "alignment"} or not {"shape", "dtype"} <= set(given):
            self.refuse(node, f"cuda.{space}.array takes a shape and a dtype",
                        "write cuda.shared.array((16, 16), float32)")
        shape = self._declared_shape(node, given["shape"], space)
        dtype = self.meaning(given["dtype"])
        if not isinstance(dtype, names.Cast):
            self.refuse(node, f"the dtype of cuda.{space}.array is a scalar type", "write float32, int32, ...")
        self.explicit64 |= dtype.dtype == np.float64
        name = name or f"{space}_line_{node.lineno}"
        if space == "shared" and shape == (0,):
            self.dynamic.append(dtype.dtype.itemsize)
        elif space == "shared":
            self.shared.append((name, math.prod(shape) * dtype.dtype.itemsize, node.lineno))
        shape, dtype = self.constant(shape), self.constant(dtype.dtype)
        if space == "local":
            return f"__m.local_array({name!r}, {shape}, {dtype})"
        return f"__m.shared_array({self.constant(object())}, {name!r}, {shape}, {dtype})"

    def _declared_shape(self, node, given, space):
        items = given.elts if isinstance(given, (ast.Tuple, ast.List)) else [given]
        sizes = []
        for item in items:
            if isinstance(item, ast.Name) and item.id in self.literals:
                sizes.append(self.literals[item.id])
                continue
            computed = any(isinstance(n, (ast.Name, ast.Attribute)) for n in ast.walk(item)) and not isinstance(
                item, (ast.Name, ast.Attribute))
            known = None if computed else self.static(item)
            value = () if known is None else known.value if isinstance(known.value, tuple) else (known.value,)
            if not value or not all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in value):
                self.refuse(item, f"the shape of cuda.{space}.array is not a constant: {ast.unparse(given)}",
                            "numba wants literals or names of integers from outside the kernel; compute "
                            "TILE + 1 there and give it a name")
            sizes.extend(int(v) for v in value)
        if any(s < 0 for s in sizes) or (0 in sizes and (space == "local" or sizes != [0])):
            self.refuse(node, f"cuda.{space}.array of shape {tuple(sizes)}", "every extent is at least 1")
        return tuple(sizes)
