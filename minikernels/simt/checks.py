"""What a function's text shows before it is rewritten: variables that may be unset, paths that return nothing.

Nothing here knows about masks: a variable that some path leaves unassigned is only watched, and reported if a
thread reads it without having assigned it.
"""

import ast

__all__ = ["Unassigned", "array_roots", "falls_through", "returns_value", "writes_through"]


def returns_value(function):
    """Return the first ``return value`` of a function, or None."""
    return next((n for n in ast.walk(function) if isinstance(n, ast.Return) and n.value is not None
                 and not (isinstance(n.value, ast.Constant) and n.value.value is None)), None)


def falls_through(statements):
    """Whether control may reach the end of these statements."""
    return not any(_ends(s) for s in statements)


def _ends(node):
    if isinstance(node, ast.Return):
        return True
    if isinstance(node, ast.If):
        return bool(node.orelse) and not falls_through(node.body) and not falls_through(node.orelse)
    if isinstance(node, ast.While):
        forever = isinstance(node.test, ast.Constant) and bool(node.test.value)
        return forever and not any(_breaks(s) for s in node.body)
    return False


def _breaks(node):
    """Whether a statement leaves the loop around it by ``break``."""
    if isinstance(node, ast.Break):
        return True
    return isinstance(node, ast.If) and any(_breaks(s) for s in (*node.body, *node.orelse))


class Unassigned:
    """Which local variables may be read before they are assigned.

    Attributes
    ----------
    never : list of ast.Name
        Reads that no assignment can have come before.
    maybe : set of str
        Names with a read that some path reaches without an assignment.
    """

    def __init__(self, function, local_names):
        self.local_names, self.never, self.maybe = local_names, [], set()
        known = {a.arg for a in function.args.args}
        self._suite(function.body, (frozenset(known), frozenset(known)))

    # A state is (names surely assigned, names possibly assigned); None where control does not come.

    def _suite(self, statements, state):
        for statement in statements:
            if state is None:
                return None
            state = self._statement(statement, state)
        return state

    def _statement(self, node, state):
        if isinstance(node, (ast.Return, ast.Break, ast.Continue)):
            self._reads(node, state)
            if isinstance(node, ast.Break) and self.breaks:
                self.breaks[-1].append(state)
            return None
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            if node.value is None:
                return state
            self._reads(node.value, state)
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(node, ast.AugAssign) and isinstance(target, ast.Name):
                    self._read(target, state)
                self._reads(target, state)
                state = _assigned(state, _names(target))
            return state
        if isinstance(node, ast.If):
            self._reads(node.test, state)
            return _either(self._suite(node.body, state), self._suite(node.orelse, state))
        if isinstance(node, (ast.For, ast.While)):
            return self._loop(node, state)
        self._reads(node, state)
        return state

    breaks = ()

    def _loop(self, node, state):
        if isinstance(node, ast.For):
            self._reads(node.iter, state)
        inner = [n for s in node.body for n in _names(s)] + (_names(node.target) if isinstance(node, ast.For) else [])
        start = (state[0], state[1] | frozenset(inner))  # an earlier round may have assigned them
        self.breaks = (*self.breaks, [])
        if isinstance(node, ast.For):
            self._suite(node.body, _assigned(start, _names(node.target)))
            after = start
        else:
            self._reads(node.test, start)
            self._suite(node.body, start)
            forever = isinstance(node.test, ast.Constant) and bool(node.test.value)
            after = None if forever else start
        left = self.breaks[-1]
        self.breaks = self.breaks[:-1]
        for one in left:
            after = _either(after, one)
        return after

    def _reads(self, node, state):
        for n in ast.walk(node):
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load):
                self._read(n, state)

    def _read(self, name, state):
        if name.id not in self.local_names or name.id in state[0]:
            return
        if name.id in state[1]:
            self.maybe.add(name.id)
        else:
            self.never.append(name)


def _names(node):
    return [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def _assigned(state, names):
    return state[0] | frozenset(names), state[1] | frozenset(names)


def _either(a, b):
    if a is None or b is None:
        return b if a is None else a
    return a[0] & b[0], a[1] | b[1]


def array_roots(node):
    """Return the names whose array an expression may be, or may be a part of."""
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, (ast.Subscript, ast.Starred)):
        return array_roots(node.value)
    parts = {ast.IfExp: lambda: (node.body, node.orelse), ast.Tuple: lambda: node.elts, ast.List: lambda: node.elts,
             ast.BoolOp: lambda: node.values, ast.Call: lambda: node.args}.get(type(node), tuple)()
    return set().union(*map(array_roots, parts))


def writes_through(function, stored):
    """Return the parameters whose memory is written where names in ``stored`` are, following row views."""
    origins = {}
    for n in ast.walk(function):
        if isinstance(n, (ast.Assign, ast.AnnAssign)) and n.value is not None:
            for target in n.targets if isinstance(n, ast.Assign) else [n.target]:
                for name in _names(target):
                    origins.setdefault(name, set()).update(array_roots(n.value))
    reach, seen = list(stored), set()
    while reach:
        name = reach.pop()
        if name not in seen:
            seen.add(name)
            reach.extend(origins.get(name, ()))
    return seen & {a.arg for a in function.args.args}
