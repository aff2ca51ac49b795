"""A still picture of one step of a recorded launch: what lies in HBM, what in SRAM, what moves and what it cost."""

from dataclasses import replace

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from minikernels.figures.grids import contents_before, grid
from minikernels.figures.style import ATOMIC, INK, LOAD, STORE, new_figure, style
from minikernels.simt.trace import LOAD as LOADED

__all__ = ["draw_tile", "tile_step"]

LOW, HIGH = np.array(to_rgb("#f0f1f4")), np.array(to_rgb("#9097a3"))
OPERATIONS = [np.array(to_rgb(c)) for c in (LOAD, STORE, ATOMIC)]
IN_A_LINE = 8  # arrays side by side that can still be read
TINT = 0.24  # of the load colour, over what was loaded in an earlier step
VERBS = {"global": ("load", "store", "update"), "shared": ("read", "write", "update")}


def draw_tile(trace, name, step, axes, block=0):
    """Draw one array of a trace as it stands after a step, with the elements that the step touched lit.

    Parameters
    ----------
    trace : Trace
    name : str
        The array's name in the kernel.
    step : int
    axes : matplotlib.axes.Axes
    block : int
        Index into ``trace.blocks``.

    Returns
    -------
    matplotlib.axes.Axes
    """
    number = [a.name for a in trace.arrays].index(name)
    folded = grid(trace, number)
    if folded.space == "global":
        trace = replace(trace, initial={**trace.initial, name: contents_before(trace, number)})
    with np.errstate(invalid="ignore"):
        contents = trace.contents(name, step, block)
    values = folded.values(contents, folded.at[block])
    pixels = _shades(values)
    if folded.space == "global":
        before = _cells(trace, folded, number, range(step + 1), block, {LOADED})
        seen = np.isin(np.arange(values.size), before).reshape(values.shape) & np.isfinite(values)
        pixels[seen, :3] += TINT * (OPERATIONS[LOADED] - pixels[seen, :3])
    for operation, lit in enumerate(OPERATIONS):
        cells = _cells(trace, folded, number, [step], block, {operation})
        pixels.reshape(-1, 4)[cells] = [*lit, 1.0]
    rows, columns = values.shape
    axes.add_patch(Rectangle((-0.5, -0.5), columns, rows, fill=False, hatch="////", edgecolor="#c9ced6", linewidth=0,
                             zorder=0))
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    axes.imshow(pixels, aspect="auto", zorder=1, interpolation="none", extent=extent)
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set(visible=True, color="#c3c8d0")
    axes.set_title(folded.label(block).replace(" ", ""), fontfamily="monospace", fontsize=8.5, pad=14)
    axes.annotate(f"{folded.rows}×{folded.columns} {folded.dtype}", (0, 1), (0, 4), xycoords="axes fraction",
                  textcoords="offset points", fontsize=7.5, color="#5d6571")
    return axes


def tile_step(traces, step, block=0):
    """Return a figure of one step: HBM, SRAM, the sentence of what happened, and the bytes moved so far.

    Parameters
    ----------
    traces : Trace or list of Trace
        Several are drawn one below the other, each at ``step`` or at its end.
    step : int
    block : int

    Returns
    -------
    matplotlib.figure.Figure
    """
    traces = traces if isinstance(traces, (list, tuple)) else [traces]
    lines = [_arranged(trace) for trace in traces]
    heights = [3.4 + 1.9 * (len(names) - 1) for names in lines]
    with style():
        figure = new_figure(9.2, sum(heights))
        parts = figure.subfigures(len(traces), 1, squeeze=False, height_ratios=heights).ravel()
        for part, trace, names in zip(parts, traces, lines, strict=True):
            at = min(step, trace.steps - 1)
            places = part.subplots(len(names), max(map(len, names)), squeeze=False)
            for axes, name in zip(places.ravel(), _flat(names), strict=True):
                draw_tile(trace, name, at, axes, block) if name else axes.set_axis_off()
            _headings(trace, places, names)
            part.suptitle(f"{trace.kernel}, step {at} of {trace.steps - 1}\n{_sentence(trace, at, block)}", x=0.01,
                          ha="left", fontsize=10, color=INK)
            part.supxlabel(_cost(trace, at, block), x=0.01, ha="left", fontsize=9, color=INK)
    return figure


