"""A small language for index expressions, read the same way here and in ``static/expression.js``.

Whole numbers, ``lane`` and other names, ``+ - * // % << >> & ^ |`` with Python's meaning and precedence, unary
``- + ~``, ``min(a, b)`` and ``max(a, b)``, parentheses. Every value must fit in 31 bits, so that both readers agree to
the last digit. Nothing is ever handed to Python's own ``eval``.
"""

import re

__all__ = ["ExpressionError", "evaluate"]

LONGEST = 200
LARGEST = 2 ** 31 - 1
TOKEN = re.compile(r"\s*(?:(0[xX][0-9a-fA-F]+|[0-9]+)|([A-Za-z_][A-Za-z_0-9]*)|(//|<<|>>|[-+*/%&|^~(),])|(\S))")
LEVELS = [("|",), ("^",), ("&",), ("<<", ">>"), ("+", "-"), ("*", "//", "%")]


class ExpressionError(ValueError):
    """An index expression cannot be read, or has no value for some lane."""


def evaluate(text, names, lanes=32):
    """Return the expression's value for each lane.

    Parameters
    ----------
    text : str
        ``lane * 2 + 1``.
    names : dict of str to int
        What other names stand for; ``lane`` is 0, 1, ... by itself.
    lanes : int

    Returns
    -------
    list of int

    Raises
    ------
    ExpressionError
        With the place of what cannot be read, or the lane that has no value.
    """
    tree = _Reader(text, [*names, "lane"]).whole()
    values = []
    for lane in range(lanes):
        try:
            values.append(_value(tree, {**names, "lane": lane}))
        except ExpressionError as error:
            raise ExpressionError(f"lane {lane}: {error}") from None
    return values


class _Reader:
    """Recursive descent over the tokens; a tree is a number, a name or (operator, tree, tree)."""

    def __init__(self, text, names):
        if len(text) > LONGEST:
            raise ExpressionError(f"an expression has at most {LONGEST} characters")
        self.tokens = [(m.lastindex, m[m.lastindex], m.start(m.lastindex)) for m in TOKEN.finditer(text)]
        self.tokens.append((0, "the end", len(text)))
        self.names, self.at = names, 0

    def whole(self):
        tree = self.level(0)
        kind, token, place = self.tokens[self.at]
        if token == "/":
            raise ExpressionError(f"/ gives fractions (character {place + 1}); write // for a whole number")
        if kind:
            raise ExpressionError(f"did not expect {token} (character {place + 1})")
        return tree

    def level(self, number):
        if number == len(LEVELS):
            return self.sign()
        tree = self.level(number + 1)
        while self.tokens[self.at][0] == 3 and self.tokens[self.at][1] in LEVELS[number]:
            operator = self.take()
            tree = (operator, tree, self.level(number + 1))
        return tree

    def sign(self):
        if self.tokens[self.at][1] in ("-", "+", "~"):
            return ("1" + self.take(), self.sign(), 0)
        return self.atom()

    def atom(self):
        kind, token, place = self.tokens[self.at]
        if kind == 1:
            self.at += 1
            return int(token, 16 if token[:2] in ("0x", "0X") else 10)
        if kind == 2 and token in ("min", "max"):
            self.at += 1
            self.expect("(")
            first = self.level(0)
            self.expect(",")
            tree = (token, first, self.level(0))
            self.expect(")")
            return tree
        if kind == 2:
            if token not in self.names:
                raise ExpressionError(f"unknown name {token} (character {place + 1}); known: {', '.join(self.names)}")
            self.at += 1
            return token
        if token == "(":
            self.at += 1
            tree = self.level(0)
            self.expect(")")
            return tree
        raise ExpressionError(f"expected a number or a name and found {token} (character {place + 1})")

    def take(self):
        self.at += 1
        return self.tokens[self.at - 1][1]

    def expect(self, token):
        _, found, place = self.tokens[self.at]
        if found != token:
            raise ExpressionError(f"expected {token} and found {found} (character {place + 1})")
        self.at += 1


def _value(tree, names):
    """Return a tree's value for one lane."""
    if isinstance(tree, str):
        return _small(names[tree])
    if isinstance(tree, int):
        return _small(tree)
    operator, left, right = tree
    a, b = _value(left, names), _value(right, names)
    if operator in ("//", "%") and b == 0:
        raise ExpressionError(f"{operator} by zero")
    if operator in ("<<", ">>") and not 0 <= b <= 31:
        raise ExpressionError(f"{operator} by {b}; 0 to 31 is possible")
    return _small(OPERATORS[operator](a, b))


def _small(value):
    """Return the value if it fits in 31 bits and a sign."""
    if abs(value) > LARGEST:
        raise ExpressionError("a value does not fit in 31 bits")
    return value


OPERATORS = {
    "|": lambda a, b: a | b, "^": lambda a, b: a ^ b, "&": lambda a, b: a & b,
    "<<": lambda a, b: a << b, ">>": lambda a, b: a >> b,
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
    "//": lambda a, b: a // b, "%": lambda a, b: a % b, "min": min, "max": max,
    "1-": lambda a, _: -a, "1+": lambda a, _: a, "1~": lambda a, _: ~a,
}
