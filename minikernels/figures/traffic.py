"""Traffic as bars and curves: what was predicted, what was counted, and how it grows with length."""

from collections.abc import Mapping

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FuncFormatter

from minikernels.core.traffic import Traffic
from minikernels.figures.style import INK, LOAD, PREDICTED, new_figure, style

__all__ = ["bytes_against_length", "ladder", "traffic_bars"]

PALETTE = [LOAD, "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#F0E442", "#D55E00"]  # as TrafficMeter colours arrays
REST = "#8d94a0"  # arrays beyond the seven that move most


def traffic_bars(rungs, quantity="hbm_bytes", axes=None):
    """Draw one bar a rung: counted as a filled bar, split by array where that is known; predicted as a line across it.

    Parameters
    ----------
    rungs : list of (name, predicted, counted)
        Each `Traffic`, or a dict of array name to `Traffic`; either of the two may be None.
    quantity : str
        A field or property of `Traffic`: ``load_bytes``, ``load_sectors``, ``hbm_bytes`` ...
    axes : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there is no rung, or a rung has neither of the two, or nothing of that name is counted.
    """
    rows = [(name, amounts(predicted, quantity), amounts(counted, quantity)) for name, predicted, counted in rungs]
    if not rows or any(not predicted and not counted for _, predicted, counted in rows):
        raise ValueError("traffic is drawn for at least one rung, each with predicted or counted traffic")
    with style():
        axes = axes or new_figure(7.2, 0.9 + 0.46 * len(rows)).subplots()
        moved = {}
        for _, _, counted in rows:
            for array, amount in counted.items():
                moved[array] = moved.get(array, 0) + amount
        moved = {array: amount for array, amount in moved.items() if amount}
        names = sorted(moved, key=moved.get, reverse=True)
        colours = {array: PALETTE[i] if i < len(PALETTE) else REST for i, array in enumerate(names)}
        for y, (_, predicted, counted) in enumerate(rows):
            left = 0
            for array in names:
                amount = counted.get(array, 0)
                axes.barh(y, amount, left=left, height=0.56, color=colours[array], edgecolor="white", linewidth=0.6)
                left += amount
            if predicted:
                total = sum(predicted.values())
                axes.plot([total, total], [y - 0.4, y + 0.4], color=PREDICTED, linewidth=2.2, solid_capstyle="butt")
            total = max(left, sum(predicted.values()))
            axes.annotate(verdict(predicted, counted), (total, y), (6, 0), textcoords="offset points", va="center",
                          fontsize=8.5, color=INK)
        axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.38 * max(1, *(max(sum(p.values()), sum(c.values())) for _, p, c in rows)))
        axes.xaxis.set_major_formatter(EngFormatter("B" if quantity.endswith("bytes") else "", places=None))
        axes.set_title(f"{quantity.replace('_', ' ').replace('hbm', 'HBM')} of the whole launch")
        axes.tick_params(axis="y", length=0)
        handles = [Patch(color=colours[array], label=array or "counted") for array in names[:len(PALETTE)]]
        if names[len(PALETTE):]:
            handles.append(Patch(color=REST, label=", ".join(names[len(PALETTE):])))
        if any(predicted for _, predicted, _ in rows):
            handles.append(Line2D([], [], color=PREDICTED, linewidth=2.2, label="predicted"))
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, -0.12), ncols=5, borderaxespad=0.8)
    return axes


def bytes_against_length(lengths, curves, axes=None, *, quantity="hbm_bytes"):
    """Draw how each rung's traffic grows with the sequence length, both axes logarithmic, each line named at its end.

    Parameters
    ----------
    lengths : sequence of int
    curves : dict of str to sequence
        Rung -> its `Traffic` (or number of bytes) at each length.
    axes : matplotlib.axes.Axes, optional
    quantity : str

    Returns
    -------
    matplotlib.axes.Axes
    """
    with style():
        axes = axes or new_figure(6.4, 3.8).subplots()
        for i, (name, curve) in enumerate(curves.items()):
            values = [getattr(point, quantity) if isinstance(point, Traffic) else point for point in curve]
            if len(values) != len(lengths):
                raise ValueError(f"{name} has {len(values)} values for {len(lengths)} lengths")
            axes.plot(lengths, values, marker="os^Dv<>p"[i % 8], label=name)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        name_ends(axes)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axes.set_xticks(list(lengths))
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(EngFormatter("B" if quantity.endswith("bytes") else ""))
        axes.set(xlabel="sequence length T", title=f"{quantity.replace('_', ' ').replace('hbm', 'HBM')} a launch")
        axes.grid(axis="y")
    return axes


