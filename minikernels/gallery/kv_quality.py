"""What a text costs against the bytes of the cache, for every way to keep fewer of them."""

import re

from minikernels.figures import new_figure
from minikernels.figures.style import INK
from minikernels.gallery.look import GREY, in_bytes, series
from minikernels.gallery.plate import Plate, percent

TECHNIQUES = ("kv_compression",)
BESIDE = "Xiao et al. 2023 (StreamingLLM): perplexity by kind of cache; KIVI's tables; DMC's compression ratios"
FAMILIES = {"int": "fewer bits", "streaming": "first and newest", "heavy": "heavy hitters", "DMC": "merged, untrained"}
ROOM = 1.3  # times the exact model's cost: beyond it a point stands in the upper, squeezed part


def plate(sources):
    """Return the plate: bits per byte against bytes, a line for each family of methods."""
    found = sources.document("compression")
    rows = found["rows"]
    exact = next(row for row in rows if row["method"] == "float16")
    lines = {}
    for row in rows:
        for start, name in FAMILIES.items():
            if row["method"].startswith(start):
                lines.setdefault(name, []).append((row["bytes"], row["bits_per_byte"], short(row["method"])))
    small = min((row for row in rows if row["bits_per_byte"] <= 1.01 * exact["bits_per_byte"]),
                key=lambda row: row["bytes"])
    worst = max(rows, key=lambda row: row["bits_per_byte"])
    int4 = next((row for row in rows if row["method"].startswith("int4")), small)
    caption = (
        "Every way was given the same text. Whole, in 16 bits, the caches of all layers take "
        f"{in_bytes(exact['bytes'])} and the text costs {exact['bits_per_byte']:.4g} bits a byte. In 4 bits they take "
        f"{percent(int4['bytes'] / exact['bytes'])} of that for {int4['bits_per_byte']:.4g}. The smallest cache "
        f"within one per cent of the exact cost: {small['method']}, {in_bytes(small['bytes'])}. Dearest: "
        f"{worst['method']}, {worst['bits_per_byte']:.3g} bits; Dynamic Memory Compression trains a model to decide "
        "what is merged, and this one was not. The upper part of the chart has another scale.")
    alt = (f"Bits per byte against bytes of cache, {len(rows)} points in {len(lines)} families. The whole cache costs "
           f"{exact['bits_per_byte']:.2f}, marked by a dashed line; the dearest, {worst['method']}, "
           f"{worst['bits_per_byte']:.2f}, in a part of the chart with its own scale.")
    about = found["model"]
    provenance = (f"Tiny model {about['name']}, all layers, after {about['context']:,} bytes of held-out text, mean of "
                  f"{found['windows']} windows, {found['date']}; {found['made_by']}.")
    return Plate("What a smaller cache costs", lambda: draw(lines, exact), caption, alt, provenance)


def short(method):
    """Return what stands beside a method's point: its bits, for those that round; one of 4 bits stands for all."""
    bits = re.match(r"int(\d+), keys by channel$", method)
    return f"{bits[1]} bits" if bits else ""


def draw(lines, exact):
    """Draw two parts of one chart: the costs that differ little, and above them those that are off their scale."""
    figure = new_figure(7.2, 4.8)
    limit = ROOM * exact["bits_per_byte"]
    high = [bits for points in lines.values() for _, bits, _ in points if bits > limit]
    parts = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.4)) if high else [figure.subplots()]
    upper, lower = parts[0], parts[-1]
    for axes in parts:
        for number, points in enumerate(lines.values()):
            xs, ys, _ = zip(*sorted(points))
            look = series(number) | ({"linestyle": "none"} if "int4" in str(points) else {})
            axes.plot(xs, ys, label="_", **look)
        axes.plot(exact["bytes"], exact["bits_per_byte"], marker="*", color=INK, markersize=12, linestyle="none")
        axes.axhline(exact["bits_per_byte"], color=GREY, linewidth=1.1, linestyle=(0, (4, 3)), zorder=0)
    kept = [bits for points in lines.values() for _, bits, _ in points if bits <= limit]
    low, top = min(*kept, exact["bits_per_byte"]), max(*kept, exact["bits_per_byte"])
    lower.set_ylim(low - 0.12 * (top - low), top + 0.12 * (top - low))
    if high:
        upper.set_ylim(limit, 1.08 * max(high))
        upper.spines["bottom"].set_visible(False)
        upper.tick_params(axis="x", length=0)
        for axes, y in ((upper, 0), (lower, 1)):
            axes.plot([0], [y], marker=[(-1, -0.6), (1, 0.6)], markersize=9, color=GREY, transform=axes.transAxes,
                      clip_on=False, linestyle="none", markeredgewidth=1.2)
    lower.set_xscale("log", base=2)
    sizes = sorted({exact["bytes"] // 2**n for n in range(4)})
    lower.set_xticks(sizes, [in_bytes(size) for size in sizes])
    lower.minorticks_off()
    lower.set_xlim(sizes[0] / 1.9, sizes[-1] * 1.4)
    lower.set_xlabel("bytes of all layers' caches")
    figure.supylabel("bits per byte of text", fontsize=9.5)
    named(parts, lines, exact)
    return figure


def named(parts, lines, exact):
    """Write each family's name beside the smallest cache of it that a part shows; bits stand below their points."""
    for number, (family, points) in enumerate(lines.items()):
        colour = series(number)["color"]
        for axes in parts:
            low, high = axes.get_ylim()
            inside = sorted(point for point in points if low <= point[1] <= high)
            words = [point for point in inside if point[2]]
            for x, y, text in words:
                axes.annotate(text, (x, exact["bits_per_byte"] if y > exact["bits_per_byte"] else y), (0, -15),
                              textcoords="offset points", ha="center", fontsize=8.5, color=colour)
            if inside and not words:
                axes.annotate(family, inside[0][:2], (-8, 0), textcoords="offset points", ha="right", va="center",
                              fontsize=8.5, color=colour)
                break  # once is enough
    parts[-1].annotate("16 bits, whole", (exact["bytes"], exact["bits_per_byte"]), (0, -15), ha="center",
                       textcoords="offset points", fontsize=8.5, color=INK)
