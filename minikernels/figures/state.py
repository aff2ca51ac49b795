"""The state of linear attention at one token, its size over time, and what is left of each token in it."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from minikernels.figures.style import INK, LOAD, PREDICTED, STORE, new_figure, style

__all__ = ["state_evolution"]

SIGNED = LinearSegmentedColormap.from_list("signed", [STORE, "#ffffff", LOAD])


def state_evolution(state, norms, memory, title=""):
    """Draw a state as a signed heat map beside two curves over time.

    Parameters
    ----------
    state : ndarray of shape (D, D)
    norms : ndarray of shape (T,)
        Size of the state after each token.
    memory : ndarray of shape (t + 1,)
        What is left of each token up to the present one, t.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    step = len(memory) - 1
    most = np.abs(state).max() or 1.0
    with style():
        figure = new_figure(8.6, 3.4)
        picture, charts = figure.subfigures(1, 2, width_ratios=(1, 1.4))
        axes = picture.subplots()
        axes.pcolormesh(state, cmap=SIGNED, vmin=-most, vmax=most, rasterized=True)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.set(xlabel="columns of v", ylabel="columns of k", title=f"state after token {step}")
        size, left = charts.subplots(2, 1, sharex=True)
        size.plot(range(len(norms)), norms, color=INK)
        size.set(ylim=(0, None), title="size of the state")
        left.fill_between(range(step + 1), memory, color=LOAD, alpha=0.45, linewidth=0)
        left.plot(range(step + 1), memory, color=LOAD)
        left.set(ylim=(0, 1.05), xlabel="token", title="what is left of each token")
        for chart in (size, left):
            chart.axvline(step, color=PREDICTED, linewidth=1, linestyle=(0, (4, 3)))
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    return figure
