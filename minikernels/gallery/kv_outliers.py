"""Why keys share a scale by channel and values by token: the size of every number in a head's cache."""

import numpy as np

from minikernels.figures import new_figure
from minikernels.gallery.look import BLUE, WHITE_BLUE, panel
from minikernels.gallery.plate import Plate, times
from minikernels.gallery.text import activations

TECHNIQUES = ("kv_compression",)
BESIDE = "Liu et al. 2024 (KIVI): magnitudes of the key and value cache"
TOKENS, BITS, GROUP = 256, 4, 64


def plate(sources):
    """Return the plate: |k| and |v| of one head, tokens by channels, and the error of rounding either way."""
    from minikernels.model.approximations import round_to_bits

    x, origin = activations("mha", TOKENS)
    sizes = np.abs(x.k[0]).mean(axis=1)
    head = int(np.argmax(sizes.max(axis=1) / np.median(sizes, axis=1)))
    k, v = x.k[:, head : head + 1], x.v[:, head : head + 1]
    errors = {name: [rms(round_to_bits(a, BITS, axis, min(GROUP, a.shape[3] if axis == "token" else TOKENS)), a)
                     for axis in ("channel", "token")] for name, a in (("keys", k), ("values", v))}
    outlier = sizes[head].max() / np.median(sizes[head])
    flat = np.abs(v[0, 0]).mean(axis=0)
    caption = (
        "The magnitude of every key and value that one head keeps. A few channels of the keys are large in every "
        f"token, the largest {times(outlier)} the middle one: a scale shared along a token would be theirs. Among the "
        f"values the largest channel is {times(flat.max() / np.median(flat))} the middle one. Rounded to {BITS} bits, "
        f"keys lose {100 * errors['keys'][0]:.1f} % (root mean square) by channel and {100 * errors['keys'][1]:.1f} % "
        f"by token, values {100 * errors['values'][0]:.1f} % and {100 * errors['values'][1]:.1f} %.")
    alt = ("Two heat maps, tokens downwards and channels to the right, each with the mean of its channels as bars "
           "above. The keys' map has dark vertical stripes, the values' map is even.")
    provenance = f"Head {head} of {origin}; groups of {GROUP} tokens by channel, of the head's width by token."
    return Plate("A few channels of the keys are large", lambda: draw(k[0, 0], v[0, 0]), caption, alt, provenance)


def rms(rounded, x):
    """Return the root mean square error of rounding, relative to the numbers' own."""
    return float(np.sqrt(np.mean((rounded - x) ** 2) / np.mean(x**2)))


def draw(k, v):
    """Draw both maps on one scale of colour, their channels' means above."""
    figure = new_figure(8.2, 4.6)
    axes = figure.subplots(2, 2, sharex="col", sharey="row", height_ratios=(1, 2.6))
    most = float(np.percentile(np.abs(k), 99.5))
    tallest = np.abs(k).mean(axis=0).max()
    for column, (name, x) in enumerate((("keys", k), ("values", v))):
        top, below = axes[:, column]
        top.bar(range(x.shape[1]), np.abs(x).mean(axis=0), color=BLUE, width=0.8)
        top.set(ylim=(0, 1.05 * tallest))
        top.tick_params(axis="x", length=0)
        panel(top, f"{name}: mean size of each channel")
        image = below.imshow(np.abs(x), cmap=WHITE_BLUE, vmin=0, vmax=most, aspect="auto", interpolation="none")
        below.set(xlabel="channel", xticks=range(0, x.shape[1], 8))
    axes[0, 0].set_ylabel("mean size")
    axes[1, 0].set_ylabel("token")
    bar = figure.colorbar(image, ax=list(axes[1]), shrink=0.9, pad=0.01)
    bar.set_label("size of a number")
    bar.outline.set_visible(False)
    return figure
