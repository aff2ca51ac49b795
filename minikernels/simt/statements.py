"""Rewriting statements: branches become two masks, loops run as long as one lane is in them."""

import ast

from minikernels.simt import names
from minikernels.simt.checks import array_roots
from minikernels.simt.expressions import Expressions

__all__ = ["Statements"]

INSTEAD = {
    "Try": "kernels cannot catch errors: test the condition with if",
    "With": "with has no meaning on a GPU",
    "Raise": "kernels cannot raise: write an error code to an array",
    "Assert": "kernels cannot stop the launch: write an error code to an array",
    "Import": "import at the top of the file, outside the kernel",
    "ImportFrom": "import at the top of the file, outside the kernel",
    "Global": "a kernel reads globals as constants and cannot assign them: pass an array",
    "Nonlocal": "a kernel reads enclosing variables as constants and cannot assign them: pass an array",
    "Delete": "there is nothing to delete: registers are free",
    "FunctionDef": "define device functions at module level and decorate them",
    "AsyncFunctionDef": "define device functions at module level and decorate them",
    "ClassDef": "kernels have no classes: use arrays and scalars",
    "Match": "use if and elif",
    "AsyncFor": "use for ... in range(...)",
}


class Statements(Expressions):
    """The part of the rewriter that deals with statements."""

    def suite(self, statements):
        """Write statements one after the other; those behind an escape run only if a lane is left."""
        depth, escaped = self.depth, False
        self.emit("pass")
        for statement in statements:
            if isinstance(statement, ast.Pass):
                continue
            if escaped:
                self.depth = depth
                self.emit("if __m.mask.lanes:")
                self.depth += 1
                self.emit("pass")
                escaped = False
            self.statement(statement)
            escaped = _escapes(statement)
        self.depth = depth

    def statement(self, node):
        kind = type(node).__name__
        handler = getattr(self, f"write_{kind}", None)
        if handler is None:
            self.refuse(node, f"{kind.lower()} statements do not run in a kernel",
                        INSTEAD.get(kind, "use assignments, if, for ... in range(...), while and return"))
        handler(node)

    def _at(self, node):
        self.emit(f"__m.at({node.lineno})")

    def write_Expr(self, node):
        if isinstance(node.value, ast.Constant):
            return  # a docstring
        if not isinstance(node.value, ast.Call):
            self.refuse(node, "an expression whose value is dropped does nothing", "assign it or remove it")
        self._at(node)
        self.emit(self.expression(node.value))

    def write_Assign(self, node):
        self._at(node)
        if len(node.targets) == 1:
            self._assign(node.targets[0], self.expression(node.value, self._name_of(node.targets[0])))
            return
        value = self.fresh("v")
        self.emit(f"{value} = {self.expression(node.value)}")
        for target in node.targets:
            self._assign(target, value)

    def _name_of(self, target):
        return target.id if isinstance(target, ast.Name) else None

    def write_AnnAssign(self, node):
        if node.value is None:
            return
        self._at(node)
        self._assign(node.target, self.expression(node.value, self._name_of(node.target)))

    def _assign(self, target, value):
        if isinstance(target, ast.Name):
            self._set(target, value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            items = [self.fresh("v") for _ in target.elts]
            if any(isinstance(t, ast.Starred) for t in target.elts):
                self.refuse(target, "starred assignment does not run in a kernel", "name each item")
            self.emit(f"{', '.join(items)}{',' if len(items) == 1 else ''} = __m.unpack({value}, {len(items)})")
            for item, name in zip(target.elts, items):
                self._assign(item, name)
        elif isinstance(target, ast.Subscript):
            self._store(target, value)
        else:
            self.refuse(target, "only variables and array elements can be assigned", "arrays have no attributes to set")

    def _set(self, target, value):
        if id(target) in self.free:
            self.emit(f"{target.id} = {value}")
        else:
            self.emit(f"{target.id} = __m.merge({target.id}, {value})")
        if target.id in self.watched:
            self.emit(f"__set_{target.id} = __m.assigned(__set_{target.id})")
        self.emit_watch(target.id)

    def emit_watch(self, name):
        """Let a recorder see the variable."""
        self.emit(f"if __m.watch is not None: __m.watch({name!r}, {name})")

    def _store(self, target, value):
        self.stored |= array_roots(target.value)
        temporary = self.fresh("v")
        self.emit(f"{temporary} = {value}")  # the value is computed before the index, as Python does
        self.emit(f"__m.store({self.site(target)}, {self.expression(target.value)}, "
                  f"{self.index(target.slice)}, {temporary})")

    def write_AugAssign(self, node):
        self._at(node)
        op = type(node.op).__name__
        if op == "MatMult":
            self.refuse(node, "@ does not run in a kernel", "write the loop over the inner axis")
        literal = "literal" if self.is_literal(node.value) else "binary"
        if isinstance(node.target, ast.Name):
            old = self.expression(ast.copy_location(ast.Name(node.target.id, ast.Load()), node.target))
            self._set(node.target, f"__m.{literal}({op!r}, {old}, {self.expression(node.value)})")
            return
        if not isinstance(node.target, ast.Subscript):
            self.refuse(node, "only variables and array elements can be assigned", "arrays have no attributes to set")
        self.stored |= array_roots(node.target.value)
        array, index, value = self.fresh("a"), self.fresh("i"), self.fresh("v")
        self.emit(f"{array} = {self.expression(node.target.value)}")
        self.emit(f"{index} = {self.index(node.target.slice)}")
        self.emit(f"{value} = __m.{literal}({op!r}, __m.index({self.site(node)}, {array}, {index}), "
                  f"{self.expression(node.value)})")
        self.emit(f"__m.store({self.site(node)}, {array}, {index}, {value})")

    def write_If(self, node):
        known = self.static(node.test)
        if known is not None and isinstance(known.value, (bool, int)):
            self.suite(node.body if known.value else node.orelse)  # a constant condition compiles to one side
            return
        self._at(node)
        parent, yes, no = self.fresh("p"), self.fresh("t"), self.fresh("e")
        self.emit(f"{parent} = __m.mask")
        self.emit(f"{yes}, {no} = __m.split({self.condition(node.test)})")
        for mask, body in ((yes, node.body), (no, node.orelse)):
            if not body:
                continue
            self.emit(f"if {mask}.lanes:")
            self.depth += 1
            self.emit(f"__m.mask = {mask}")
            self.suite(body)
            if _escapes(node):
                self.emit(f"{mask} = __m.mask")
            self.depth -= 1
        self.emit(f"__m.mask = __m.join({yes}, {no})" if _escapes(node) else f"__m.mask = {parent}")

    def write_For(self, node):
        if node.orelse:
            self.refuse(node, "for ... else does not run on the machine", "set a flag before break and test it")
        call = node.iter
        if not (isinstance(call, ast.Call) and self.meaning(call.func) == names.Builtin("range")) or call.keywords:
            self.refuse(node, "a for loop in a kernel runs over range(...)", "index the array: for i in range(n)")
        if not 1 <= len(call.args) <= 3:
            self.refuse(node, "range() takes one to three numbers", "write range(stop) or range(start, stop, step)")
        self._at(node)
        loop = self.fresh("loop")
        self.emit(f"{loop} = __For(__m, {', '.join(self.expression(a) for a in call.args)})")
        self.emit(f"while {loop}.next():")
        self.depth += 1
        if not isinstance(node.target, ast.Name):
            self.refuse(node, "the loop variable of range() is one name", "unpack it in the body")
        self._set(node.target, f"{loop}.value")
        self._body(loop, node.body)

    def write_While(self, node):
        if node.orelse:
            self.refuse(node, "while ... else does not run on the machine", "set a flag before break and test it")
        loop = self.fresh("loop")
        self.emit(f"{loop} = __While(__m)")
        self.emit(f"while {loop}.again():")
        self.depth += 1
        self._at(node)
        self.emit(f"if not {loop}.keep({self.condition(node.test)}): break")
        self._body(loop, node.body)

    def _body(self, loop, body):
        self.loops.append(loop)
        self.suite(body)
        self.loops.pop()
        self.depth -= 1
        self.emit(f"{loop}.end()")

    def _loop(self, node):
        if not self.loops:
            self.refuse(node, f"{type(node).__name__.lower()} outside a loop", "mend it")
        return self.loops[-1]

    def write_Break(self, node):
        self.emit(f"{self._loop(node)}.leave()")

    def write_Continue(self, node):
        self.emit(f"{self._loop(node)}.skip()")

    def write_Return(self, node):
        self._at(node)
        self.emit(f"__m.give_back({'None' if node.value is None else self.expression(node.value)})")


def _escapes(node):
    """Whether lanes may leave the normal course inside this statement."""
    if isinstance(node, (ast.Break, ast.Continue, ast.Return)):
        return True
    if isinstance(node, (ast.For, ast.While)):  # its own break and continue end with it
        return any(isinstance(n, ast.Return) for n in ast.walk(node))
    return isinstance(node, ast.If) and any(_escapes(s) for s in (*node.body, *node.orelse))