def _arranged(trace):
    """Return lines of array names, None for an empty place: one line, or several, with SRAM's own, for many."""
    spaces = [[a.name for a in trace.arrays if a.space == space and np.prod(a.shape)] or [None]
              for space in ("global", "shared")]
    if sum(map(len, spaces)) <= IN_A_LINE:
        return [spaces[0] + spaces[1]]
    return [names[i : i + IN_A_LINE] for names in spaces for i in range(0, len(names), IN_A_LINE)]


def _flat(lines):
    """Return the names of all places, line by line, None where a line is shorter than the longest."""
    longest = max(map(len, lines))
    return [name for names in lines for name in [*names, *([None] * (longest - len(names)))]]


def _headings(trace, places, lines):
    """Write HBM over the first array of global memory and SRAM over the first shared one."""
    spaces = {a.name: a.space for a in trace.arrays}
    shared = next((n for n, name in enumerate(_flat(lines)) if spaces.get(name) == "shared"), None)
    words = [(places[0, 0], "HBM, off the chip", LOAD)]
    words += [(places[-1, len(lines[-1]) - 1], "no SRAM in use", "#007a5a") if shared is None else
              (places.ravel()[shared], "SRAM, one a block", "#007a5a")]
    for axes, text, colour in words:
        axes.annotate(text, (0, 1), (0, 30), xycoords="axes fraction", textcoords="offset points", fontsize=10,
                      fontweight="bold", color=colour, annotation_clip=False)


def _shades(values):
    """Return grey RGBA pixels for values; clear where nothing is written."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (1, 99)) if len(finite) else (0.0, 1.0)
    share = np.clip(np.nan_to_num((values - low) / max(high - low, 1e-30)), 0, 1)[..., None]
    return np.concatenate([LOW + share * (HIGH - LOW), ~np.isnan(values)[..., None]], axis=-1)


def _rows(trace, steps, block, number=None):
    """Yield the access rows of one block in these steps."""
    columns = trace.columns
    for row in range(trace.accesses(steps[0]).start, trace.accesses(steps[-1]).stop):
        if columns["access_block"][row] == block and number in (None, columns["access_array"][row]):
            yield row


def _cells(trace, folded, number, steps, block, operations):
    """Return the cells that these operations of these steps touched."""
    columns, start = trace.columns, trace.columns["access_start"]
    parts = [columns["pool_index"][start[a]:start[a + 1]] for a in _rows(trace, steps, block, number)
             if columns["access_op"][a] in operations]
    cells = folded.cells(np.unique(np.concatenate(parts)), block) if parts else np.zeros(0, np.int64)
    return cells[cells >= 0]


def _sentence(trace, step, block):
    """Say what one step did, as the player does."""
    columns = trace.columns
    line = f"line {columns['step_line'][step]}"
    if columns["step_kind"][step] == 1:
        return f"{line}: barrier, the lanes of the block wait for each other"
    parts = []
    for a in _rows(trace, [step], block):
        info = trace.arrays[columns["access_array"][a]]
        unit = "wavefronts" if info.space == "shared" else "sectors"
        verb = VERBS[info.space][columns["access_op"][a]]
        parts.append(f"{verb} {info.name}, {columns['access_bytes'][a]:,} bytes in {columns['access_units'][a]} {unit}")
    return f"{line}: {'; '.join(parts) or 'no memory moves'}"


def _cost(trace, step, block):
    """Say what the block has moved so far."""
    moved = {"load": [0, 0], "store": [0, 0]}
    columns = trace.columns
    for a in _rows(trace, range(step + 1), block):
        if trace.arrays[columns["access_array"][a]].space == "global" and columns["access_op"][a] < 2:
            total = moved["store" if columns["access_op"][a] else "load"]
            total[0] += int(columns["access_bytes"][a])
            total[1] += int(columns["access_units"][a])
    said = ", ".join(f"{total[0]:,} bytes {word}ed in {total[1]:,} sectors".replace("storeed", "stored")
                     for word, total in moved.items())
    return f"So far in this block: {said}, {int((columns['step_kind'][:step + 1] == 1).sum())} barriers"
