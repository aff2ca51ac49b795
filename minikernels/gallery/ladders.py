"""Every ladder on one page: each rung's share of the production kernel's speed."""

from matplotlib.patches import Patch

from minikernels import catalog
from minikernels.figures import new_figure
from minikernels.figures.style import INK
from minikernels.gallery.look import BLUE, GREY, ORANGE, panel
from minikernels.gallery.plate import Plate, joined, percent
from minikernels.gallery.sources import Missing, fastest, spelled

TECHNIQUES = tuple(catalog.names())
BESIDE = "none; the course at a glance"


def plate(sources):
    """Return the plate: seven small ladders, in float16, on one logarithmic scale of percent."""
    ladders, lacking, where, best = {}, [], [], []
    for name in catalog.names():
        technique = catalog.technique(name)
        try:
            recording, results = sources.ladder(name)
        except Missing:
            lacking.append(name)
            continue
        peer = fastest(r for r in results if r.is_production)
        ours = {r.name: r.ms for r in results if not r.is_peer}
        if peer is None and not ours:
            lacking.append(name)
            continue
        base = peer.ms if peer else min(ours.values())
        rungs = [(rung.name, rung.kind, 100 * base / ours[rung.name] if rung.name in ours else None)
                 for rung in technique.rungs if rung.kind != "numpy"]
        ladders[name] = rungs, peer.name if peer else None
        where.append(f"{name} {spelled(results[0].case)} beside {peer.name if peer else 'no production kernel'} "
                     f"({recording.gpu}, {recording.dates(results)})")
        if peer:
            top = fastest(r for r in results if not r.is_peer)
            best.append((peer.ms / top.ms, name, top.name, peer.name))
    if not ladders:
        raise Missing("no GPU has recorded any ladder; `minikernels bench` does")
    best.sort(reverse=True)
    said = joined(f"{name} {percent(share)} of {peer}" for share, name, _, peer in best)
    missing = f" Not recorded: {joined(lacking)}." if lacking else ""
    alone = [name for name, (_, peer) in ladders.items() if peer is None]
    missing += f" {joined(alone)} had no production kernel beside it; there 100 is the fastest rung." if alone else ""
    caption = ("Each rung's speed in percent of the fastest production kernel on the same input. The fastest rung of "
               f"each ladder: {said}.{missing}")
    alt = (f"{len(ladders)} small bar charts, one a technique, their rungs from top to bottom; most first rungs reach "
           "a few per cent, the last ones stand near or beyond the line at 100.")
    return Plate("Seven ladders", lambda: draw(ladders), caption, alt, "; ".join(where) + ". Median of CUDA events.")


def draw(ladders):
    """Draw two columns of ladders."""
    figure = new_figure(9.2, 10.2)
    rows = -(-len(ladders) // 2)
    shares = [share for rungs, _ in ladders.values() for *_, share in rungs if share]
    low, high = min(shares) / 1.5, max(*shares, 100) * 12
    grid = figure.subplots(rows, 2, squeeze=False)
    for axes, (name, (rungs, peer)) in zip(grid.flat, ladders.items()):
        for y, (_, kind, share) in enumerate(rungs):
            if share is None:
                axes.annotate("not measured", (low, y), (4, 0), textcoords="offset points", va="center", fontsize=8,
                              color=GREY)
                continue
            raw = kind == "raw"
            axes.barh(y, share - low, left=low, height=0.66, color=BLUE if raw else ORANGE, edgecolor="white",
                      hatch=None if raw else "////")
            axes.annotate(f"{share:.3g} %" if share < 100 else f"{share:,.0f} %", (1, y), va="center", ha="right",
                          xycoords=("axes fraction", "data"), fontsize=8, color=INK)
        axes.axvline(100, color=INK, linewidth=1.1, linestyle=(0, (4, 3)))
        axes.set(xscale="log", xlim=(low, high))
        axes.set_yticks(range(len(rungs)), [rung for rung, *_ in rungs], fontsize=8)
        axes.set_ylim(len(rungs) - 0.4, -0.6)
        axes.set_xticks([1, 10, 100, 1000], ["1 %", "10 %", "100 %", "1000 %"])
        axes.set_xlim(low, high)
        axes.minorticks_off()
        axes.tick_params(axis="y", length=0)
        panel(axes, f"{name}, 100 % is {peer or 'the fastest rung'}")
    for axes in list(grid.flat)[len(ladders):]:
        axes.set_axis_off()
    spare = grid.flat[-1] if len(ladders) % 2 else grid.flat[0]
    handles = [Patch(facecolor=ORANGE, hatch="////", edgecolor="white", label="numba.cuda: runs on any laptop too"),
               Patch(facecolor=BLUE, label="CUDA C++")]
    spare.legend(handles=handles, loc="center" if len(ladders) % 2 else "lower right")
    for axes in list(grid.flat)[max(0, len(ladders) - 2):len(ladders)]:
        axes.set_xlabel("speed in % of the production kernel")
    return figure
