"""Rewriting expressions: each becomes the text of a call on the machine."""

import ast

import numpy as np

from minikernels.simt import names
from minikernels.simt.calls import Calls
from minikernels.simt.statics import Statics

__all__ = ["Expressions"]

COMPARISONS = {"Lt", "LtE", "Gt", "GtE", "Eq", "NotEq"}
class Expressions(Statics, Calls):
    """The part of the rewriter that deals with values."""

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
            self._fits(node, value)
            return self.constant(np.int64(value) if value < 2**63 else np.uint64(value))
        if isinstance(value, float) and not isinstance(value, np.generic):
            return self.constant(np.float64(value))
        return self.constant(value)

    def text_Name(self, node):
        if node.id in self.watched:
            return f"__m.surely({node.id!r}, {node.id}, __set_{node.id})"
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
            mend = f"write {ast.unparse(node)}.x" if isinstance(found, names.Namespace) else "call it"
            self.refuse(node, f"{ast.unparse(node)} is not a value", mend)
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
            return f"__m.as_index({self.text_Name(node)})"  # it may hold a tuple
        return f"({self._one_index(node)},)"

    def _one_index(self, node):
        if isinstance(node, ast.Slice):
            ends = ["None" if e is None else self.expression(e) for e in (node.lower, node.upper, node.step)]
            return f"__slice({', '.join(ends)})"
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
        if op == "Not":
            return f"__m.unary({op!r}, __m.truth({self.condition(node.operand)}))"
        return f"__m.unary({op!r}, {self.expression(node.operand)})"

    def condition(self, node):
        """Return the text of an expression of which only the truth matters."""
        if isinstance(node, ast.BoolOp) and self.static(node) is None:
            call = "both" if isinstance(node.op, ast.And) else "either"
            text = self.condition(node.values[0])
            for value in node.values[1:]:
                text = f"__m.{call}({text}, lambda: {self.condition(value)})"
            return text
        return self.expression(node)

    def text_BoolOp(self, node):
        if _boolean(node):
            return self.condition(node)
        text, wanted = self.expression(node.values[0]), isinstance(node.op, ast.And)
        for value in node.values[1:]:  # the value of one of the sides, as Python has it
            text = f"__m.pick({wanted}, {text}, lambda: {self.expression(value)})"
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
        known = self.static(node.test)
        if known is not None and isinstance(known.value, (bool, int)):
            return self.expression(node.body if known.value else node.orelse)
        yes, no = self.expression(node.body), self.expression(node.orelse)
        return f"__m.choose({self.condition(node.test)}, lambda: {yes}, lambda: {no})"


_OPERATORS = {"In": "in", "NotIn": "not in", "Is": "is", "IsNot": "is not"}


def _boolean(node):
    """Whether an expression is a bool, as far as its form shows."""
    if isinstance(node, ast.BoolOp):
        return all(map(_boolean, node.values))
    return isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))


def _kind(node):
    return {"ListComp": "a list comprehension", "List": "a list", "Dict": "a dict", "Set": "a set",
            "Lambda": "a lambda", "JoinedStr": "a string", "GeneratorExp": "a generator", "NamedExpr": "':='",
            "Await": "await", "Yield": "yield", "DictComp": "a dict comprehension"}.get(
                type(node).__name__, f"{type(node).__name__}")


def _instead(node):
    return {"List": "declare cuda.local.array(n, float32)", "ListComp": "loop over cuda.local.array(n, float32)",
            "NamedExpr": "assign in a statement of its own", "Lambda": "define a device function",
            "Dict": "use arrays"}.get(type(node).__name__, "use numbers, arrays and tuples")
