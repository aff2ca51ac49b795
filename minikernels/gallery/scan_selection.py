"""What a Mamba layer selects: how long each byte's step is, and how long a channel remembers."""

import numpy as np

from minikernels.figures import new_figure
from minikernels.figures.style import INK
from minikernels.gallery.look import BLUE, VERMILLION, panel
from minikernels.gallery.plate import Plate
from minikernels.gallery.text import loaded, sample

TECHNIQUES = ("selective_scan",)
BESIDE = "Gu and Dao 2023 (Mamba): selective copying, and what the step size means"
MODEL, SHOWN, READ = "hybrid", 72, 512
HALF = np.log(2)


def plate(sources):
    """Return the plate: step sizes over a piece of text, and half-lives of all channels."""
    tiny = loaded(MODEL)
    layer = max(i for i, kind in enumerate(tiny.config.layers) if kind == "mamba")
    text, file = sample(READ)
    x = tiny.activations(text, layer)
    step = np.logaddexp(0, x.delta[0].astype(np.float64) + x.delta_bias)  # softplus, (T, E)
    relative = step / np.median(step, axis=0)
    varied = np.argsort(-np.std(np.log(relative), axis=0))[:8]  # the channels that select most
    mean = np.exp(np.log(relative[:, varied]).mean(axis=1))
    life = HALF / (np.median(step, axis=0)[:, None] * -x.a)  # (E, N) tokens until half is left
    start = len(text) - SHOWN
    piece, heights = text[start:].decode("ascii", "replace"), mean[start:]
    high = "".join(dict.fromkeys(shown(piece[i]) for i in np.argsort(-heights)[:6]))
    spread = np.percentile(life, (5, 50, 95))
    caption = (
        "Left: the step of each byte, as a multiple of the channel's median step, the geometric mean of the "
        f"{len(varied)} channels that vary most. A long step forgets the state and writes the byte; a short one "
        f"passes it over. The longest here are at {', '.join(high)}. Right: after how many bytes half of a state is "
        f"left, at the median step: half of all {life.size:,} states have more than {spread[1]:.1f}, one in twenty "
        f"more than {spread[2]:,.0f}.")
    alt = (f"Left, a bar for each of {SHOWN} bytes of source text, from {heights.min():.2f} to {heights.max():.2f} "
           "times the median, the byte written below it. Right, a histogram of half-lives on a logarithmic axis with "
           f"a single broad hump around {spread[1]:.0f} bytes.")
    provenance = (f"Layer {layer} of the tiny model {MODEL} reading {READ} bytes of Python's {file}; the last {SHOWN} "
                  "are shown.")
    return Plate("What a state takes in, and how long it keeps it", lambda: draw(piece, heights, life), caption, alt,
                 provenance)


def shown(letter):
    """Return a character as a reader sees it."""
    return {" ": "␣", "\n": "↵", "\t": "→"}.get(letter, letter)


def draw(piece, heights, life):
    """Draw the steps under their bytes, in two lines, and the histogram."""
    figure = new_figure(8.6, 3.8)
    strips, chart = figure.subfigures(1, 2, width_ratios=(2.1, 1))
    rows, wide = 2, -(-len(piece) // 2)
    for row, axes in enumerate(strips.subplots(rows, 1, sharey=True)):
        part = slice(row * wide, (row + 1) * wide)
        letters, tall = piece[part], heights[part]
        axes.bar(range(len(tall)), tall - 1, bottom=1, width=0.8, color=[VERMILLION if y > 1 else BLUE for y in tall])
        axes.axhline(1, color=INK, linewidth=0.8)
        axes.set(xlim=(-0.6, wide - 0.4), yscale="log", ylabel="step / median")
        axes.set_yticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
        axes.minorticks_off()
        axes.set_ylim(heights.min() / 1.2, heights.max() * 1.2)
        axes.set_xticks(range(len(letters)), [shown(c) for c in letters], fontfamily="monospace", fontsize=9)
        axes.tick_params(axis="x", length=0, pad=2)
    panel(strips.axes[0], "how long a step each byte is")
    axes = chart.subplots()
    edges = np.geomspace(life.min(), life.max(), 40)
    axes.hist(life.ravel(), edges, color=BLUE, edgecolor="white", linewidth=0.4)
    axes.set(xscale="log", xlabel="half-life in bytes of text", ylabel="states")
    axes.set_xticks([0.1, 1, 10, 100, 1000, 10_000], ["0.1", "1", "10", "100", "1k", "10k"])
    axes.minorticks_off()
    panel(axes, "how long it is kept")
    return figure
