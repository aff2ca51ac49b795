"""Which blocks each pattern keeps, over the attention of a trained model."""

import numpy as np

from minikernels.block_sparse import distill, patterns
from minikernels.figures import block_mask, new_figure
from minikernels.figures.style import INK
from minikernels.gallery.look import panel
from minikernels.gallery.plate import Plate, joined, percent
from minikernels.gallery.text import activations

TECHNIQUES = ("block_sparse",)
BESIDE = "Zaheer et al. 2020 (BigBird), the building blocks of its attention; Gao et al. 2024 (SeerAttention)"
TOKENS, BLOCK = 512, (16, 16)
KEPT = 6  # blocks of a row, or about as many


def plate(sources):
    """Return the plate: six masks of about the same density."""
    x, origin = activations("mha", TOKENS)
    p = distill.probabilities(x.q, x.k, causal=True)
    mass = distill.block_mass(p, BLOCK)
    head = int(np.argmax(far(mass[0])))
    T = x.q.shape[2]
    sizes = {"block": BLOCK}
    masks = {
        "local": patterns.local(T, T, window=(KEPT - 1) * BLOCK[1], **sizes),
        "strided": patterns.strided(T, T, window=2 * BLOCK[1], stride=6 * BLOCK[1], **sizes),
        "BigBird": patterns.bigbird(T, T, window=2 * BLOCK[1], anchors=BLOCK[1], extra=4, **sizes),
        "first and newest": patterns.streaming(T, T, sinks=BLOCK[1], window=(KEPT - 2) * BLOCK[1], **sizes),
        "pooled scores": patterns.from_gate(x.q, x.k, top_k=KEPT, **sizes),
        "most attention": patterns.best(mass, T, T, BLOCK, top_k=KEPT),
    }
    seen = np.tril(np.ones(mass.shape[2:], bool))
    planes = {name: mask[0, min(head, mask.shape[1] - 1)] for name, mask in masks.items()}
    kept = {name: mass[0, head][plane & seen].sum() / mass[0, head][seen].sum() for name, plane in planes.items()}
    caption = (f"A row is {BLOCK[0]} queries, a column {BLOCK[1]} keys; blue blocks are kept, the darker the more "
               "attention lies in them, and grey ones dropped. Attention that each pattern keeps in this head: "
               f"{joined(f'{name} {percent(share)}' for name, share in kept.items())}. The last looks at all of "
               "attention first, and is the best that its number of blocks can do.")
    alt = (f"Six square masks under a diagonal: {joined(planes)}. Blue cells along the diagonal in all of them; the "
           "first four are regular, the last two follow where the model looks.")
    provenance = f"Head {head} of {origin}; {TOKENS} tokens, blocks of {BLOCK[0]} x {BLOCK[1]}, causal."
    return Plate("Six ways to keep a few blocks", lambda: draw(mass[0, head], planes, seen, kept), caption, alt,
                 provenance)


def far(mass):
    """Return each head's attention far from the diagonal: where patterns differ."""
    n = mass.shape[-1]
    away = np.subtract.outer(np.arange(n), np.arange(n)) > 2
    return (mass[..., 1:][..., away[:, 1:]]).sum(axis=-1)


def draw(mass, planes, seen, kept):
    """Draw the masks in two rows."""
    figure = new_figure(8.2, 5.6)
    for axes, (name, plane) in zip(figure.subplots(2, 3, sharex=True, sharey=True).flat, planes.items()):
        block_mask(mass, plane & seen, seen, axes)
        axes.get_legend().remove()
        share = (plane & seen).sum() / seen.sum()
        panel(axes, name)
        axes.annotate(f"{share:.0%} of the blocks\n{kept[name]:.0%} of attention", (1, 0.97), ha="right", va="top",
                      xycoords="axes fraction", fontsize=8.5, color=INK)
        axes.collections[0].set_rasterized(True)
        axes.set(xlabel="", ylabel="", xticks=range(0, len(mass) + 1, 8), yticks=range(0, len(mass) + 1, 8))
        axes.set_ylim(len(mass), 0)
    figure.supxlabel("blocks of keys", fontsize=9.5)
    figure.supylabel("blocks of queries", fontsize=9.5)
    return figure
