"""Bytes that cross HBM against the length of the sequence, for every rung of flash, with the paper's bound."""

import numpy as np

from minikernels import catalog
from minikernels.core.limits import SHARED_LIMIT
from minikernels.figures import new_figure
from minikernels.figures.style import INK
from minikernels.flash import traffic
from minikernels.gallery.look import GREY, by_powers, in_bytes, name_lines, series
from minikernels.gallery.plate import Plate, times

TECHNIQUES = ("flash",)
BESIDE = "Dao et al. 2022, theorem 2 and figure 2"
LENGTHS = tuple(2**n for n in range(8, 15))
SIZES = {"B": 1, "H": 16, "G": 16, "D": 64}
HAIR = 0.05
ITEM = 2  # bytes of a number: float16


def plate(sources):
    """Return the plate: closed forms of all rungs, and the asymptotic forms of the paper."""
    rungs = [rung.name for rung in catalog.technique("flash").rungs if rung.kind in ("numba", "raw")]
    lines = {name: [moved(name, T) for T in LENGTHS] for name in rungs if hasattr(traffic, name)}
    B, H, D = (SIZES[letter] for letter in "BHD")
    sram = SHARED_LIMIT // ITEM  # numbers that a block's static shared memory holds
    bound = [B * H * T * T * D * D / sram * ITEM for T in LENGTHS]
    once = [B * H * 4 * T * D * ITEM for T in LENGTHS]
    longest = LENGTHS[-1]
    worst, best = (pick(lines, key=lambda name: lines[name][-1]) for pick in (max, min))
    caption = (
        f"Bytes asked of HBM by every kernel of the ladder, in closed form; all grow as T squared. At {longest:,} "
        f"tokens {worst} moves {in_bytes(lines[worst][-1])}, {best} {in_bytes(lines[best][-1])}: "
        f"{times(lines[worst][-1] / lines[best][-1])} less. The dashed line is T S D D / M, the paper's order for "
        f"tiled attention, with M = {sram:,} numbers of SRAM and no constant; the dotted one is q, k, v and o, each "
        "once.")
    alt = (f"Bytes against T from {LENGTHS[0]:,} to {longest:,}, both logarithmic. {len(lines)} parallel lines, "
           f"{worst} highest and {best} lowest; below them the bound, and the much flatter line of inputs and outputs.")
    sizes = " ".join(f"{letter}{size}" for letter, size in SIZES.items())
    provenance = (f"Closed forms of flash.traffic, {sizes}, float16, no mask, S = T; tests hold them to the SIMT "
                  "machine's counts and to hardware counters.")
    return Plate("Bytes against length, and the paper's bound", lambda: draw(lines, bound, once), caption, alt,
                 provenance)


def moved(name, T):
    """Return the bytes that a rung asks of HBM at one length."""
    return getattr(traffic, name)(**SIZES, T=T, S=T, itemsize=ITEM, causal=False).hbm_bytes


def alike(lines):
    """Return the names in groups whose lines are less than a hair apart: each group is drawn as one line."""
    groups = []
    for name, points in lines.items():
        for group in groups:
            if np.allclose(points, lines[group[0]], rtol=HAIR):
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


def draw(lines, bound, once):
    """Draw all rungs and two references."""
    figure = new_figure(7.2, 4.4)
    axes = figure.subplots()
    for number, names in enumerate(alike(lines)):
        label = ", ".join([names[0], *(name.split("_")[0] for name in names[1:])])
        axes.plot(LENGTHS, lines[names[0]], label=label, **series(number))
    axes.plot(LENGTHS, bound, color=INK, linewidth=1.4, linestyle=(0, (5, 3)), label="T S D² / M: the bound's order")
    axes.plot(LENGTHS, once, color=GREY, linewidth=1.4, linestyle=(0, (1, 2)), label="q, k, v, o once")
    axes.set_yscale("log")
    by_powers(axes, LENGTHS)
    axes.yaxis.set_major_formatter(in_bytes)
    low, high = np.min([bound, once]), max(map(max, lines.values()))
    axes.set(xlabel="sequence length T = S", ylabel="bytes asked of HBM", ylim=(low / 2, high * 2))
    axes.set_yticks(10.0 ** np.arange(np.ceil(np.log10(low / 2)), np.log10(high * 2)))
    axes.minorticks_off()
    axes.grid(axis="y")
    figure.draw_without_rendering()
    name_lines(axes)
    return figure
