"""A block mask over the attention that falls into each block."""

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from minikernels.figures.style import LOAD, new_figure, style

__all__ = ["block_mask"]

CELLS = 1024  # more of them are one image and no rectangles: a small file
DROPPED, KEPT = (("#f0f1f4", "#80868f"), ("#d5e7f2", LOAD))


def block_mask(mass, mask, visible=None, axes=None):
    """Draw which blocks are kept, each the darker the more attention lies in it.

    Parameters
    ----------
    mass : ndarray of shape (rows, columns)
        Attention in each block.
    mask : ndarray of shape (rows, columns), bool
        The blocks that are kept.
    visible : ndarray of shape (rows, columns), bool, optional
        The blocks that any query sees; all by default.
    axes : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    mass, mask = np.asarray(mass, np.float64), np.asarray(mask, bool)
    visible = np.ones(mask.shape, bool) if visible is None else np.asarray(visible, bool)
    seen = np.where(visible, mass, 0.0)
    strength = np.sqrt(seen / np.maximum(seen.max(axis=1, keepdims=True), 1e-30))[..., None]
    shades = {name: np.array(to_rgb(low)) + strength * (np.array(to_rgb(high)) - to_rgb(low))
              for name, (low, high) in {"dropped": DROPPED, "kept": KEPT}.items()}
    pixels = np.where(mask[..., None], shades["kept"], shades["dropped"])
    pixels[~visible] = 1.0
    with style():
        axes = axes or new_figure(5.4, 4.2).subplots()
        axes.pcolormesh(pixels, edgecolors="white", linewidth=0.5, rasterized=mask.size > CELLS)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        recall = seen[mask].sum() / seen.sum() if seen.sum() else 1.0
        share = (mask & visible).sum() / max(1, visible.sum())
        axes.set_title(f"{share:.0%} of the blocks hold {recall:.1%} of the attention")
        axes.set(xlabel="blocks of keys", ylabel="blocks of queries")
        axes.legend(handles=[Patch(color=KEPT[1], label="kept"), Patch(color=DROPPED[1], label="dropped")],
                    loc="upper right")
    return axes
