"""From a kernel's source to a lockstep program: each statement acts on all lanes at once.

The rewritten program is ordinary Python text (``Program.text``): operators become calls on the machine, a
branch becomes two masks, a loop runs as long as one lane is in it. What the machine cannot run, or numba would
not compile, is refused here, before anything runs, with the line and what to write instead.
"""

import ast
from dataclasses import dataclass, field

from minikernels.core.errors import KernelError
from minikernels.simt.checks import Unassigned, falls_through, returns_value, writes_through
from minikernels.simt.control import ForLoop, WhileLoop
from minikernels.simt.machine import UNDEFINED
from minikernels.simt.scopes import free_stores, stored_names
from minikernels.simt.statements import Statements
from minikernels.simt.views import Site

__all__ = ["Program", "Rewriter"]

@dataclass
class Program:
    """A rewritten kernel.

    Attributes
    ----------
    name, filename, source, first_line
        Of the user's function.
    run : callable
        ``run(machine, *arguments)``.
    parameters : list of str
    stored : set of str
        Parameters whose memory the kernel may write, as far as its text shows.
    explicit64 : bool
        Whether the source names float64.
    shared : list of (str, int, int)
        Name, bytes and line of each shared array of constant shape.
    dynamic_grain : int
        Bytes of the narrowest element among the arrays in dynamic shared memory.
    text : str
        The rewritten source.
    """

    name: str
    filename: str
    source: str
    first_line: int
    parameters: list
    stored: set = field(default_factory=set)
    explicit64: bool = False
    shared: list = field(default_factory=list)
    dynamic_grain: int = 1
    text: str = ""
    run: object = None


class Rewriter(Statements):
    """Rewrites one function (and the device functions it calls, each once).

    Parameters
    ----------
    function : ast.FunctionDef
    resolve : callable
        Maps a free name to what it means (`names.describe`), or raises NameError or LookupError.
    filename : str
    device_function : callable
        Maps (call node, `names.Device`) to (name of its rewritten function, its parameters, those that it writes).
    kernel : Rewriter, optional
        Of the kernel that calls this device function: constants and shared arrays are kept there.
    """

    def __init__(self, function, resolve, filename, device_function, kernel=None):
        self.function, self.resolve, self.filename = function, resolve, filename
        self.device_function, self.is_kernel = device_function, kernel is None
        self.scope = kernel.scope if kernel else {"__UNDEFINED": UNDEFINED, "__For": ForLoop, "__While": WhileLoop,
                                                  "__slice": slice}
        self.shared = kernel.shared if kernel else []
        self.dynamic = kernel.dynamic if kernel else []  # element sizes of the arrays in dynamic shared memory
        self.locals = stored_names(function)
        self.free = free_stores(function)
        self.lines, self.depth, self.loops, self.counter = [], 0, [], 0
        self.explicit64 = False
        self.stored = set()  # names through which memory is written
        self.watched = set()  # variables that some path leaves unassigned
        self.literals = {}  # local names bound once to an integer literal: numba knows their value

    # Output

    def emit(self, text):
        """Write one line."""
        self.lines.append("    " * self.depth + text)

    def fresh(self, stem):
        """Return a name that nobody uses."""
        self.counter += 1
        return f"__{stem}{self.counter}"

    def constant(self, value):
        """Return a name for a constant object in the program's globals."""
        key = f"__k{len(self.scope)}"
        self.scope[key] = value
        return key

    def site(self, node):
        """Return a name for a new `Site` on a node's line."""
        return self.constant(Site(node.lineno))

    def refuse(self, node, what, instead):
        """Raise the KernelError that says where, what, and what to write instead."""
        line = getattr(node, "lineno", self.function.lineno)
        raise KernelError(f"{self.filename}:{line}: {what}; {instead}", kind="language")

    # The function

    def program_text(self, name):
        """Return the text of the rewritten function under the given name."""
        f = self.function
        arguments = f.args
        if arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.posonlyargs or arguments.defaults:
            self.refuse(f, "a kernel takes plain positional parameters only",
                        "drop *args, **kwargs, defaults and keyword-only parameters")
        self._check()
        self._find_literals()
        parameters = [a.arg for a in arguments.args]
        self.emit(f"def {name}(__m{''.join(', ' + p for p in parameters)}):")
        self.depth += 1
        merged = {n.id for n in ast.walk(f) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
                  and id(n) not in self.free and n.id in self.locals} - set(parameters)
        for variable in sorted(merged | self.watched):
            self.emit(f"{variable} = __UNDEFINED")
        for variable in sorted(self.watched):
            self.emit(f"__set_{variable} = None")
        self.emit("__m.enter_function()")
        self.suite(f.body)
        for node in self.unassigned.never:
            self.refuse(node, f"{node.id} is read before it is assigned", "assign it first")
        self.emit("return __m.leave_function()")
        self.depth -= 1
        return "\n".join(self.lines) + "\n"

    def writes(self):
        """Return the parameters whose memory the function may write; known once its text is."""
        return writes_through(self.function, self.stored)

    def _check(self):
        for node in ast.walk(self.function):
            name = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else ""
            if name.startswith("__"):
                self.refuse(node, f"the name {name} starts with two underscores", "use another name")
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node is not self.function:
                self.statement(node)  # refused, before its returns are taken for this function's
        value = returns_value(self.function)
        if value is not None and self.is_kernel:
            self.refuse(value, "a kernel returns nothing", "write the result to an array")
        if value is not None and falls_through(self.function.body):
            self.refuse(self.function, f"{self.function.name} returns a value on some paths and ends without one on "
                        "others", "end it with a return")
        self.unassigned = Unassigned(self.function, self.locals)
        self.watched = self.unassigned.maybe

    def _find_literals(self):
        stores = {}
        for node in ast.walk(self.function):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                stores[node.id] = stores.get(node.id, 0) + 1
        for node in ast.walk(self.function):
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                name, value = node.targets[0].id, node.value
                if stores[name] == 1 and isinstance(value, ast.Constant) and type(value.value) is int:
                    self.literals[name] = value.value
