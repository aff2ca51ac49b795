"""A page pool and the page tables that point into it."""

from matplotlib.patches import Rectangle

from minikernels.figures.style import ATOMIC, INK, LOAD, new_figure, style

__all__ = ["page_pool"]

EMPTY, EDGE = "#e3e6ea", "#8d94a0"
CHIPS = 10  # pages of a sequence that are written out


def page_pool(held, lengths, references, filled, P, axes=None):
    """Draw page tables on the left and the pool's pages, with their filled slots, on the right.

    Parameters
    ----------
    held, lengths : dict
        Sequence -> its pages, and its tokens.
    references, filled : sequence of int
        Of each page: how many sequences hold it, and how many of its slots hold a token.
    P : int
        Tokens of a page.
    axes : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    across = 8
    down = -(-len(references) // across)
    widest = min(CHIPS + 1, max((len(pages) for pages in held.values()), default=1))
    left = 0.62 * widest + 3.4
    with style():
        height = max(down, 0.75 * len(held), 1)
        axes = axes or new_figure(9.2, 0.8 + 0.42 * height).subplots()
        for row, (sequence, pages) in enumerate(held.items()):
            y = 0.75 * row + 0.35
            name = f"sequence {sequence}, {lengths[sequence]} tokens"
            axes.annotate(name, (0, y), va="center", fontsize=8, color=INK)
            if len(pages) > CHIPS:
                axes.annotate(f"+{len(pages) - CHIPS}", (3.0 + 0.62 * CHIPS, y), va="center", fontsize=7.5, color=INK)
            for place, page in enumerate(pages[:CHIPS]):
                axes.add_patch(Rectangle((3.0 + 0.62 * place, y - 0.26), 0.56, 0.52, facecolor="white",
                                         edgecolor=ATOMIC if references[page] > 1 else EDGE))
                axes.annotate(str(page), (3.28 + 0.62 * place, y), ha="center", va="center", fontsize=7.5, color=INK)
        for page, (count, tokens) in enumerate(zip(references, filled, strict=True)):
            x, y = left + 1.5 * (page % across), page // across
            colour = ATOMIC if count > 1 else LOAD
            full = 1.3 * tokens / P
            axes.add_patch(Rectangle((x, y + 0.36), 1.3, 0.42, facecolor=EMPTY if count else "white",
                                     edgecolor=EDGE if count else EMPTY, linewidth=0.6))
            axes.add_patch(Rectangle((x, y + 0.36), full, 0.42, facecolor=colour, linewidth=0))
            for slot in range(1, P) if P <= 8 else ():  # more slots would be a grey mass
                axes.plot([x + 1.3 * slot / P] * 2, [y + 0.36, y + 0.78], color="white" if count else EMPTY,
                          linewidth=0.8)
            axes.annotate(f"{page}{f'  ×{count}' if count > 1 else ''}", (x, y + 0.2), va="center", fontsize=7,
                          color=INK if count else EDGE)
        axes.set(xlim=(0, left + 1.5 * across), ylim=(height + 0.1, -0.2))
        slots, tokens = P * sum(count > 0 for count in references), sum(filled)
        axes.set_title(f"page tables, and {len(references)} pages of {P} tokens: {tokens} slots hold a token, "
                       f"{slots - tokens} slots of pages in use hold none")
        axes.set_axis_off()
    return axes
