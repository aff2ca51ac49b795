"""What fewer key/value heads save in a trained model's cache, and what they cost it."""

import numpy as np

from minikernels.figures import new_figure
from minikernels.gallery.look import by_powers, in_bytes, look, name_lines, panel
from minikernels.gallery.plate import Plate, joined, percent

TECHNIQUES = ("gqa",)
BESIDE = "Ainslie et al. 2023 (GQA): quality by way of conversion, and quality against time"
ITEM = 2  # bytes of a number in the cache: float16
WORDS = {"aligned": "aligned, then mean", "mean": "mean", "first": "first head", "random": "random heads"}


def plate(sources):
    """Return the plate: bits per byte of converted models against the bytes of a token's keys and values."""
    from minikernels import model

    recorded = sources.document("conversions")
    config = model.load(recorded["from"]).config
    context = str(config.context)
    lines = {kind: {} for kind in ("converted", "uptrained")}
    for row in recorded["rows"]:
        for kind, found in lines.items():
            if context in row.get(kind, {}):
                found.setdefault(row["method"], []).append((bytes_of(row["G"], config.D), row[kind][context]))
    whole = bytes_of(config.H, config.D)
    best = min(recorded["rows"], key=lambda row: (row["G"], row.get("uptrained", {}).get(context, 99)))
    lowest = min(lines["uptrained"], key=lambda name: np.mean([bits for _, bits in lines["uptrained"][name]]))
    partly = [WORDS.get(name, name) for name, points in lines["converted"].items()
              if len(lines["uptrained"].get(name, [])) < len(points)]
    made = recorded["made_with"]
    caption = (
        f"Converting a trained model with {config.H} key/value heads to fewer. Left, straight after the conversion: "
        f"the text costs {span(lines['converted'])} bits a byte. \"Aligned\" heads were turned towards each other, "
        f"which changes nothing but their mean. Right, after another {percent(recorded['share_of_steps'])} of the "
        f"training steps: with G={best['G']} ({in_bytes(bytes_of(best['G'], config.D))} a token and layer instead of "
        f"{in_bytes(whole)}) the text costs {best['uptrained'][context]:.3f} bits a byte; over all G "
        f"{WORDS.get(lowest, lowest)} costs least."
        + (f" Not trained on at every G: {joined(partly)}." if partly else ""))
    alt = (f"Two panels of bits per byte against cache bytes of a token, {in_bytes(whole)} and less. Before training "
           f"the costs lie between {span(lines['converted'])} bits and rise as heads are removed; after it between "
           f"{span(lines['uptrained'])}, with {WORDS.get(lowest, lowest)} lowest.")
    provenance = (f"Tiny model {recorded['from']} (H={config.H}, D={config.D}), contexts of {config.context:,} "
                  f"held-out bytes; trained on an {made['device']}, {made['date']}; model/recorded/conversions.json.")
    return Plate("What fewer key/value heads save, and what they cost", lambda: draw(lines), caption, alt, provenance)


def bytes_of(G, D):
    """Return the bytes of one token's keys and values in a layer."""
    return 2 * G * D * ITEM


def span(lines):
    """Return the least and the greatest cost of some lines, in words."""
    costs = [bits for points in lines.values() for _, bits in points]
    return f"{min(costs):.2f} and {max(costs):.2f}"


def draw(lines):
    """Draw both panels; each has its own scale, for training on takes most of the cost away."""
    figure = new_figure(8.2, 3.6)
    headings = {"converted": "converted, not trained on", "uptrained": "converted and trained on"}
    for axes, (kind, found) in zip(figure.subplots(1, 2), lines.items()):
        for method, points in found.items():
            xs, ys = zip(*sorted(points, reverse=True))
            axes.plot(xs, ys, label=WORDS.get(method, method), **look(method, WORDS))
        by_powers(axes, [x for points in found.values() for x, _ in points], short=False)
        axes.invert_xaxis()
        axes.set(xlabel="key/value cache in bytes a token and layer", ylabel="bits per byte of text")
        axes.margins(y=0.12)
        panel(axes, headings[kind])
        figure.draw_without_rendering()
        name_lines(axes)
    return figure
