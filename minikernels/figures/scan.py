"""A prefix scan as a tree: which elements are combined at which level."""

import numpy as np
from matplotlib.collections import LineCollection

from minikernels.figures.style import INK, LOAD, new_figure, style

__all__ = ["scan_tree"]

PALE = "#c3c8d0"


def scan_tree(levels, n, step=None, title="", axes=None):
    """Draw the combinations of a scan, a row a level.

    Parameters
    ----------
    levels : list of list of (left, right)
        Combinations of each level: what `left` holds goes before what `right` holds.
    n : int
        Elements.
    step : int, optional
        Levels that have been done; all by default.
    title : str
    axes : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    step = len(levels) if step is None else step
    high = max(0.12, min(0.42, 5.2 / max(1, len(levels))))
    with style():
        axes = axes or new_figure(7.2, 0.9 + high * (len(levels) + 1)).subplots()
        size = 90 * min(1.0, 16 / n, high / 0.3)
        for colour, dots, rows in ((LOAD, INK, range(step + 1)), (PALE, PALE, range(step + 1, len(levels) + 1))):
            if n <= 32:  # what is carried along; more would hide the tree
                axes.scatter(list(range(n)) * len(rows), np.repeat(rows, n), s=0.16 * size, color=dots, zorder=2)
            made = [(left, right, y) for y in rows if y for left, right in levels[y - 1]]
            edges = [[(x, y - 1), (right, y)] for left, right, y in made for x in (left, right)]
            axes.add_collection(LineCollection(edges, colors=colour, linewidths=1.3, zorder=1))
            axes.scatter([right for _, right, _ in made], [y for *_, y in made], s=size, color=colour, zorder=3)
        axes.set(xlim=(-0.7, n - 0.3), ylim=(len(levels) + 0.6, -0.6), title=title, xlabel="element", ylabel="level")
        axes.set_xticks(range(0, n, max(1, n // 16)))
        axes.set_yticks(range(0, len(levels) + 1, max(1, len(levels) // 8)))
    return axes
