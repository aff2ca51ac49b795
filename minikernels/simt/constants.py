"""The constants of a source that is read and never run: its module's lines, as far as they compute with numbers."""

import ast
import math
from dataclasses import dataclass

import numpy as np

from minikernels.simt import names
from minikernels.simt.statics import COMPARE_FOLD, FOLD

__all__ = ["Outside", "module_names"]

NOTHING = object()
BUILTINS = {function.__name__: function
            for function in (abs, bool, divmod, float, int, len, max, min, pow, round, sum, tuple)}
MATH = {name: getattr(math, name)
        for name in sorted(names.MATH_UNARY | names.MATH_OTHER | {"gcd", "isqrt", "lcm"}) if hasattr(math, name)}
MODULES = {"math": "math", "numpy": "np", "numba": "numba", "numba.types": "numba", "numba.cuda": "cuda"}
LARGEST = 2**64  # integers from here on fit no type of a kernel
NUMBERS = bool, int, float, np.bool_, np.number
PARTS = names.Namespace, names.Cuda, names.Special, names.Math, names.Builtin, names.Cast, names.Device


@dataclass(frozen=True)
class Outside:
    """A name that a kernel cannot use: where the source binds it, and its value where that is known (text, None)."""

    line: int
    text: str
    value: object = NOTHING

    def __str__(self):
        return f"bound in line {self.line} ({self.text:.60}) to more than arithmetic of numbers"


class Unknown(Exception):
    """An expression says more than arithmetic of numbers."""


def module_names(tree, known):
    """Return what each name means after a module's lines: a number, a part of the kernel language, or `Outside`.

    Parameters
    ----------
    tree : ast.Module
    known : dict
        What names mean before the first line (`names.source_names`); an import that is not understood leaves them.
    """
    reader = _Reader(dict(known) | {"__name__": Outside(0, "__name__", "submission")})
    reader.read(tree.body)
    return reader.names


