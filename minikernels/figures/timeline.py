"""Which tokens a compressed cache holds, step by step, and its bytes."""

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter

from minikernels.figures.style import ATOMIC, INK, LOAD, PREDICTED, new_figure, style

__all__ = ["cache_timeline"]

KINDS = (("not come", "#ffffff"), ("evicted", "#dfe2e7"), ("merged", ATOMIC), ("held in fewer bits", "#86bfe0"),
         ("held", LOAD))


def cache_timeline(status, cache_bytes, full_bytes, step=None, title=""):
    """Draw the state of every token after every step beside the bytes of the cache.

    Parameters
    ----------
    status : ndarray of shape (steps, tokens)
        0 not come, 1 evicted, 2 merged, 3 held in fewer bits, 4 held.
    cache_bytes, full_bytes : sequence of int
        Of the cache after each step, and of one that keeps everything.
    step : int, optional
        A step to mark.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    colours = np.array([to_rgb(colour) for _, colour in KINDS])
    with style():
        figure = new_figure(8.6, 3.7)
        grid, chart = figure.subplots(1, 2, width_ratios=(1.5, 1), sharey=True)
        grid.imshow(colours[status], aspect="auto", interpolation="none")
        grid.set(xlabel="token", ylabel="step", title="what the cache holds")
        shown = [(name, colour) for i, (name, colour) in enumerate(KINDS) if i and (status == i).any()]
        figure.legend(handles=[Patch(color=colour, label=name) for name, colour in shown], loc="outside lower left",
                      ncols=4)
        rows = range(len(status))
        chart.plot(full_bytes, rows, color=PREDICTED, linewidth=1.2, linestyle=(0, (4, 3)), label="everything kept")
        chart.plot(cache_bytes, rows, color=LOAD, label="this cache")
        chart.xaxis.set_major_formatter(EngFormatter("B"))
        chart.set(xlim=(0, None), title="bytes")
        chart.legend(loc="upper right")
        for axes in (grid, chart) if step is not None else ():
            axes.axhline(step, color=PREDICTED, linewidth=1)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    return figure
