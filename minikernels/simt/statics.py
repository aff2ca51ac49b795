"""What is known before a kernel runs: what its names mean, and the values of constant expressions."""

import ast
import math
from dataclasses import dataclass

import numpy as np

from minikernels.simt import names
from minikernels.simt.arithmetic import UNARY

__all__ = ["Static", "Statics"]

FOLD = {"Add": lambda a, b: a + b, "Sub": lambda a, b: a - b, "Mult": lambda a, b: a * b, "Div": lambda a, b: a / b,
        "FloorDiv": lambda a, b: a // b, "Mod": lambda a, b: a % b, "Pow": lambda a, b: a**b,
        "LShift": lambda a, b: a << b, "RShift": lambda a, b: a >> b, "BitAnd": lambda a, b: a & b,
        "BitOr": lambda a, b: a | b, "BitXor": lambda a, b: a ^ b}
COMPARE_FOLD = {"Lt": lambda a, b: a < b, "LtE": lambda a, b: a <= b, "Gt": lambda a, b: a > b,
                "GtE": lambda a, b: a >= b, "Eq": lambda a, b: a == b, "NotEq": lambda a, b: a != b,
                "Is": lambda a, b: a is b, "IsNot": lambda a, b: a is not b}
_INSTEAD_OF = {
    "print": "write the value to an array, or keep it with simt.record(registers=...)",
    "sum": "add the elements up in a loop", "enumerate": "write for i in range(n)", "zip": "write for i in range(n)",
    "list": "declare cuda.local.array(n, float32)", "sorted": "sort in a loop, or outside the kernel",
    "any": "loop and test", "all": "loop and test", "isinstance": "a kernel's types are fixed when it is compiled",
    "cuda.cg": "a barrier of the whole grid is the end of a kernel: launch a kernel for each step",
    "cuda.random": "draw the numbers with NumPy and pass them in an array"}


@dataclass(frozen=True)
class Static:
    """A value that is known before the kernel runs."""

    value: object


class Statics:
    """The part of the rewriter that computes with constants, as numba does while it compiles."""

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
                what = error.args[0]
                self.refuse(node, f"{node.id} is {what}, which a kernel cannot use", _INSTEAD_OF.get(
                    what.removeprefix("part of ") if what.startswith("part of ") else node.id,
                    "kernels use numbers, arrays, cuda, math and functions decorated as device functions"))
        if isinstance(node, ast.Attribute):
            space = self.meaning(node.value)
            if isinstance(space, names.Namespace):
                found = names.member(space, node.attr)
                if found is None:
                    what = f"{space.name}.{node.attr}"
                    self.refuse(node, f"{what} is not part of the kernel language",
                                _INSTEAD_OF.get(what, "see minikernels/simt/README.md for what is"))
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
                    self._small(node, a.value, b.value)
                    return Static(self._fits(node, FOLD[type(node.op).__name__](a.value, b.value)))
            if isinstance(node, ast.UnaryOp):
                a = self.static(node.operand)
                if a is not None and isinstance(a.value, np.number) and isinstance(node.op, ast.USub):
                    with np.errstate(all="ignore"):  # typed: as numba does it, without a word on what wraps round
                        return Static(UNARY["USub"](a.value))
                if _python(a):
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
                    ends = isinstance(node.op, ast.Or)  # the first value of that truth is the result
                    return next((i for i in items if bool(i.value) == ends), items[-1])
            if isinstance(node, ast.Call) and not node.keywords:
                return self._fold_call(node)
        except (ZeroDivisionError, ValueError, OverflowError, TypeError) as error:
            self.refuse(node, f"a constant cannot be computed ({error})", "mend it")
        return None

    def _small(self, node, a, b):
        """Refuse a power or shift whose result no kernel could hold, before computing it."""
        huge = {ast.Pow: lambda: abs(a) > 1 and b > 64, ast.LShift: lambda: b > 64}.get(type(node.op), bool)
        if isinstance(a, int) and isinstance(b, int) and huge():
            self._fits(node, 2**64)

    def _fits(self, node, value):
        if isinstance(value, complex) or (isinstance(value, int) and not -(2**63) <= value < 2**64):
            self.refuse(node, f"{ast.unparse(node)} does not fit in 64 bits", "use smaller numbers")
        return value

    def _fold_call(self, node):
        target = self.meaning(node.func)
        items = [self.static(a) for a in node.args]
        if not items or not all(_python(i) for i in items):
            return None
        values = [i.value for i in items]
        if isinstance(target, names.Math) and hasattr(math, target.name):
            return Static(getattr(math, target.name)(*values))
        same = len({type(v) for v in values}) == 1  # min(1, 2.0) is a float for numba, whichever wins
        if isinstance(target, names.Builtin) and target.name in ("min", "max", "abs") and same and (
                len(values) == 1) == (target.name == "abs"):
            return Static({"min": min, "max": max, "abs": abs}[target.name](*values))
        return None

    def is_literal(self, node):
        """Whether an expression is a Python number, which numba takes for int64 or float64."""
        known = self.static(node)
        return known is not None and type(known.value) in (int, float)


def _python(static):
    return static is not None and type(static.value) in (bool, int, float)
