"""From a Python function, or from the text of a submission, to a rewritten `Program`."""

import ast
import builtins
import inspect
import textwrap
import weakref
from pathlib import Path

from minikernels.core.errors import KernelError
from minikernels.simt import names
from minikernels.simt.constants import Outside, module_names
from minikernels.simt.rewrite import Program, Rewriter

__all__ = ["program_of", "program_of_text"]

_cache = weakref.WeakKeyDictionary()


def program_of(function):
    """Return the program of a Python function, a ``launch.kernel`` or a numba dispatcher."""
    function = getattr(function, "py_func", function)
    if not inspect.isfunction(function) or function.__name__ == "<lambda>":
        raise KernelError(f"a kernel is a Python function written with def, not {function!r:.60}", kind="language")
    if function not in _cache:
        _cache[function] = _build(_Function(function))
    return _cache[function]


def program_of_text(text, name, filename="<submission>", extra=None):
    """Return the program of the kernel ``name`` in a source that is never executed.

    Only what the text itself shows is known: its kernels and device functions, module constants that are
    arithmetic of numbers (`constants.module_names`), and the names of `names.source_names`.
    """
    try:
        tree = ast.parse(text, filename)
    except (SyntaxError, ValueError) as error:  # ValueError: null bytes
        line, text = getattr(error, "lineno", 1), getattr(error, "msg", str(error))
        raise KernelError(f"{filename}:{line}: {text}", kind="language") from error
    except (RecursionError, MemoryError) as error:
        raise KernelError(f"{filename}: nested too deeply to be read", kind="language") from error
    source = _Text(tree, text, filename, extra or {})
    node = source.functions.get(name)
    if node is None:
        known = ", ".join(source.functions) or "none"
        raise KernelError(f"{filename} defines no function {name} (it defines: {known})", kind="language")
    return _build(_TextFunction(source, node))


class _Function:
    """A live Python function: names resolve through its closure, globals and builtins."""

    def __init__(self, function):
        self.function = function
        code = function.__code__
        self.filename = Path(code.co_filename).name if not code.co_filename.startswith("<") else code.co_filename
        try:
            lines, first = inspect.getsourcelines(function)
        except (OSError, TypeError) as error:
            raise KernelError(f"the source of {function.__name__} is not available ({error}); define it in a file or "
                              "a notebook cell", kind="language") from error
        self.source, self.first_line = textwrap.dedent("".join(lines)), first
        try:
            tree = ast.parse(self.source)
        except SyntaxError as error:
            raise KernelError(f"{self.filename}:{first}: the source of {function.__name__} cannot be read alone "
                              f"({error.msg}); write it as a plain def", kind="language") from error
        ast.increment_lineno(tree, first - 1)
        self.node = next((n for n in tree.body if isinstance(n, ast.FunctionDef)), None)
        if self.node is None:
            raise KernelError(f"{self.filename}:{first}: a kernel is written with def", kind="language")

    @property
    def key(self):
        return self.function

    def resolve(self, name):
        f = self.function
        if name in f.__code__.co_freevars:
            cell = f.__closure__[f.__code__.co_freevars.index(name)]
            try:
                return names.describe(cell.cell_contents)
            except ValueError:
                raise NameError(name) from None
        if name in f.__globals__:
            return names.describe(f.__globals__[name])
        if hasattr(builtins, name):
            return names.describe(getattr(builtins, name))
        raise NameError(name)

    def device(self, target):
        return _Function(target.function)


class _Text:
    """A submission's source."""

    def __init__(self, tree, text, filename, extra):
        self.text, self.filename = text, filename
        self.functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
        self.names = module_names(tree, names.source_names() | {k: names.describe(v) for k, v in extra.items()})


class _TextFunction:
    """One function of a submission."""

    def __init__(self, source, node):
        self.source_file, self.node, self.filename = source, node, source.filename
        self.first_line = node.lineno
        self.source = ast.get_source_segment(source.text, node) or ""

    @property
    def key(self):
        return self.node

    def resolve(self, name):
        if name in self.source_file.functions:
            return names.Device(self.source_file.functions[name])
        if name not in self.source_file.names:
            raise NameError(name)
        found = self.source_file.names[name]
        if isinstance(found, Outside):
            raise LookupError(str(found))
        return found

    def device(self, target):
        if isinstance(target.function, ast.FunctionDef):
            return _TextFunction(self.source_file, target.function)
        return _Function(target.function)


def _build(function):
    """Rewrite a function and every device function it calls."""
    known = {function.key: None}  # key -> (rewritten name, parameters, those it writes); None while being rewritten
    texts = []

    def rewriter(f, kernel=None):
        def device_function(node, target):
            inner = f.device(target)
            if inner.key not in known:
                known[inner.key] = None
                name = f"__device{len(known)}_{inner.node.name}"
                rewritten = rewriter(inner, kernel or made)
                texts.append(rewritten.program_text(name))
                made.explicit64 |= rewritten.explicit64
                known[inner.key] = name, [a.arg for a in inner.node.args.args], rewritten.writes()
            if known[inner.key] is None:
                made.refuse(node, f"{inner.node.name} calls itself", "kernels have no recursion here; use a loop")
            return known[inner.key]

        made = Rewriter(f.node, f.resolve, f.filename, device_function, kernel)
        return made

    outer = rewriter(function)
    where = f"{function.filename}:{function.first_line}: {function.node.name}"
    try:
        texts.append(outer.program_text("__kernel"))
        text = "\n\n".join(texts)
        exec(compile(text, f"<lockstep {function.node.name}>", "exec"), outer.scope)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise KernelError(f"{where} is nested too deeply to be rewritten ({type(error).__name__}); split its longest "
                          "expression or its chain of branches", kind="language") from error
    return Program(
        name=function.node.name, filename=function.filename, source=function.source, first_line=function.first_line,
        parameters=[a.arg for a in function.node.args.args], stored=outer.writes(), explicit64=outer.explicit64,
        shared=outer.shared, dynamic_grain=min(outer.dynamic, default=1), text=text, run=outer.scope["__kernel"])
