"""What a submission's text says before anything in it runs: whether it is written at all, and its constants.

A stub marks where lines are to be added. Solving adds lines and takes none away, so the marks are still there
afterwards, and a file with nothing between any of them is one that nobody has begun.
"""

import ast

from minikernels.grading.failure import Failure

__all__ = ["END", "START", "constant", "parsed", "unwritten", "with_constants"]

START, END = "# Your lines start here.", "# Your lines end here."


def unwritten(text):
    """Return whether the text has places for lines and none of them holds a line of code."""
    found, inside = False, False
    for line in map(str.strip, text.split("\n")):
        if line == START:
            found = inside = True
        elif line == END:
            inside = False
        elif inside and line not in ("", "pass") and not line.startswith("#"):
            return False
    return found


def parsed(text, filename):
    """Return the syntax tree, or fail with the line that Python cannot read."""
    try:
        return ast.parse(text, filename)
    except SyntaxError as error:
        raise Failure(f"{filename}:{error.lineno}: Python cannot read this: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Failure(f"{filename}: Python cannot read this file: {type(error).__name__}") from None


def constant(text, filename, name):
    """Return the value of the last ``NAME = literal`` of a module, or None."""
    value = None
    for node in assignments(parsed(text, filename), {name}):
        try:
            value = ast.literal_eval(node.value)
        except ValueError:
            value = None
    return value


def with_constants(text, filename, constants):
    """Return the text with its first ``NAME = ...`` of each given constant set to the given value, line for line.

    A kernel's tile sizes are constants of its file; a grader that sets them finds a kernel that is right at one size.
    """
    lines, done = text.split("\n"), set()  # as Python counts lines: a form feed ends none
    for node in assignments(parsed(text, filename), set(constants)):
        name = target(node).id
        if name not in done:
            done.add(name)
            lines[node.lineno - 1:node.end_lineno] = [f"{name} = {constants[name]!r}"] + [""] * (
                node.end_lineno - node.lineno)
    if missing := set(constants) - done:
        raise Failure(f"{filename} no longer defines {', '.join(sorted(missing))}; keep the stub's lines as they are")
    return "\n".join(lines)


def assignments(tree, wanted):
    """Yield the module's ``NAME = value`` and ``NAME: type = value`` for the wanted names, in order."""
    for node in tree.body:
        if isinstance(target(node), ast.Name) and target(node).id in wanted:
            yield node


def target(node):
    """Return what a statement assigns its value to, if it is one thing."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        return node.targets[0]
    return node.target if isinstance(node, ast.AnnAssign) and node.value is not None else None
