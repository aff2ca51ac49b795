"""What linear attention remembers: decays of its heads, and the weights of its tokens beside softmax's."""

import numpy as np

from minikernels.figures import new_figure
from minikernels.figures.style import INK
from minikernels.gallery.look import SERIES, SIGNED, WHITE_BLUE, by_powers, panel
from minikernels.gallery.plate import Plate
from minikernels.gallery.text import activations
from minikernels.linear_attention import slopes

TECHNIQUES = ("linear_attention",)
BESIDE = "Qin et al. 2024 (Lightning Attention-2): attention with decay, and its state"
TOKENS = 96
DISTANCES = 2 ** np.arange(0, 11)
DRAWN = 4  # heads whose decay is named


def plate(sources):
    """Return the plate: decay against distance by head, and two maps of weights."""
    x, origin = activations("mha", TOKENS)
    H = x.q.shape[1]
    rate = slopes(H).astype(np.float64)
    scores = x.q[0].astype(np.float64) @ x.k[0].swapaxes(-1, -2) * x.q.shape[3] ** -0.5
    seen = np.tril(np.ones((TOKENS, TOKENS), bool))
    soft = np.where(seen, np.exp(scores - np.where(seen, scores, -np.inf).max(-1, keepdims=True)), 0)
    soft /= soft.sum(-1, keepdims=True)
    negative = (scores[:, seen] < 0).mean(axis=1)
    head = int(H // 3 + np.argmin(np.abs(negative[H // 3 :] - 0.5)))  # shows both signs
    far = np.subtract.outer(np.arange(TOKENS), np.arange(TOKENS))
    linear = np.where(seen, scores[head] * np.exp(-rate[head] * np.maximum(far, 0)), 0)
    lives = np.log(2) / rate
    caption = (
        f"Left: what is left of a token after so many others, for the {H} heads of a layer with Lightning Attention's "
        f"slopes: half-lives from {lives[0]:.1f} to {lives[-1]:.0f} tokens. Middle and right: the weight of every "
        f"token (column) in every output (row) of head {head}, by softmax and by decayed products q k with half-life "
        f"{lives[head]:.0f}, which may be negative (orange) and are not normalised.")
    alt = (f"Left, {H} falling curves of decay against distance from 1 to {DISTANCES[-1]:,} tokens, the first head's "
           "steepest. Middle, a triangular map of softmax weights with bright columns; right, the same triangle for "
           "linear attention, fading away from the diagonal.")
    provenance = (f"Slopes of linear_attention.slopes({H}); q and k of {origin}; the model was trained with softmax, "
                  "and the map on the right shows the form of the weights, not a trained linear model.")
    return Plate("What a decaying state remembers", lambda: draw(rate, soft[head], linear), caption, alt, provenance)


def draw(rate, soft, linear):
    """Draw the decays and both maps."""
    figure = new_figure(9.0, 3.3)
    left, *maps = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
    named = np.linspace(0, len(rate) - 1, DRAWN).round().astype(int)
    distance = np.geomspace(1, DISTANCES[-1], 200)
    for head, slope in enumerate(rate):
        place = list(named).index(head) if head in named else None
        colour, _, dashes = SERIES[place] if place is not None else ("#c9ced6", "", "-")
        left.plot(distance, np.exp(-slope * distance), color=colour, linestyle=dashes, zorder=2 + (place is not None),
                  linewidth=1.8 if place is not None else 1)
        if place is not None:
            left_over = 0.25 + 0.2 * place
            left.annotate(f"head {head}", (-np.log(left_over) / slope, left_over), (4, 0), va="center", color=colour,
                          textcoords="offset points", fontsize=8.5)
    by_powers(left, DISTANCES[::2])
    left.set(xlabel="tokens that came after", ylabel="share that is left", ylim=(0, 1.03))
    panel(left, "decay by head")
    most = np.percentile(np.abs(linear), 99.5)
    for axes, weights, limits, cmap, heading in (
            (maps[0], np.sqrt(soft), (0, 1), WHITE_BLUE, "softmax attention"),
            (maps[1], linear, (-most, most), SIGNED, "linear attention")):
        axes.imshow(weights, cmap=cmap, vmin=limits[0], vmax=limits[1], interpolation="none")
        axes.set(xlabel="token s", xticks=[0, 32, 64, 95], yticks=[0, 32, 64, 95])
        panel(axes, heading)
    maps[0].set_ylabel("output t", color=INK)
    maps[1].set_yticks([])
    return figure
