"""One warp's request as a picture: 32 lanes, and the sectors or banks that serve them."""

from matplotlib.patches import Rectangle

from minikernels.figures.style import INK, LOAD, STORE, new_figure, style

__all__ = ["warp_lanes"]

LANES, SECTOR, BANK = 32, 32, 4


def warp_lanes(indices, itemsize, space="global", title="", axes=None):
    """Draw where 32 lanes' elements lie.

    Parameters
    ----------
    indices : sequence of 32 int
        Element that each lane asks for.
    itemsize : int
        Bytes of an element.
    space : str
        ``"global"``: lanes joined to the sectors of 32 bytes they touch; ``"shared"``: the words that each of the 32
        banks has to serve, stacked.
    title : str
    axes : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    if len(indices) != LANES or min(indices) < 0:
        raise ValueError(f"a warp has {LANES} lanes, each with an index of 0 or more; this has {len(indices)}")
    addresses = [index * itemsize for index in indices]
    with style():
        axes = axes or new_figure(8.6, 2.6).subplots()
        for lane in range(LANES):
            axes.add_patch(Rectangle((lane + 0.08, 3), 0.84, 0.5, color="#3a4250"))
            if lane % 4 == 0 or lane == LANES - 1:
                axes.annotate(str(lane), (lane + 0.5, 3.62), ha="center", fontsize=7.5, color=INK)
        bottom = (_sectors if space == "global" else _banks)(axes, addresses, itemsize)
        axes.set(xlim=(0, LANES), ylim=(bottom - 0.5, 4), title=title)
        axes.set_axis_off()
    return axes


def _sectors(axes, addresses, itemsize):
    """Draw the touched sectors in address order, with the bytes that are asked for filled."""
    sectors = sorted({address // SECTOR for address in addresses})
    pitch = min(4.0, LANES / len(sectors))
    left = {sector: (LANES - pitch * len(sectors)) / 2 + i * pitch for i, sector in enumerate(sectors)}
    for sector in sectors:
        axes.add_patch(Rectangle((left[sector] + 0.05 * pitch, 0.6), 0.9 * pitch, 0.6, facecolor="#f6f7f9",
                                 edgecolor="#5d6571", linewidth=0.7))
    for lane, address in enumerate(addresses):
        x = left[address // SECTOR] + pitch * (0.05 + 0.9 * (address % SECTOR) / SECTOR)
        width = 0.9 * pitch * itemsize / SECTOR
        axes.add_patch(Rectangle((x, 0.6), width, 0.6, facecolor=LOAD, edgecolor="white", linewidth=0.3))
        axes.plot([lane + 0.5, x + width / 2], [2.95, 1.25], color="#5d6571", linewidth=0.6)
    axes.annotate(f"{len(sectors)} sectors of {SECTOR} bytes", (0, 0.1), fontsize=8.5, color=INK)
    return 0


def _banks(axes, addresses, itemsize):
    """Draw the distinct words of each bank, one below the other."""
    banks = [[] for _ in range(LANES)]
    for lane, address in enumerate(addresses):
        for word in range(address // BANK, (address + itemsize - 1) // BANK + 1):
            if word not in banks[word % LANES]:
                banks[word % LANES].append(word)
            axes.plot([lane + 0.5, word % LANES + 0.5], [2.95, 1.75], color="#5d6571", linewidth=0.5)
    high = min(0.45, 3.2 / max(map(len, banks)))
    for bank, words in enumerate(banks):
        for depth in range(len(words)):
            axes.add_patch(Rectangle((bank + 0.08, 1.7 - (depth + 1) * high), 0.84, 0.86 * high,
                                     color=STORE if depth else LOAD))
    bottom = 1.5 - high * max(map(len, banks))
    axes.annotate("32 banks of 4 bytes; each row below the first is one more pass", (0, bottom - 0.3), fontsize=8.5,
                  color=INK)
    return bottom
