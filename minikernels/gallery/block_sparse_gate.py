"""How much attention lies in the blocks that a gate chooses, and what the text costs with no others."""

import numpy as np

from minikernels.figures import new_figure
from minikernels.gallery.look import GREY, look, name_lines, panel
from minikernels.gallery.plate import Plate, joined, percent

TECHNIQUES = ("block_sparse",)
BESIDE = "Gao et al. 2024 (SeerAttention): recall and perplexity against sparsity"
SHORT = {"mass": "most attention", "gate": "gate, by mass", "gate_max": "gate, by largest", "pooled": "untrained",
         "local": "newest"}


def plate(sources):
    """Return the plate: recall and bits per byte against density, for each way to choose."""
    found = sources.document("gate")
    densities = found["densities"]
    recall = {choice: np.mean([layer[choice] for layer in found["recall"].values()], axis=0)
              for choice in found["choices"]}
    bits = {choice: found["bits_per_byte"][choice] for choice in found["choices"]}
    dense, least = found["bits_per_byte"]["dense"], len(densities) - 1
    gates = [choice for choice in bits if choice.startswith("gate")]
    cheap = min(bits, key=lambda choice: bits[choice][least])
    lowest = min(recall, key=lambda choice: recall[choice][least])
    best = min(gates, key=lambda choice: bits[choice][least])
    caption = (
        "Left: the share of attention that lies in the kept blocks, a mean over layers. Right: what the text costs "
        f"when attention has no others; dense attention costs {dense:.3f} bits a byte. At density "
        f"{densities[least]:g} the {SHORT[best]} keeps {percent(recall[best][least])} of attention for "
        f"{bits[best][least]:.3f} bits; the newest blocks alone {percent(recall['local'][least])} for "
        f"{bits['local'][least]:.3f}; the blocks with the most attention, known only afterwards, "
        f"{bits['mass'][least]:.3f}.")
    alt = (f"Two panels against density {joined(f'{d:g}' for d in densities)}: recall falls and bits per byte rise as "
           f"blocks are dropped, for {joined(SHORT[choice] for choice in recall)}. At the lowest density recall is "
           f"least for {SHORT[lowest]}, and the text is cheapest for {SHORT[cheap]}.")
    about, (R, C) = found["provenance"], found["block"]
    held = about["held_out"]
    provenance = (f"Tiny model {found['model']['name']}, blocks of {R} x {C}, {held['texts']} held-out texts of "
                  f"{held['bytes'] // held['texts']:,} bytes, {about['date']}; {about['made_by']}.")
    return Plate("Which blocks can be left out?", lambda: draw(densities, recall, bits, dense), caption, alt,
                 provenance)


def draw(densities, recall, bits, dense):
    """Draw recall and cost against density, few blocks on the right."""
    figure = new_figure(8.2, 3.7)
    left, right = figure.subplots(1, 2)
    for axes, lines in ((left, {c: 100 * y for c, y in recall.items()}), (right, bits)):
        for choice, ys in lines.items():
            axes.plot(densities, ys, label=SHORT[choice], **look(choice, SHORT))
        axes.set_xscale("log", base=2)
        axes.set_xticks(densities, [f"{d:g}" for d in densities])
        axes.minorticks_off()
        axes.invert_xaxis()
        axes.set_xlabel("density: share of blocks kept")
        axes.grid(axis="y")
    panel(left, "attention that lies in them").set_ylabel("recall in %")
    panel(right, "what the text costs").set_ylabel("bits per byte")
    right.axhline(dense, color=GREY, linewidth=1.3, linestyle=(0, (4, 3)))
    right.annotate("dense", (densities[0], dense), (0, 4), textcoords="offset points", fontsize=8.5, color=GREY)
    figure.draw_without_rendering()
    for axes in (left, right):
        name_lines(axes)
    return figure
