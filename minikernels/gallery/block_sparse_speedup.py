"""The speed-up that a density buys over dense attention, beside the speed-up that it promises."""

from minikernels import catalog
from minikernels.figures import new_figure
from minikernels.gallery.look import GREY, name_lines, plain, series
from minikernels.gallery.plate import Plate, joined, percent
from minikernels.gallery.sources import Missing, place, spelled

TECHNIQUES = ("block_sparse",)
BESIDE = "Gao et al. 2024 (SeerAttention): speed-up against sparsity; Dao et al. 2022, figure 2 (right)"
DENSE = "SDPA flash, dense"


def plate(sources):
    """Return the plate: time of dense attention over time at a density, by kernel."""
    def wanted(result):
        return result.case[1] == "float16" and not result.case[2] and result.case[3].startswith("density ")

    recording, results = sources.results("block_sparse", "block-sparse attention at a density", wanted)
    longest = max(dict(r.case[0])["T"] for r in results)
    results = [r for r in results if dict(r.case[0])["T"] == longest]
    density = {r.case: float(r.case[3].removeprefix("density ")) for r in results}
    dense = {r.case: r.ms for r in results if r.name == DENSE}
    if not dense:
        raise Missing(f"no GPU has recorded {DENSE} beside the rungs; `minikernels bench block_sparse` does")
    lines = {}
    for r in results:
        if r.case in dense and r.name != DENSE:
            lines.setdefault((r.is_peer, r.name), []).append((1 / density[r.case], dense[r.case] / r.ms))
    raw = {rung.name for rung in catalog.technique("block_sparse").rungs if rung.kind == "raw"}
    lines = {name: sorted(points) for (peer, name), points in lines.items() if peer or name in raw}
    if not lines:
        raise Missing("no GPU has recorded a rung on tensor cores; `minikernels bench block_sparse` does")
    densities = sorted({density[case] for case in dense})
    ours = {name: points for name, points in lines.items() if name in raw}
    best = max(ours or lines, key=lambda name: lines[name][-1][1])
    inverse, gain = lines[best][-1]
    only = "" if len(densities) > 1 else f" Only density {densities[0]:g} is recorded so far."
    beyond = [name for name, points in lines.items() if points[-1][1] > points[-1][0]]
    if beyond:
        only = f" {joined(beyond)} gains more than that because it is the faster kernel at any density.{only}"
    caption = (f"Dense attention by {DENSE.split(',')[0]} takes 1; a mask that keeps a share d of the blocks promises "
               f"1/d (dashed). At density {1 / inverse:.2g} {best} is {gain:.2f} times as fast as dense attention, "
               f"{percent(gain / inverse)} of the promise.{only}")
    alt = (f"Speed-up over dense attention against 1 / density, with {joined(lines)} and the dashed diagonal of what "
           f"is promised; recorded at {'densities' if len(densities) > 1 else 'density'} "
           f"{joined(f'{d:g}' for d in densities)}.")
    provenance = (f"{place(recording, results)}: {spelled(results[0].case, 'variant')}, random masks; median of CUDA "
                  "events.")
    return Plate("What a sparse mask promises, and what a kernel makes of it", lambda: draw(lines, densities), caption,
                 alt, provenance)


def draw(lines, densities):
    """Draw speed-ups against 1 / density."""
    figure = new_figure(6.6, 4.0)
    axes = figure.subplots()
    ends = sorted({1.0, *(1 / d for d in densities)})
    axes.plot(ends, ends, color=GREY, linewidth=1.4, linestyle=(0, (4, 3)), label="promised: 1 / density")
    for number, (name, points) in enumerate(lines.items()):
        axes.plot(*zip(*points), label=name, **series(number))
    axes.axhline(1, color="#c9ced6", linewidth=1, zorder=0)
    axes.set(xscale="log", yscale="log", xlabel="blocks of dense attention for each one kept, 1 / density",
             ylabel="times as fast as dense attention")
    gains = [gain for points in lines.values() for _, gain in points]
    low, high = min(*gains, 1) / 1.25, 1.25 * max(*gains, ends[-1])
    axes.set(xlim=(0.93, 1.1 * ends[-1]), ylim=(low, high))
    axes.set_xticks(ends, [f"{x:.3g}" for x in ends])
    plain(axes.yaxis)
    axes.set_yticks([y for y in (0.1, 0.2, 0.5, 1, 2, 4, 8, 16) if low < y < high])
    axes.minorticks_off()
    axes.grid(axis="y")
    figure.draw_without_rendering()
    name_lines(axes)
    return figure
