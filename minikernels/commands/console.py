"""How numbers, tables and progress look in a terminal."""

import sys
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

__all__ = ["WIDTH", "byte_count", "duration", "lines", "out", "progress"]

WIDTH = 120  # where the output is no terminal


def out():
    """Return the console for results; a file or a pipe gets plain text of a fixed width."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


@contextmanager
def progress():
    """Yield a function that says what is being worked on: on standard error, with the time, and gone when done."""
    console = Console(stderr=True)
    columns = SpinnerColumn("line"), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("starting")
        yield lambda what: bar.update(task, description=what)


def lines(table):
    """Return a table as lines of text, one a row and none of them folded, coloured where the terminal shows colours."""
    console = out()
    console.width = 1000  # more than any table takes: the terminal wraps what it must
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]


def duration(seconds):
    """Return ``81.3 us``, ``4.20 ms`` or ``1.35 s``."""
    for unit, scale in (("us", 1e-6), ("ms", 1e-3)):
        if seconds < 1000 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def byte_count(traffic):
    """Return the bytes that cross global memory, digit by digit: predicted and counted are compared exactly."""
    return f"{traffic.hbm_bytes:,}"
