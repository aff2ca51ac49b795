"""Query heads over the key/value heads that they share, and what a step of decoding reads."""

from matplotlib.patches import Rectangle

from minikernels.figures.style import INK, LOAD, SHARED, new_figure, style

__all__ = ["head_groups"]


def head_groups(heads, groups, keys, width, itemsize, shared=True, axes=None):
    """Draw which of H query heads read which of G key/value heads.

    Parameters
    ----------
    heads, groups : int
        H and G, which divides H.
    keys, width, itemsize : int
        S, D, and the bytes of an element.
    shared : bool
        Whether the heads of a group read one tile in shared memory, or each its own copy from HBM.
    axes : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    if heads < 1 or groups < 1 or heads % groups:
        raise ValueError(f"G={groups} must divide H={heads}")
    each = heads // groups
    with style():
        axes = axes or new_figure(7.2, 2.7).subplots()
        for h in range(heads):
            place = (h // each + 0.5) * each
            start = place if shared else place + (h % each - (each - 1) / 2) * min(0.3, 0.8 / each)
            look = {"color": SHARED, "linewidth": 0.9, "linestyle": "--"} if shared else {"color": LOAD, "linewidth": 2}
            axes.plot([start, h + 0.5], [2.0 if shared else 0.6, 3.2], zorder=1, **look)
            axes.add_patch(Rectangle((h + 0.06, 3.2), 0.88, 0.5, color="#3a4250"))
            if heads <= 32:
                axes.annotate(f"q{h}" if heads <= 16 else str(h), (h + 0.5, 3.45), ha="center", va="center",
                              fontsize=8, color="white")
        for g in range(groups):
            left, span = g * each + 0.1, each - 0.2
            if shared:
                axes.plot([(g + 0.5) * each] * 2, [0.6, 1.5], color=LOAD, linewidth=2, zorder=1)
                axes.add_patch(Rectangle((left, 1.5), span, 0.5, facecolor="#f6f7f9", edgecolor=SHARED))
            axes.add_patch(Rectangle((left, 0), span, 0.6, facecolor="#f6f7f9", edgecolor=LOAD))
            if groups <= 32:
                axes.annotate(f"K, V {g}" if groups <= 8 else str(g), ((g + 0.5) * each, 0.3), ha="center",
                              va="center", fontsize=8, color=INK)
        each_bytes = 2 * width * itemsize
        read = (groups if shared else heads) * keys * each_bytes
        for y, text in ((3.45, "query heads"), (1.75, "SRAM" if shared else ""), (0.3, "HBM")):
            axes.annotate(text, (-0.15, y), ha="right", va="center", fontsize=8.5, color=INK, annotation_clip=False)
        axes.set(xlim=(0, heads), ylim=(-0.1, 3.8))
        axes.set_title(f"H={heads}, G={groups}: {groups * each_bytes:,} B of cache a token, {read:,} B read a step")
        axes.set_axis_off()
    return axes
