"""Kernels under the roofs of a machine: intensity against speed."""

import numpy as np

from minikernels.figures.style import INK, LOAD, PREDICTED, STORE, new_figure, style

__all__ = ["roofline"]


def roofline(points, machine, axes=None):
    """Draw measured kernels under measured ceilings, both axes logarithmic.

    Parameters
    ----------
    points : list of dict
        With ``name``, ``intensity`` (FLOP a byte), ``tflop_per_s`` and ``peer``.
    machine : dict
        With ``name``, ``source``, ``bandwidth`` ([{"name", "gb_per_s"}]) and ``compute`` ([{"name", "tflop_per_s"}]).
    axes : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    fastest = max(one["gb_per_s"] for one in machine["bandwidth"]) / 1e3
    highest = max(one["tflop_per_s"] for one in machine["compute"])
    at = [point["intensity"] for point in points]
    ends = np.array([min(*at, highest / fastest) / 4, max(*at, highest / fastest) * 6])
    with style():
        axes = axes or new_figure(7.2, 4.0).subplots()
        for one in machine["bandwidth"]:
            slope = one["gb_per_s"] / 1e3
            x = np.array([ends[0], highest / slope])
            axes.plot(x, slope * x, color=PREDICTED, linewidth=1.4)
            middle = np.sqrt(x.prod())
            axes.annotate(f"{one['name']}: {one['gb_per_s']:,.0f} GB/s", (middle, slope * middle), (-6, 4), ha="right",
                          textcoords="offset points", fontsize=8, color=INK)
        for one in machine["compute"]:
            x = np.array([one["tflop_per_s"] / fastest, ends[1]])
            axes.plot(x, [one["tflop_per_s"]] * 2, color=PREDICTED, linewidth=1.4)
            axes.annotate(f"{one['name']}: {one['tflop_per_s']:,.4g} TFLOP/s", (x[1], one["tflop_per_s"]), (0, 4),
                          textcoords="offset points", ha="right", fontsize=8, color=INK)
        for point in points:
            place = (point["intensity"], point["tflop_per_s"])
            axes.plot(*place, "D" if point["peer"] else "o", color=STORE if point["peer"] else LOAD, markersize=6)
            crowded = any(1 < other["intensity"] / place[0] < 10 and 0.7 < other["tflop_per_s"] / place[1] < 1.4
                          for other in points)  # a name on the right would run through the next kernel's
            axes.annotate(point["name"], place, (-7 if crowded else 7, -3), ha="right" if crowded else "left",
                          textcoords="offset points", fontsize=8, color=INK)
        axes.set(xscale="log", yscale="log", xlim=ends, xlabel="FLOP for each byte asked of HBM", ylabel="TFLOP/s",
                 title=f"{machine['name']}: ceilings {machine['source']}")
        axes.title.set_fontsize(8.5)
    return axes
