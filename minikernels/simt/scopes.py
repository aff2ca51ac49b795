"""Which assignments may overwrite a variable in every lane, whatever the mask.

An assignment under a mask must keep the other lanes' values, which costs a merge and makes a uniform value
vary. It need not where nobody can tell: in the function's own suite (lanes that are off there have returned for
good), and in a loop or branch body to which the variable is private: every suite that mentions it assigns it
before it reads it.
"""

import ast

__all__ = ["free_stores", "stored_names"]


def stored_names(function):
    """Return every name the function assigns, parameters included."""
    names = {a.arg for a in function.args.args}
    return names | {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def free_stores(function):
    """Return the ids of the Name nodes whose assignment needs no merge."""
    events = {}  # name -> [(path of suites, kind, node)]
    root = (id(function),)
    for argument in function.args.args:
        events.setdefault(argument.arg, []).append((root, "store", None))
    _suite(function.body, root, events)
    free = set()
    for mentions in events.values():
        homes = [_home(path, mentions) for path, _, _ in mentions]
        covered = all(home is not None for home in homes)
        for (path, kind, node), home in zip(mentions, homes):
            if node is None or kind == "read":
                continue
            if path == root or (covered and home == path):
                free.add(id(node))
    return free


def _home(path, mentions):
    """Return the outermost suite around ``path`` whose first mention is a store of its own."""
    for depth in range(1, len(path) + 1):
        suite = path[:depth]
        first = next(m for m in mentions if m[0][:depth] == suite)
        if first[0] == suite and first[1] == "store":
            return suite
    return None


def _suite(statements, path, events):
    for statement in statements:
        _statement(statement, path, events)


def _statement(node, path, events):
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        if node.value is not None:
            _reads(node.value, path, events)
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            _target(target, path, events)
    elif isinstance(node, ast.AugAssign):
        _reads(node.value, path, events)
        if isinstance(node.target, ast.Name):
            events.setdefault(node.target.id, []).extend([(path, "read", node.target), (path, "update", node.target)])
        else:
            _reads(node.target, path, events)
    elif isinstance(node, ast.For):
        _reads(node.iter, path, events)
        inner = (*path, id(node))
        _target(node.target, inner, events)
        _suite(node.body, inner, events)
    elif isinstance(node, ast.While):
        _reads(node.test, path, events)
        _suite(node.body, (*path, id(node)), events)
    elif isinstance(node, ast.If):
        _reads(node.test, path, events)
        _suite(node.body, (*path, id(node)), events)
        _suite(node.orelse, (*path, -id(node)), events)
    else:
        _reads(node, path, events)


def _target(target, path, events):
    if isinstance(target, ast.Name):
        events.setdefault(target.id, []).append((path, "store", target))
    elif isinstance(target, (ast.Tuple, ast.List)):
        for item in target.elts:
            _target(item, path, events)
    else:
        _reads(target, path, events)


def _reads(node, path, events):
    for name in ast.walk(node):
        if isinstance(name, ast.Name):
            events.setdefault(name.id, []).append((path, "read", name))