def name_ends(axes):
    """Write each line's name at its right end, names that would overlap pushed apart."""
    low, high = np.log(axes.get_ylim())
    gap = 0.055 * (high - low)
    below = -np.inf
    for line in sorted(axes.lines, key=lambda line: line.get_ydata()[-1]):
        x, y = line.get_xdata()[-1], line.get_ydata()[-1]
        below = max(np.log(max(y, 1e-300)), below + gap)
        axes.annotate(line.get_label(), (x, float(np.exp(below))), (8, 0), textcoords="offset points", va="center",
                      color=line.get_color(), fontsize=8.5, annotation_clip=False)


def ladder(rungs, axes=None, *, unit="ms", reference=None):
    """Draw a ladder of rungs: one bar a rung with its time and, where given, its share of a production kernel's speed.

    Parameters
    ----------
    rungs : list of (name, value)
        Slowest first, as the lesson climbs; None draws the rung's name and "not measured".
    axes : matplotlib.axes.Axes, optional
    unit : str
        Of time (``us``, ``ms``, ``s``), and the axis says so; or what else the bars measure, the axis' own words.
    reference : (name, value), optional
        The production kernel, drawn as a line.

    Returns
    -------
    matplotlib.axes.Axes
    """
    with style():
        axes = axes or new_figure(7.2, 0.9 + 0.42 * len(rungs)).subplots()
        for y, (_, value) in enumerate(rungs):
            if value is None:
                axes.annotate("not measured", (0, y), (10, 0), xycoords=("axes fraction", "data"),
                              textcoords="offset points", va="center", fontsize=8.5, color="#5d6571")
                continue
            axes.barh(y, value, height=0.56, color=LOAD)
            share = f"  ({100 * reference[1] / value:.0f} % of {reference[0]})" if reference and value else ""
            axes.annotate(f"{value:.3g} {unit}{share}", (value, y), (6, 0), textcoords="offset points", va="center",
                          fontsize=8.5, color=INK)
        if reference:
            axes.axvline(reference[1], color=PREDICTED, linewidth=1.4, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(rungs)), [name for name, _ in rungs])
        axes.set_ylim(len(rungs) - 0.5, -0.5)
        known = [value for _, value in (*rungs, *([reference] if reference else ())) if value is not None]
        if known and max(known) > 30 * min(known) > 0:
            axes.set_xscale("log")
            axes.set_xlim(min(known) / 3, max(known) * 12)
        else:
            axes.set_xlim(0, 1.45 * (max(known, default=1) or 1))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"time in {unit}, shorter is better" if unit in ("ns", "us", "ms", "s") else unit)
    return axes


def amounts(traffic, quantity):
    """Return {array: amount} of one rung; the array is "" where traffic is not split."""
    if traffic is None:
        return {}
    split = traffic if isinstance(traffic, Mapping) else {"": traffic}
    for value in split.values():
        if not isinstance(value, Traffic):
            raise TypeError(f"traffic is a Traffic or a dict of them, and this holds a {type(value).__name__}")
        if not hasattr(value, quantity):
            raise ValueError(f"Traffic counts nothing called {quantity!r}")
    return {str(array): float(getattr(value, quantity)) for array, value in split.items()}


def verdict(predicted, counted):
    """Say how a prediction and a count compare."""
    p, c = (np.sum(list(split.values())) for split in (predicted, counted))
    if not predicted or not counted:
        return f"{c if counted else p:,.0f} {'counted' if counted else 'predicted'}"
    if p == c:
        return f"{c:,.0f} = predicted"
    return f"{c:,.0f} counted, {p:,.0f} predicted"
