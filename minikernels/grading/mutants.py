"""Small wrong changes to a solution, one at a time: what a check that is any good must notice.

Only the lines that a learner writes are changed: those of the solution that the stub does not have.
"""

import ast
import copy
from dataclasses import dataclass

__all__ = ["Mutant", "mutants"]

COMPARE = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
           ast.Is: ast.IsNot, ast.IsNot: ast.Is}
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mod,
              ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
              ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr}
NAMES = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "argmin": "argmax",
         "argmax": "argmin", "syncthreads": "syncwarp", "floor": "ceil", "ceil": "floor", "all": "any", "any": "all",
         "zeros": "ones", "ones": "zeros", "shfl_down_sync": "shfl_up_sync", "shfl_up_sync": "shfl_down_sync"}
SIMPLE = ast.Assign, ast.AugAssign, ast.Expr, ast.Continue, ast.Break


@dataclass(frozen=True)
class Mutant:
    """One changed solution.

    Attributes
    ----------
    line : int
    kind : str
        ``operator``, ``bound``, ``barrier``, ``index``, ``constant``, ``condition`` or ``statement``.
    before, after : str
        What stood there and what stands there now.
    text : str
        The whole solution with it.
    """

    line: int
    kind: str
    before: str
    after: str
    text: str


def mutants(solution, stub):
    """Return every mutant of a solution, in the order of its lines; each differs from it, and from the others."""
    own, found, seen = written(solution, stub), [], {ast.dump(ast.parse(solution))}
    for node in ast.walk(ast.parse(solution)):
        if not set(range(getattr(node, "lineno", 0), getattr(node, "end_lineno", 0) + 1)) & own:
            continue
        for kind, changed in changes(node):
            if isinstance(node, ast.stmt) and not set(range(node.lineno, node.end_lineno + 1)) <= own:
                continue  # a loop of the stub around lines of the solution
            made = replaced(solution, node, changed, kind)
            try:
                tree = ast.dump(ast.parse(made.text))
            except SyntaxError:
                continue
            if tree not in seen:
                seen.add(tree)
                found.append(made)
    return sorted(found, key=lambda m: m.line)


def written(solution, stub):
    """Return the numbers of the solution's lines that the stub does not have."""
    left, own = iter(stub.split("\n")), set()
    waited = next(left, None)
    for number, line in enumerate(solution.split("\n"), 1):
        if line == waited:
            waited = next(left, None)
        else:
            own.add(number)
    return own


def replaced(text, node, changed, kind):
    """Return the mutant in which a node is something else."""
    data, starts = text.encode(), [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    first, last = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
    after = ast.unparse(changed)
    if isinstance(changed, ast.expr):
        after = f"({after})"  # whatever stands around it
    before, made = " ".join(data[first:last].decode().split()), data[:first] + after.encode() + data[last:]
    return Mutant(node.lineno, kind, before, ast.unparse(changed), made.decode())


def changes(node):
    """Yield (kind, another node) for everything that a node may be changed into."""
    if isinstance(node, ast.Compare):
        for place, op in enumerate(node.ops):
            if type(op) in COMPARE:
                yield "condition", with_(node, ops=[*node.ops[:place], COMPARE[type(op)](), *node.ops[place + 1:]])
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in ARITHMETIC:
        yield "operator", with_(node, op=ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield "condition", with_(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        yield "operator", node.operand
    elif isinstance(node, ast.IfExp):
        yield "condition", with_(node, body=node.orelse, orelse=node.body)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        yield from (("constant", ast.Constant(value)) for value in other_constants(node.value))
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and len(node.slice.elts) > 1:
        a, b, *rest = node.slice.elts
        yield "index", with_(node, slice=ast.Tuple([b, a, *rest], ast.Load()))
    elif isinstance(node, ast.Call):
        yield from of_call(node)
    elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name in NAMES:
            yield ("barrier" if name.startswith("sync") else "operator",
                   with_(node, **{"id" if isinstance(node, ast.Name) else "attr": NAMES[name]}))
    if isinstance(node, SIMPLE) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        barrier = isinstance(node, ast.Expr) and "sync" in ast.unparse(node)
        yield "barrier" if barrier else "statement", ast.Pass()
    if isinstance(node, ast.If):
        for value in (True, False):
            yield "condition", with_(node, test=ast.Constant(value))


def of_call(node):
    """Yield what a call may be changed into: a range with other bounds."""
    if isinstance(node.func, ast.Name) and node.func.id == "range":
        place = 0 if len(node.args) == 1 else 1
        for op in (ast.Add(), ast.Sub()):
            stop = ast.BinOp(node.args[place], op, ast.Constant(1))
            yield "bound", with_(node, args=[*node.args[:place], stop, *node.args[place + 1:]])
        if place:
            start = ast.BinOp(node.args[0], ast.Add(), ast.Constant(1))
            yield "bound", with_(node, args=[start, *node.args[1:]])


def other_constants(value):
    """Return the numbers that are put in a number's place."""
    return (not value,) if type(value) is bool else (value + 1, value - 1)


def with_(node, **fields):
    """Return a copy of a node with other fields."""
    made = copy.copy(node)
    for name, value in fields.items():
        setattr(made, name, value)
    return ast.fix_missing_locations(made)
