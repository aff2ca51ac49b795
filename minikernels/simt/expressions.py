"""Rewriting expressions: each becomes the text of a call on the machine."""

import ast
import math
from dataclasses import dataclass

import numpy as np

from minikernels.simt import names

__all__ = ["Expressions", "Static"]

COMPARISONS = {"Lt", "LtE", "Gt", "GtE", "Eq", "NotEq"}
FOLD = {"Add": lambda a, b: a + b, "Sub": lambda a, b: a - b, "Mult": lambda a, b: a * b, "Div": lambda a, b: a / b,
        "FloorDiv": lambda a, b: a // b, "Mod": lambda a, b: a % b, "Pow": lambda a, b: a**b,
        "LShift": lambda a, b: a << b, "RShift": lambda a, b: a >> b, "BitAnd": lambda a, b: a & b,
        "BitOr": lambda a, b: a | b, "BitXor": lambda a, b: a ^ b}
COMPARE_FOLD = {"Lt": lambda a, b: a < b, "LtE": lambda a, b: a <= b, "Gt": lambda a, b: a > b,
                "GtE": lambda a, b: a >= b, "Eq": lambda a, b: a == b, "NotEq": lambda a, b: a != b,
                "Is": lambda a, b: a is b, "IsNot": lambda a, b: a is not b}


@dataclass(frozen=True)
class Static:
    """A value that is known before the kernel runs."""

    value: object


