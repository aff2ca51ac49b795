"""Which tokens a cache of fixed size keeps: the first and the newest, or those that attention has turned to."""

import numpy as np

from minikernels.figures import new_figure
from minikernels.gallery.look import panel
from minikernels.gallery.plate import Plate, joined, percent
from minikernels.gallery.text import activations
from minikernels.kv_compression import evict

TECHNIQUES = ("kv_compression",)
BESIDE = "Xiao et al. 2023 (StreamingLLM): kinds of attention compared; Zhang et al. 2023 (H2O)"
TOKENS, KEPT, SINKS = 192, 48, 4


def plate(sources):
    """Return the plate: kept tokens after every step, and the attention that lies in them."""
    x, origin = activations("mha", TOKENS)
    p = attention(x.q, x.k)
    head = int(np.argmax(late(p)))
    streaming = np.zeros((TOKENS, TOKENS), bool)
    for t in range(TOKENS):
        streaming[t, evict.streaming(t + 1, recent=KEPT - SINKS, sinks=SINKS)] = True
    heavy = hitters(p[head])
    masks = {"everything": np.tril(np.ones((TOKENS, TOKENS), bool)), "first and newest": streaming,
             "heavy hitters and newest": heavy}
    kept = {name: float((p[head] * mask).sum() / TOKENS) for name, mask in masks.items()}
    first = float(p[:, KEPT:, 0].mean())
    rest = {name: share for name, share in kept.items() if name != "everything"}
    caption = (
        "A row is a step, a column a token; blue marks what the cache holds, the darker the more attention it gets "
        f"then. Everything on the left; {KEPT} tokens in the others. Of this head's attention they hold "
        f"{joined(f'{percent(share)} ({name})' for name, share in rest.items())}. The layer's heads give the first "
        f"token {percent(first)} of theirs, on average, once it is {KEPT} tokens away.")
    alt = (f"Three triangular maps of {TOKENS} steps by {TOKENS} tokens. The first is filled below the diagonal; the "
           "second has a band along the diagonal and a narrow stripe of first tokens; the third a narrower band and "
           "vertical stripes wherever a token has gathered attention, some of which end.")
    provenance = f"Head {head} of {origin}; kv_compression.evict, {SINKS} sinks, the heavy hitters' half newest."
    return Plate("Which tokens to keep", lambda: draw(p[head], masks), caption, alt, provenance)


def attention(q, k):
    """Return the probabilities (H, T, T) of causal attention of the first sequence."""
    score = q[0].astype(np.float64) @ np.repeat(k[0], q.shape[1] // k.shape[1], axis=0).swapaxes(-1, -2)
    score = np.where(np.tril(np.ones(score.shape[1:], bool)), score * q.shape[3] ** -0.5, -np.inf)
    return evict.probabilities(score)


def late(p):
    """Return each head's attention to tokens that a window would have lost."""
    far = np.subtract.outer(np.arange(TOKENS), np.arange(TOKENS)) > KEPT
    return (p * far).sum(axis=(1, 2))


def hitters(p):
    """Return which tokens each step holds, when after every step the least attended of the older ones go."""
    mask, held, mass = np.zeros((TOKENS, TOKENS), bool), np.zeros(0, int), np.zeros(0)
    for t in range(TOKENS):
        held, mass = np.append(held, t), np.append(mass, 0.0)
        mask[t, held] = True
        mass = mass + p[t, held] / p[t, held].sum()
        if len(held) > KEPT:
            kept = evict.heavy_hitters(mass[None, None], keep=KEPT // 2, recent=KEPT // 2)[0, 0]
            held, mass = held[kept], mass[kept]
    return mask


def draw(p, masks):
    """Draw what each cache holds, shaded by attention."""
    figure = new_figure(8.8, 3.4)
    strength = np.clip(np.sqrt(p * np.arange(1, TOKENS + 1)[:, None]) / 3, 0, 1)[..., None]
    pale, full = np.array([0.83, 0.90, 0.95]), np.array([0.0, 0.4471, 0.6980])
    for axes, (name, mask) in zip(figure.subplots(1, 3, sharey=True), masks.items()):
        pixels = np.where(mask[..., None], pale + strength * (full - pale), 1.0)
        axes.imshow(pixels, interpolation="none")
        axes.set(xlabel="token", xticks=range(0, TOKENS + 1, 64), yticks=range(0, TOKENS + 1, 64))
        panel(axes, name)
    figure.axes[0].set_ylabel("step")
    return figure
