"""The size of a tile and the order of two loops: what each makes of the bytes that cross HBM."""

from minikernels.figures import new_figure
from minikernels.figures.style import INK
from minikernels.flash import traffic
from minikernels.gallery.look import GREY, by_powers, in_bytes, name_lines, series
from minikernels.gallery.plate import Plate, times

TECHNIQUES = ("flash",)
BESIDE = "Dao et al. 2022, figure 2 (middle)"
BLOCKS = (16, 32, 64, 128, 256, 512)
SIZES = {"B": 1, "H": 16, "G": 16, "T": 8192, "S": 8192, "D": 64, "itemsize": 2, "causal": False}


def plate(sources):
    """Return the plate: closed forms of both loop orders over the tile's size."""
    def bytes_of(form, **tile):
        return form(**SIZES, **tile).hbm_bytes

    forms = {"keys outside (FlashAttention)": traffic.tiled_keys_outside,
             "queries outside (FlashAttention-2)": traffic.tiled}
    lines = {name: [bytes_of(form, block_t=n, block_s=n) for n in BLOCKS] for name, form in forms.items()}
    standard = bytes_of(traffic.reference)
    once = 4 * SIZES["B"] * SIZES["H"] * SIZES["T"] * SIZES["D"] * SIZES["itemsize"]
    outer, inner = (points[BLOCKS.index(128)] for points in lines.values())
    caption = (
        "Larger tiles, fewer bytes: with the queries' loop outside, a tile twice as large halves what is read of k "
        "and v. With the keys' loop outside the running state (o, m, l) of every row crosses HBM both ways once a "
        f"tile of keys: at tiles of 128, {in_bytes(outer)} against {in_bytes(inner)}, {times(outer / inner)} as much. "
        f"Standard attention, with scores in HBM, moves {in_bytes(standard)}; q, k, v and o alone are "
        f"{in_bytes(once)}.")
    alt = (f"Bytes against rows of a tile from {BLOCKS[0]} to {BLOCKS[-1]}, both logarithmic: two falling lines, keys "
           "outside above queries outside; horizontal lines mark standard attention and the least there can be.")
    sizes = " ".join(f"{letter}{SIZES[letter]}" for letter in "BHTSD")
    provenance = f"Closed forms tiled, tiled_keys_outside and reference of flash.traffic: {sizes}, float16, no mask."
    return Plate("How large a tile, and which loop outside?", lambda: draw(lines, standard, once), caption, alt,
                 provenance)


def draw(lines, standard, once):
    """Draw both orders between two horizontal lines."""
    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    for number, (name, points) in enumerate(lines.items()):
        axes.plot(BLOCKS, points, label=name, **series(number))
    for level, name, dashes in ((standard, "standard: scores in HBM", (5, 3)), (once, "q, k, v, o once", (1, 2))):
        axes.plot([BLOCKS[0], BLOCKS[-1]], [level, level], color=INK if dashes[0] > 1 else GREY, linewidth=1.4,
                  linestyle=(0, dashes), label=name)
    axes.set_yscale("log")
    by_powers(axes, BLOCKS, short=False)
    axes.yaxis.set_major_formatter(in_bytes)
    axes.minorticks_off()
    axes.set(xlabel="rows of a tile of queries and of keys", ylabel="bytes asked of HBM")
    axes.margins(y=0.1)
    axes.grid(axis="y")
    figure.draw_without_rendering()
    name_lines(axes)
    return figure
