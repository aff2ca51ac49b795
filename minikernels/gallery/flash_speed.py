"""The speed of every rung of flash beside the production kernels, for two head widths, with and without a mask."""

from minikernels import catalog
from minikernels.figures import new_figure
from minikernels.figures.style import INK
from minikernels.gallery.look import BLUE, GREEN, ORANGE, VERMILLION, plain
from minikernels.gallery.plate import Plate, percent
from minikernels.gallery.sources import fastest, place, spelled

TECHNIQUES = ("flash",)
BESIDE = "Dao 2023 (FlashAttention-2): forward speed by head width and mask"
LOOKS = (("o", BLUE), ("s", VERMILLION), ("^", GREEN), ("D", ORANGE))


def plate(sources):
    """Return the plate: TFLOP/s of all kernels in the whole-headed cases of the length that has most results."""
    def wanted(result):
        sizes = dict(result.case[0])
        return result.case[1] == "float16" and not result.case[3] and sizes["H"] == sizes["G"]

    recording, results = sources.results("flash", "attention in float16", wanted)
    lengths = [dict(r.case[0])["T"] for r in results]
    most = max(lengths, key=lambda T: (lengths.count(T), T))
    results = [r for r, T in zip(results, lengths, strict=True) if T == most]
    cases = sorted(dict.fromkeys(r.case for r in results), key=lambda case: (dict(case[0])["D"], case[2]))
    cases = cases[: len(LOOKS)]
    rows = {}
    for result in results:
        if result.case in cases and result.tflops > 0:
            rows.setdefault((result.is_peer, result.name), {})[result.case] = result.tflops
    peers = sorted((key for key in rows if key[0]), key=lambda key: max(rows[key].values()))
    order = [(False, rung.name) for rung in catalog.technique("flash").rungs if (False, rung.name) in rows] + peers
    rows = {key: rows[key] for key in order}
    words = []
    for case in cases:
        ours = fastest(r for r in results if r.case == case and not r.is_peer)
        theirs = fastest(r for r in results if r.case == case and r.is_peer)
        if ours and theirs:
            words.append(f"{short(case)}: {ours.name}, {ours.tflops:.3g} TFLOP/s, {percent(theirs.ms / ours.ms)} of "
                         f"{theirs.name}")
    caption = ("The whole ladder on one scale, production kernels below the line. Our fastest beside the fastest: "
               f"{'; '.join(words)}. Masked work counts half.")
    alt = (f"A dot plot: a row for each of {len(rows)} kernels, TFLOP/s to the right on a logarithmic scale, a marker "
           f"for each of {len(cases)} cases. The rungs move right from row to row.")
    rest = spelled(cases[0], "D").replace(" causal", "")
    provenance = f"{place(recording, results)}: {rest}; median of CUDA events, L2 flushed."
    return Plate("The ladder of flash, in TFLOP/s", lambda: draw(rows, cases), caption, alt, provenance)


def short(case):
    """Return what tells the cases apart: ``D=64, causal``."""
    return f"D={dict(case[0])['D']}{', causal' if case[2] else ''}"


def draw(rows, cases):
    """Draw a row a kernel."""
    figure = new_figure(7.4, 1.4 + 0.3 * len(rows))
    axes = figure.subplots()
    for y, points in enumerate(rows.values()):
        axes.plot([min(points.values()), max(points.values())], [y, y], color="#c9ced6", linewidth=2.5, zorder=1)
    for case, (marker, colour) in zip(cases, LOOKS):
        known = [(points[case], y) for y, points in enumerate(rows.values()) if case in points]
        axes.plot(*zip(*known), linestyle="none", marker=marker, color=colour, markersize=6.5, label=short(case),
                  markeredgecolor="white", markeredgewidth=0.6)
    ours = sum(not peer for peer, _ in rows)
    axes.axhline(ours - 0.5, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [name for _, name in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xscale("log")
    plain(axes.xaxis)
    axes.set_xlabel("TFLOP/s, larger is better")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper left", ncols=len(cases), handletextpad=0.2, columnspacing=1.4)
    return figure
