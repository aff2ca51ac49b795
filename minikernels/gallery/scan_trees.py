"""Three ways to scan: which elements are combined at which level, and what each costs in work and depth."""

import numpy as np
from matplotlib.collections import PathCollection

from minikernels.figures import new_figure, scan_tree
from minikernels.figures.style import INK
from minikernels.gallery.look import by_powers, look, name_lines, panel, plain
from minikernels.gallery.plate import Plate, joined
from minikernels.selective_scan import operators

TECHNIQUES = ("selective_scan",)
BESIDE = "Blelloch 1990; Gu and Dao 2023 (Mamba): the hardware-aware scan"
N = 16
DOT = 0.3  # of the size that a tree alone has
SIZES = (16, 32, 64, 128, 256, 512, 1024)
WORDS = {"sequential": "one after the other", "hillis_steele": "Hillis-Steele", "blelloch": "Blelloch"}


def plate(sources):
    """Return the plate: three trees, and their costs against the number of elements."""
    levels = {name: recorded(scan, N) for name, scan in operators.SCANS.items()}
    costs = {name: [cost(scan, n) for n in SIZES] for name, scan in operators.SCANS.items()}
    words = [f"{WORDS[name]} {sum(map(len, made))} combinations in {len(made)} steps" for name, made in levels.items()]
    last = {name: found[-1] for name, found in costs.items()}
    caption = (
        f"Prefixes of {N} elements. A dot is a combination of the two that lead to it; all dots of a row are made at "
        f"once. {joined(words)}. At {SIZES[-1]:,} elements: "
        f"{joined(f'{last[n].work:,} in {last[n].depth:,} ({WORDS[n]})' for n in last)}. Depth is time when there are "
        "lanes enough, work is time when there are not.")
    alt = (f"Three tree diagrams over {N} elements, {joined(f'{len(made)} levels' for made in levels.values())}: a "
           "staircase, full rows that halve, and a tree up and down again. Two charts below show work and depth "
           "against n on logarithmic axes.")
    provenance = "Recorded from the scans of selective_scan.operators; combinations counted, no measurement of time."
    return Plate("Work against depth: three prefix scans", lambda: draw(levels, costs), caption, alt, provenance)


def recorded(scan, n):
    """Return the combinations of a scan, level by level, by running it on what each element is made of."""
    leaves = np.zeros(n, object)
    leaves[:] = [frozenset([t]) for t in range(n)]
    levels = []

    def combine(first, second):
        single = not isinstance(second[0], np.ndarray)
        pairs = [(first[0], second[0])] if single else list(zip(first[0], second[0]))
        levels.append([(max(a), max(b)) for a, b in pairs])
        made = [a | b for a, b in pairs]
        if single:
            return (made[0],)
        out = np.zeros(len(made), object)
        out[:] = made
        return (out,)

    scan(combine, (leaves,))
    return levels


def cost(scan, n):
    """Return work and depth of a scan of n elements."""
    return scan(lambda first, second: second, (np.zeros(n),))[1]


def draw(levels, costs):
    """Draw the trees over the charts."""
    figure = new_figure(8.6, 6.0)
    trees, charts = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    for axes, (name, made) in zip(trees.subplots(1, len(levels)), levels.items()):
        scan_tree(made, N, axes=axes)
        axes.set_xticks(range(0, N, 5))
        axes.set_title(WORDS[name], fontsize=9.5, pad=20)
        axes.annotate(f"{sum(map(len, made))} combinations, {len(made)} steps", (0, 1), (0, 6), fontsize=8.5, color=INK,
                      xycoords="axes fraction", textcoords="offset points")
        axes.set_ylim(N - 0.4, -0.6)
        axes.set_yticks([0, 5, 10, 15])
        for dots in axes.collections:
            if isinstance(dots, PathCollection):
                dots.set_sizes(DOT * dots.get_sizes())
    for axes, kind in zip(charts.subplots(1, 2), ("work", "depth")):
        for name, found in costs.items():
            axes.plot(SIZES, [getattr(each, kind) for each in found], label=WORDS[name], **look(name, WORDS))
        axes.set_yscale("log")
        by_powers(axes, SIZES, short=False)
        plain(axes.yaxis)
        axes.minorticks_off()
        axes.set(xlabel="elements n", ylabel={"work": "combinations", "depth": "steps, one after another"}[kind])
        axes.grid(axis="y")
        panel(axes, kind)
    figure.draw_without_rendering()
    for axes in charts.axes:
        name_lines(axes)
    return figure