class Expressions:
    """The part of the rewriter that deals with values."""

    # What is known beforehand

    def meaning(self, node):
        """Return what a free name or a dotted name means; None for local variables and everything else."""
        if isinstance(node, ast.Name):
            if node.id in self.locals:
                return None
            try:
                return self.resolve(node.id)
            except NameError:
                self.refuse(node, f"the name {node.id} is not defined", "define or import it before the kernel")
            except LookupError as error:
                self.refuse(node, f"{node.id} is {error.args[0]}, which a kernel cannot use",
                            "kernels use numbers, arrays, cuda, math and functions decorated as device functions")
        if isinstance(node, ast.Attribute):
            space = self.meaning(node.value)
            if isinstance(space, names.Namespace):
                found = names.member(space, node.attr)
                if found is None:
                    self.refuse(node, f"{space.name}.{node.attr} is not part of the kernel language",
                                "see minikernels/simt/README.md for what is")
                return found
        return None

    def static(self, node):
        """Return the `Static` value of an expression of constants, or None."""
        if isinstance(node, ast.Constant):
            return Static(node.value)
        if isinstance(node, (ast.Name, ast.Attribute)):
            found = self.meaning(node)
            plain = (bool, int, float, np.bool_, np.number, tuple)
            if isinstance(found, plain):
                return Static(found)
            unknown = isinstance(node, ast.Attribute) or node.id in self.locals
            return Static(None) if found is None and not unknown else None
        if isinstance(node, ast.Tuple):
            items = [self.static(e) for e in node.elts]
            return None if None in items else Static(tuple(i.value for i in items))
        if isinstance(node, ast.Subscript):
            value, index = self.static(node.value), self.static(node.slice)
            if value is not None and index is not None and isinstance(value.value, tuple):
                try:
                    return Static(value.value[index.value])
                except (IndexError, TypeError):
                    self.refuse(node, f"index {index.value} is outside a tuple of {len(value.value)}", "mend it")
            return None
        return self._fold(node)

    def _fold(self, node):
        try:
            if isinstance(node, ast.BinOp) and type(node.op).__name__ in FOLD:
                a, b = self.static(node.left), self.static(node.right)
                if _python(a) and _python(b):
                    return Static(FOLD[type(node.op).__name__](a.value, b.value))
            if isinstance(node, ast.UnaryOp):
                a = self.static(node.operand)
                if _python(a) or (a is not None and isinstance(a.value, np.number)
                                  and isinstance(node.op, ast.USub)):
                    return Static(not a.value if isinstance(node.op, ast.Not) else -a.value
                                  if isinstance(node.op, ast.USub) else ~a.value
                                  if isinstance(node.op, ast.Invert) else a.value)
            if isinstance(node, ast.Compare) and len(node.ops) == 1:
                a, b = self.static(node.left), self.static(node.comparators[0])
                if a is not None and b is not None and type(node.ops[0]).__name__ in COMPARE_FOLD:
                    return Static(bool(COMPARE_FOLD[type(node.ops[0]).__name__](a.value, b.value)))
            if isinstance(node, ast.BoolOp):
                items = [self.static(v) for v in node.values]
                if all(_python(i) for i in items):
                    both = isinstance(node.op, ast.And)
                    return Static(all(i.value for i in items) if both else any(i.value for i in items))
            if isinstance(node, ast.Call) and not node.keywords:
                return self._fold_call(node)
        except (ZeroDivisionError, ValueError, OverflowError, TypeError) as error:
            self.refuse(node, f"a constant cannot be computed ({error})", "mend it")
        return None

    def _fold_call(self, node):
        target = self.meaning(node.func)
        items = [self.static(a) for a in node.args]
        if not items or not all(_python(i) for i in items):
            return None
        values = [i.value for i in items]
        if isinstance(target, names.Math) and hasattr(math, target.name):
            return Static(getattr(math, target.name)(*values))
        if isinstance(target, names.Builtin) and target.name in ("min", "max", "abs"):
            return Static({"min": min, "max": max, "abs": abs}[target.name](*values))
        return None

    def is_literal(self, node):
        """Whether an expression is a Python number, which numba takes for int64 or float64."""
        known = self.static(node)
        return known is not None and type(known.value) in (int, float)

    # Values

    def expression(self, node, name=None):
        """Return the text that computes an expression; ``name`` is the variable it is for."""
        known = self.static(node)
        if known is not None:
            return self._constant(node, known.value)
        handler = getattr(self, f"text_{type(node).__name__}", None)
        if handler is None:
            self.refuse(node, f"{_kind(node)} does not run in a kernel", _instead(node))
        if isinstance(node, ast.Call):
            return handler(node, name)
        return handler(node)

    def _constant(self, node, value):
        if value is None:
            return "None"
        if isinstance(value, tuple):
            return f"({', '.join(self._constant(node, v) for v in value)},)" if value else "()"
        if isinstance(value, (str, bytes, complex)) or value is Ellipsis:
            self.refuse(node, f"a {type(value).__name__} is not a kernel value", "kernels compute with numbers")
        if isinstance(value, (bool, np.bool_)):
            return self.constant(np.bool_(value))
        if isinstance(value, int):
            if not -(2**63) <= value < 2**64:
                self.refuse(node, f"{value} does not fit in 64 bits", "use a smaller number")
            return self.constant(np.int64(value) if value < 2**63 else np.uint64(value))
        if isinstance(value, float) and not isinstance(value, np.generic):
            return self.constant(np.float64(value))
        self.explicit64 |= isinstance(value, np.float64)
        return self.constant(value)

    def text_Name(self, node):
        if node.id in self.locals:
            return node.id
        found = self.meaning(node)
        if isinstance(found, np.ndarray):
            return f"__m.const_array({node.id!r}, {self.constant(found)})"
        if isinstance(found, names.Special):
            return f"__m.specials[{found.name!r}]"
        self.refuse(node, f"{node.id} is not a value", "call it, or use a number or an array")

    def text_Attribute(self, node):
        found = self.meaning(node)
        if isinstance(found, names.Special):
            return f"__m.specials[{found.name!r}]"
        if found is not None:
            self.refuse(node, f"{ast.unparse(node)} is not a value", "call it")
        if isinstance(node.value, ast.Name) and self.meaning(node.value) is not None:
            self.refuse(node, f"{ast.unparse(node)} is not part of the kernel language",
                        "see minikernels/simt/README.md for what is")
        if node.attr in ("shape", "size", "ndim"):
            return f"__m.attribute({self.expression(node.value)}, {node.attr!r})"
        if node.attr in ("x", "y", "z") and isinstance(node.value, ast.Name):
            self.refuse(node, f"{ast.unparse(node)}: cuda.threadIdx and its like cannot be kept in a variable",
                        "write cuda.threadIdx.x in full")
        self.refuse(node, f".{node.attr} is not part of the kernel language", "arrays have .shape, .size and .ndim")

    def text_Tuple(self, node):
        return f"({', '.join(self.expression(e) for e in node.elts)},)" if node.elts else "()"

    def text_Subscript(self, node):
        return f"__m.index({self.site(node)}, {self.expression(node.value)}, {self.index(node.slice)})"

    def index(self, node):
        """Return the text of an index as a tuple."""
        if isinstance(node, ast.Tuple):
            return f"({', '.join(self._one_index(e) for e in node.elts)},)" if node.elts else "()"
        if isinstance(node, ast.Name) and node.id in self.locals:
            return f"__m.as_index({node.id})"  # it may hold a tuple
        return f"({self._one_index(node)},)"

    def _one_index(self, node):
        if isinstance(node, ast.Slice):
            ends = ["None" if e is None else self.expression(e) for e in (node.lower, node.upper, node.step)]
            return f"slice({', '.join(ends)})"
        if isinstance(node, ast.Constant) and node.value in (None, Ellipsis):
            self.refuse(node, "None and ... as an index do not run in a kernel", "index every axis by name")
        return self.expression(node)

    def text_BinOp(self, node):
        op = type(node.op).__name__
        if op == "MatMult":
            self.refuse(node, "@ does not run in a kernel", "write the loop over the inner axis")
        call = "literal" if self.is_literal(node.left) or self.is_literal(node.right) else "binary"
        return f"__m.{call}({op!r}, {self.expression(node.left)}, {self.expression(node.right)})"

    def text_UnaryOp(self, node):
        op = type(node.op).__name__
        inner = self.expression(node.operand)
        return f"__m.unary({op!r}, __m.truth({inner}))" if op == "Not" else f"__m.unary({op!r}, {inner})"

    def text_BoolOp(self, node):
        call = "both" if isinstance(node.op, ast.And) else "either"
        text = self.expression(node.values[0])
        for value in node.values[1:]:
            text = f"__m.{call}({text}, lambda: {self.expression(value)})"
        return text

    def text_Compare(self, node):
        return self._comparison(node, self.expression(node.left), list(zip(node.ops, node.comparators)))

    def _comparison(self, node, left, rest):
        (op, right), *more = rest
        kind = type(op).__name__
        if kind not in COMPARISONS:
            self.refuse(node, f"'{_OPERATORS.get(kind, kind)}' does not run in a kernel", "compare numbers")
        text = self.expression(right)
        if not more:
            return f"__m.compare({kind!r}, {left}, {text})"
        middle = self.fresh("c")  # evaluated once, as Python does
        first = f"__m.compare({kind!r}, {left}, ({middle} := {text}))"
        return f"__m.both({first}, lambda: {self._comparison(node, middle, more)})"

    def text_IfExp(self, node):
        test, yes, no = (self.expression(n) for n in (node.test, node.body, node.orelse))
        return f"__m.choose({test}, lambda: {yes}, lambda: {no})"

    # Calls

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
            wanted = least if least == most else f"{least} to {most}"
            self.refuse(node, f"{what} takes {wanted} arguments and got {len(node.args)}", "mend the call")
        return [self.expression(a) for a in node.args]

    def call_Cast(self, node, target, _):
        (value,) = self._arguments(node, 1, 1, str(target.dtype))
        self.explicit64 |= target.dtype == np.float64
        return f"__m.cast({self.constant(target.dtype)}, {value})"

    def call_Math(self, node, target, _):
        n = 2 if target.name in ("pow", "fmod", "atan2", "hypot", "copysign", "ldexp") else 1
        arguments = self._arguments(node, n, n, f"math.{target.name}")
        if target.name == "pow":
            return f"__m.binary('Pow', {', '.join(arguments)})"
        if target.name in names.MATH_OTHER:
            return f"__m.math_other({target.name!r}, {', '.join(arguments)})"
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
        arguments = self._arguments(node, 0, 64, ast.unparse(node.func))
        return f"__m.call({', '.join([self.device_function(node, target), *arguments])})"

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
                return f"__m.atomic('cas', {self.site(node)}, {array}, (__m.zero,), {', '.join(operands)})"
            if len(node.args) != n or node.keywords:
                self.refuse(node, f"cuda.atomic.{tail} takes {n} arguments", "pass array, index and value")
            array, *operands = [self.expression(a) for i, a in enumerate(node.args) if i != 1]
            return (f"__m.atomic({tail!r}, {self.site(node)}, {array}, {self.index(node.args[1])}, "
                    f"{', '.join(operands)})")
        if space == "fp16":
            return self._fp16(node, tail)
        least, most = names.CUDA_CALLS[target.name]
        arguments = self._arguments(node, least, most, f"cuda.{target.name}")
        return f"__m.{target.name}({', '.join(arguments)})"

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


_OPERATORS = {"In": "in", "NotIn": "not in", "Is": "is", "IsNot": "is not"}


def _python(static):
    return static is not None and type(static.value) in (bool, int, float)


def _kind(node):
    return {"ListComp": "a list comprehension", "List": "a list", "Dict": "a dict", "Set": "a set",
            "Lambda": "a lambda", "JoinedStr": "a string", "GeneratorExp": "a generator", "NamedExpr": "':='",
            "Await": "await", "Yield": "yield", "DictComp": "a dict comprehension"}.get(
                type(node).__name__, f"{type(node).__name__}")


def _instead(node):
    return {"List": "declare cuda.local.array(n, float32)", "ListComp": "loop over cuda.local.array(n, float32)",
            "NamedExpr": "assign in a statement of its own", "Lambda": "define a device function",
            "Dict": "use arrays"}.get(type(node).__name__, "use numbers, arrays and tuples")