class _Reader:
    """Follows a module's lines: those whose effect is not known leave every name that they bind `Outside`."""

    def __init__(self, known):
        self.names = known

    def read(self, body):
        for node in body:
            if isinstance(node, ast.Assign):
                value = self.result(node.value)
                for target in node.targets:
                    self.bind(target, value, node)
            elif isinstance(node, ast.AnnAssign):
                if node.value is not None:
                    self.bind(node.target, self.result(node.value), node)
            elif isinstance(node, ast.AugAssign):
                self.bind(node.target, self.result(ast.BinOp(_loaded(node.target), node.op, node.value)), node)
            elif isinstance(node, ast.If):
                test = self.result(node.test)
                if test is NOTHING:
                    self.forget(node)
                else:
                    self.read(node.body if test else node.orelse)
            elif isinstance(node, ast.Import):
                for each in node.names:
                    top = each.name.partition(".")[0]  # all that ``import a.b`` binds
                    self.imported(each.asname or top, each.name if each.asname else top, None, node)
            elif isinstance(node, ast.ImportFrom):
                for each in node.names:
                    self.imported(each.asname or each.name, node.module, each.name, node)
            elif isinstance(node, ast.FunctionDef):
                self.names[node.name] = names.Device(node)
            elif isinstance(node, ast.Try):  # as if nothing were raised
                self.read([*node.body, *node.orelse, *node.finalbody])
            else:
                self.forget(node)

    def imported(self, name, module, part, node):
        """Bind what ``import module`` or ``from module import part`` brings."""
        space = names.Namespace(MODULES[module]) if module in MODULES else None
        found = space if part is None else names.member(space, part) if space else names.source_names().get(part)
        if found is None and name not in self.names:
            found = Outside(node.lineno, _first_line(node), MATH.get(part, NOTHING) if module == "math" else NOTHING)
        if found is not None:
            self.names[name] = found

    def bind(self, target, value, node):
        """Bind a name, or several, to the value that a statement or expression gives it."""
        if isinstance(target, ast.Name):
            self.names[target.id] = value if _usable(value) else Outside(node.lineno, _first_line(node), value)
        elif isinstance(target, (ast.Tuple, ast.List)) and isinstance(value, (tuple, list)) and len(value) == len(
                target.elts) and not any(isinstance(each, ast.Starred) for each in target.elts):
            for each, part in zip(target.elts, value, strict=True):
                self.bind(each, part, node)
        else:
            self.forget(target, node)

    def forget(self, node, statement=None):
        """Put every name that a statement may bind in the module out of a kernel's reach."""
        if isinstance(node, (ast.AsyncFunctionDef, ast.ClassDef, ast.FunctionDef)):
            self.names[node.name] = Outside(node.lineno, _first_line(node))
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            self.bind(node, NOTHING, statement or node)
        elif not isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            for each in ast.iter_child_nodes(node):
                self.forget(each, statement or node)

    def result(self, node):
        """Return the value of an expression, or NOTHING where it is not known."""
        try:
            with np.errstate(all="ignore"):
                return self.value(node)
        except (Unknown, ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
            return NOTHING

    def value(self, node):
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            found = self.names.get(node.id, BUILTINS.get(node.id, NOTHING))
            found = found.value if isinstance(found, Outside) else found
            if found is NOTHING:
                raise Unknown
            return found
        if isinstance(node, ast.Attribute):
            return self.attribute(self.value(node.value), node.attr)
        if isinstance(node, (ast.Tuple, ast.List)):
            return (tuple if isinstance(node, ast.Tuple) else list)(self.value(each) for each in node.elts)
        if isinstance(node, ast.Subscript):
            return self.sequence(self.value(node.value))[self.value(node.slice)]
        if isinstance(node, ast.NamedExpr):
            found = self.result(node.value)
            self.bind(node.target, found, node)
            return self.value(node.target)
        if isinstance(node, ast.IfExp):
            return self.value(node.body if self.value(node.test) else node.orelse)
        if isinstance(node, ast.BoolOp):
            for each in node.values:
                found = self.value(each)
                if bool(found) == isinstance(node.op, ast.Or):
                    break
            return found
        if isinstance(node, ast.UnaryOp):
            a = self.value(node.operand)
            return not a if isinstance(node.op, ast.Not) else {ast.USub: lambda: -a, ast.UAdd: lambda: +a,
                                                               ast.Invert: lambda: ~a}[type(node.op)]()
        if isinstance(node, ast.BinOp):
            return self.binary(type(node.op).__name__, self.value(node.left), self.value(node.right))
        if isinstance(node, ast.Compare):
            terms = [self.value(each) for each in (node.left, *node.comparators)]
            return all(COMPARE_FOLD[type(op).__name__](*pair)
                       for op, *pair in zip(node.ops, terms[:-1], terms[1:], strict=True))
        if isinstance(node, ast.Call) and not node.keywords:
            return self.call(self.value(node.func), [self.value(each) for each in node.args])
        raise Unknown

    def attribute(self, space, name):
        if not isinstance(space, names.Namespace):
            raise Unknown
        found = names.member(space, name)
        if found is None:
            found = MATH.get(name) if space.name == "math" else None
        if found is None:
            raise Unknown
        return found

    def sequence(self, value):
        if not isinstance(value, (tuple, list)):
            raise Unknown
        return value

    def binary(self, op, a, b):
        if not isinstance(a, NUMBERS) or not isinstance(b, NUMBERS) or (op in ("Pow", "LShift") and abs(b) > 64):
            raise Unknown
        found = FOLD[op](a, b)
        if isinstance(found, complex) or (isinstance(found, int) and abs(found) >= LARGEST):
            raise Unknown
        return found

    def call(self, target, values):
        if isinstance(target, names.Cast) and len(values) == 1:
            return target.dtype.type(values[0])
        if isinstance(target, names.Math):
            target = MATH.get(target.name)
        elif isinstance(target, names.Builtin):
            target = BUILTINS.get(target.name)
        if target is BUILTINS["pow"] and len(values) == 2:
            return self.binary("Pow", *values)
        if target is BUILTINS["pow"] or (target not in BUILTINS.values() and target not in MATH.values()):
            raise Unknown
        return target(*values)


def _usable(value):
    """Return whether a kernel can use a value: a number that fits, a tuple of such, a part of the language."""
    if isinstance(value, tuple):
        return all(isinstance(each, (*NUMBERS, tuple)) and _usable(each) for each in value)
    return isinstance(value, (*NUMBERS, *PARTS)) and not (isinstance(value, int) and abs(value) >= LARGEST)


def _first_line(node):
    return ast.unparse(node).partition("\n")[0]


def _loaded(target):
    """Return the expression that reads what an assignment writes."""
    return ast.Name(target.id, ast.Load()) if isinstance(target, ast.Name) else target
