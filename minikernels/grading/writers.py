"""Which thread wrote a cell, and which line spent a budget: found by running the launch again under the recorder."""

import ast
from dataclasses import replace

import numpy as np

from minikernels import simt
from minikernels.core.errors import KernelError
from minikernels.simt.findings import short
from minikernels.simt.lanes import place
from minikernels.simt.trace import ATOMIC, BROADCAST, LOAD, STORE

__all__ = ["lines_of", "written_by"]

MOST_BLOCKS = 64
KINDS = {"load": LOAD, "store": STORE}
UNITS = {"requests": "access_requests", "sectors": "access_units", "bytes": "access_bytes"}


def written_by(job, name, cell):
    """Say which block, thread, loop turn and line stored an array's cell last; nothing where that cannot be found."""
    blocks = blocks_of(job)
    if len(blocks) > MOST_BLOCKS:
        return ""
    index = int(np.ravel_multi_index(cell, job.arguments[name].shape))
    found = last_store(job, name, index, blocks)
    if found is None:
        return f"No thread stores to {name}[{', '.join(map(str, cell))}] in this launch."
    trace, row, lane = found
    block = trace.blocks[trace.columns["access_block"][row]]
    line = int(trace.columns["step_line"][trace.columns["access_step"][row]])
    who = "every thread" if lane == BROADCAST else f"thread {lane}"
    turn = loop_turn(job, name, index, block, max(lane, 0), line)
    tile = tile_of(trace, row, job.arguments[name].shape)
    text = job.text.split("\n")[line - 1].strip()
    return (f"Written by {who} of block {short(place(block, trace.grid))}, whose tile is {name}[{tile}]{turn}, in "
            f"{job.filename}:{line}: {text}")


def blocks_of(job):
    """Return (x, y, z) of every block of a launch."""
    grid = tuple(np.atleast_1d(job.shape[0])) + (1, 1)
    return [(x, y, z) for z in range(grid[2]) for y in range(grid[1]) for x in range(grid[0])]


def lines_of(job, name, quantity):
    """Return what each line added to a quantity of one array in global memory; nothing where that cannot be found."""
    kind, _, unit = quantity.partition("_")
    column, blocks = UNITS.get(unit), blocks_of(job)
    if kind not in KINDS or column is None or len(blocks) > MOST_BLOCKS:
        return {}
    with simt.record(blocks=blocks, max_steps=50_000) as recording:
        replace(job, strict=False).launch()
    trace, lines = recording.trace, {}
    c = trace.columns
    number = next((i for i, a in enumerate(trace.arrays) if (a.name, a.space) == (name, "global")), None)
    # An atomic spends what a load and what a store spends.
    for row in np.flatnonzero((c["access_array"] == number) & np.isin(c["access_op"], (KINDS[kind], ATOMIC))):
        line = int(c["step_line"][c["access_step"][row]])
        lines[line] = lines.get(line, 0) + int(c[column][row])
    return lines


def last_store(job, name, index, blocks, registers=(), lane=0):
    """Return (trace, access row, lane) of the last store to a cell, or None."""
    try:
        with simt.record(blocks=blocks, registers=registers, lanes=(lane,), max_steps=50_000) as recording:
            replace(job, strict=False).launch()
    except KernelError:
        return None
    trace = recording.trace
    number = next((i for i, a in enumerate(trace.arrays) if a.name == name), None)
    if number is None:
        return None
    c = trace.columns
    for row in reversed(np.flatnonzero((c["access_array"] == number) & (c["access_op"] == STORE))):
        part = slice(c["access_start"][row], c["access_start"][row + 1])
        hit = np.flatnonzero(c["pool_index"][part] == index)
        if len(hit):
            return trace, row, int(c["pool_lane"][part][hit[-1]])
    return None


def tile_of(trace, row, shape):
    """Return the smallest box, as slices, that holds every cell of the array which the block of this store stores."""
    c = trace.columns
    same = [c[f"access_{k}"] == c[f"access_{k}"][row] for k in ("array", "op", "block")]
    cells = np.concatenate([c["pool_index"][c["access_start"][i]:c["access_start"][i + 1]]
                            for i in np.flatnonzero(np.logical_and.reduce(same))])
    return ", ".join(f"{axis.min()}:{axis.max() + 1}" for axis in np.unravel_index(cells, shape))


def loop_turn(job, name, index, block, lane, line):
    """Say what the variables of the loops around a line held when the thread stored the cell."""
    loops = [n for n in ast.walk(job.node) if isinstance(n, ast.For) and isinstance(n.target, ast.Name)
             and n.lineno <= line <= n.end_lineno]
    names = tuple(dict.fromkeys(n.target.id for n in loops))
    if not names:
        return ""
    found = last_store(job, name, index, [block], names, lane)
    if found is None:
        return ""
    trace, row, _ = found
    c, step = trace.columns, trace.columns["access_step"][row]
    said = []
    for number, variable in enumerate(names):
        # A loop's next turn is noted with the last statement of the turn before.
        rows = np.flatnonzero((c["register_name"] == number) & (c["register_step"] < step))
        values = c["register_value"][rows, 0, 0]
        values = values[np.isfinite(values)]
        if len(values):
            said.append(f"{variable}={values[-1]:g}")
    return f" at {', '.join(said)}" if said else ""
