"""How the figures of the gallery look alike: series told apart without colour, and lines named where they end."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter, NullFormatter

from minikernels.figures.style import INK

__all__ = ["BLUE", "GREEN", "GREY", "HALO", "ORANGE", "PURPLE", "SERIES", "SIGNED", "SKY", "VERMILLION", "WHITE_BLUE",
           "by_powers", "in_bytes", "look", "name_lines", "panel", "plain", "series"]

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"  # Okabe and Ito's
ORANGE, SKY, GREY = "#E69F00", "#56B4E9", "#5d6571"
SERIES = [  # colour, marker and line of each series: any one of the three tells them apart
    (BLUE, "o", "-"), (VERMILLION, "s", (0, (5, 2))), (GREEN, "^", (0, (1, 1.2))), (PURPLE, "D", (0, (6, 2, 1, 2))),
    (ORANGE, "v", (0, (3, 1, 1, 1, 1, 1))), (SKY, "P", (0, (8, 3))), (INK, "X", (0, (2, 2))), (GREY, "<", "-"),
    (BLUE, "d", (0, (4, 1))), (VERMILLION, "*", (0, (1, 2)))]
WHITE_BLUE = LinearSegmentedColormap.from_list("white to blue", ["#ffffff", SKY, BLUE, "#003a5c"])
SIGNED = LinearSegmentedColormap.from_list("orange to blue", ["#8a3d00", VERMILLION, "#ffffff", BLUE, "#003a5c"])
SIZE = 8.5  # points, of words inside a picture
HALO = {"facecolor": (1, 1, 1, 0.8), "edgecolor": "none", "pad": 0.6}  # behind a name that a line passes
BELOW = 1.25  # heights of a line of text between two names


def series(number):
    """Return how the lines of series `number` are drawn, as keyword arguments of ``plot``."""
    colour, marker, line = SERIES[number % len(SERIES)]
    return {"color": colour, "marker": marker, "linestyle": line, "markersize": 5.5, "linewidth": 1.8}


def look(name, known):
    """Return the series of a name among all that are known, so that it looks the same in every panel."""
    return series(list(known).index(name))


def panel(axes, text):
    """Write a panel's heading over its left edge."""
    axes.set_title(text, fontsize=9.5)
    return axes


def plain(axis):
    """Label an axis with whole numbers: ``4,096``."""
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def by_powers(axes, values, short=True):
    """Make x logarithmic with a tick at each value, in ``4k`` where they are powers of two."""
    axes.set_xscale("log", base=2)
    ticks = sorted(set(values))
    axes.set_xticks(ticks, [thousands(x) if short else f"{x:,g}" for x in ticks])
    axes.minorticks_off()


def thousands(x):
    """Return a count as it is spoken of: 512, 4k, 1M (of 1024).

    >>> thousands(512), thousands(16_384), thousands(2**20)
    ('512', '16k', '1M')
    """
    for size, letter in ((2**20, "M"), (2**10, "k")):
        if x >= size and x % size == 0:
            return f"{x // size:.0f}{letter}"
    return f"{x:,g}"


def in_bytes(x, _=None):
    """Return a number of bytes in words, of 1000: ``2.1 MB``; a formatter of ticks too.

    >>> in_bytes(2_097_152), in_bytes(16_384), in_bytes(5e9)
    ('2.1 MB', '16 kB', '5 GB')
    """
    for size, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(x) >= size:
            amount = x / size
            return f"{amount:.3g} {unit}" if amount < 10 else f"{amount:.0f} {unit}"
    return f"{x:.0f} B"


def name_lines(axes, names=None, gap=6, size=SIZE):
    """Write the name of each line beside its right end, pushed apart where they would run into each other.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        With its limits and scales as they will be.
    names : dict, optional
        Line -> what to write; the labels of all lines that have one by default.
    gap : float
        Points between a line's end and its name.
    size : float
        Of the letters, in points.
    """
    lines = {line: line.get_label() for line in axes.lines if not line.get_label().startswith("_")}
    lines = lines if names is None else names
    height = axes.get_window_extent().height * 72 / axes.figure.dpi
    ends = []
    for line, text in lines.items():
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        last = np.flatnonzero(np.isfinite(y))[-1]
        at = axes.transData.transform((x[last], y[last]))
        ends.append([axes.transAxes.inverted().transform(at)[1] * height, text, line.get_color(), (x[last], y[last])])
    ends.sort(key=lambda end: end[0])
    places = spread([end[0] for end in ends], BELOW * size)
    for (y, text, colour, point), place in zip(ends, places, strict=True):
        axes.annotate(text, point, (gap, place - y), textcoords="offset points", va="center", color=colour,
                      fontsize=size, annotation_clip=False, bbox=HALO)


def spread(places, gap):
    """Return ascending places moved as little as needed to stand `gap` apart: groups that touch share their middle.

    >>> spread([0.0, 1.0, 30.0], gap=10)
    [-4.5, 5.5, 30.0]
    """
    groups = []  # [sum of wishes less their offset in the group, members]
    for place in places:
        groups.append([place, 1])
        while len(groups) > 1 and start(groups[-2], gap) + groups[-2][1] * gap > start(groups[-1], gap):
            total, count = groups.pop()
            groups[-1] = [groups[-1][0] + total, groups[-1][1] + count]
    return [start(group, gap) + i * gap for group in groups for i in range(group[1])]


def start(group, gap):
    """Return where the first of a group stands, so that the group's middle is that of its wishes."""
    total, count = group
    return total / count - gap * (count - 1) / 2
