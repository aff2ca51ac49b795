"""Random kernels over int variables: nested branches and loops with every way to leave them."""

from hypothesis import strategies as st

VARIABLES = ("a", "b", "c", "d")
RETURNS = """\
@cuda.jit(device=True)
def f(p, q):
    for t in range(abs(p) % 4):
        if (p + t) % 3 == 0:
            return q + t
        if q % 5 == t:
            continue
        q += t * 7
        while q % 4 > 1:
            q += 1
            if q % 7 == 0:
                return p - q
            if q % 5 == 0:
                break
    return q if p > 3 else p
"""


@st.composite
def expressions(draw, depth=2):
    """An int expression that neither divides by zero nor grows out of 64 bits."""
    if depth == 0:
        return draw(st.sampled_from([*VARIABLES, "i", "n", *map(str, range(-3, 6))]))
    a, b = draw(expressions(depth=depth - 1)), draw(expressions(depth=depth - 1))
    kind = draw(st.integers(0, 11))
    k = draw(st.integers(1, 7))
    return {0: f"({a} + {b})", 1: f"({a} - {b})", 2: f"({a} * {k})", 3: f"({a} // {k})", 4: f"({a} % -{k})",
            5: f"min({a}, {b}, {k})", 6: f"max({a}, {b})", 7: f"(abs({a}) ^ {k})", 8: f"({a} >> {k % 3})",
            9: f"({a} if {draw(conditions(depth=depth - 1))} else {b})", 10: f"f({a}, {b})",
            11: f"({a} {draw(st.sampled_from(['and', 'or']))} {b})"}[kind]


@st.composite
def conditions(draw, depth=1):
    """A comparison, chained or joined."""
    a, b = draw(expressions(depth=max(depth, 0))), draw(expressions(depth=0))
    op = draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return f"({a} {op} {b} < {draw(st.integers(0, 9))})"
    if kind == 1 and depth > 0:
        joint = draw(st.sampled_from(["and", "or"]))
        return f"({a} {op} {b} {joint} {draw(conditions(depth=depth - 1))})"
    if kind == 2:
        return f"(not {a} {op} {b})"
    if kind == 3:
        return f"({a} % {draw(st.integers(2, 4))})"
    return f"({a} {op} {b})"


@st.composite
def suites(draw, depth, loops, budget):
    """An indented list of statements as lines; ``loops`` numbers the loops around it."""
    lines = []
    for _ in range(draw(st.integers(1, budget))):
        lines += draw(statements(depth, loops, budget))
    return lines


@st.composite
def statements(draw, depth, loops, budget):
    """One statement as lines."""
    v, w = draw(st.sampled_from(VARIABLES)), draw(st.sampled_from(VARIABLES))
    kind = draw(st.integers(0, 13 if depth else 6))
    inner = [] if not depth else ["    " + s for s in draw(suites(depth - 1, loops + (kind in (9, 10, 11)), budget))]
    if kind <= 1:
        return [f"{v} = {draw(expressions())} % 997 - 300"]
    if kind == 2:
        return [f"{v} {draw(st.sampled_from(['+', '-', '^', '|']))}= {draw(expressions(depth=1))} % 97"]
    if kind == 3:
        return [f"{v}, {w} = {w}, {draw(expressions(depth=1))} % 91"] if v != w else [f"{v} = 3"]
    if kind == 4:
        return [f"out[i, {draw(st.integers(0, 2))}] += {draw(expressions(depth=1))} % 1009"]
    if kind == 5:
        return [f"out[i, abs({v}) % 3] ^= {w} & 1023"]
    if kind == 6:
        escape = draw(st.sampled_from(["return", "break", "continue", "continue"] if loops else ["return", f"{v} = 1"]))
        return [f"if {draw(conditions())}:", f"    {escape}"]
    if kind == 7:
        return [f"if {draw(conditions())}:", *inner]
    if kind == 8:
        other = ["    " + s for s in draw(suites(depth - 1, loops, budget))]
        middle = draw(st.sampled_from([[], [f"elif {draw(conditions())}:", f"    {w} += 5"]]))
        return [f"if {draw(conditions())}:", *inner, *middle, "else:", *other]
    name = f"t{loops}"
    if kind == 9:
        return [f"for {name} in range({draw(expressions(depth=1))} % 5):", f"    {v} += {name}", *inner]
    if kind == 10:
        start, stop = draw(expressions(depth=0)), draw(expressions(depth=1))
        step = draw(st.sampled_from(["2", "-1", "-2", "1", "(1 + abs(i) % 2)"]))
        low, high = f"({start}) % 4", f"({stop}) % 7"
        if step.startswith("-"):
            low, high = high, low
        return [f"for {name} in range({low}, {high}, {step}):", *inner, f"    {v} ^= {name}"]
    if kind == 11:
        return [f"w{loops} = ({draw(expressions(depth=1))}) % 6", f"while w{loops} > {draw(st.integers(0, 2))}:",
                f"    w{loops} -= 1", *inner]
    if kind == 12:
        return [f"if {draw(conditions())}:", *inner, "else:", f"    {v} -= 2"]
    return [f"{v} = {w} = f({draw(expressions(depth=1))}, {v}) % 89"]


@st.composite
def kernels(draw):
    """A kernel's source text."""
    lines = [f"{v} = {draw(st.sampled_from(['i', 'i * 3 - n', '7', 'x[i]']))}" for v in VARIABLES]
    lines += draw(suites(3, 0, 3))
    lines += [f"out[i, {k}] += {v} * {k + 1}" for k, v in enumerate(VARIABLES[:3])]
    guard = ["i = cuda.grid(1)", "if i >= x.shape[0]:", "    return"]
    return RETURNS + "\n\ndef k(x, n, out):\n" + "\n".join("    " + s for s in guard + lines) + "\n"
