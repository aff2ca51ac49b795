"""What crosses HBM, and when: three kernels with the score matrix against one that keeps it on the chip."""

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from minikernels import catalog, simt
from minikernels.core.traffic import Traffic
from minikernels.figures import new_figure
from minikernels.figures.style import INK
from minikernels.gallery.look import BLUE, GREY, VERMILLION, in_bytes, panel
from minikernels.gallery.plate import Plate, times
from minikernels.gallery.text import activations
from minikernels.simt.trace import STORE

TECHNIQUES = ("flash",)
BESIDE = "Dao et al. 2022, figure 1"
RUNGS = ("v1_three_pass", "v2_tiled")
TOKENS, WIDTH = 128, 16
NAMES = {"score": "scores", "p": "probabilities"}
PIXELS = 320  # of memory, from top to bottom


def plate(sources):
    """Return the plate: every address of HBM that one head of attention touches, against time."""
    technique = catalog.technique("flash")
    arrays, origin = activations("mha", TOKENS)
    inputs = {name: np.ascontiguousarray(arrays[name][:1, :1, :, :WIDTH]) for name in "qkv"} | {"causal": False}
    seen = {name: traced(technique, technique.rung(name), inputs) for name in RUNGS}
    moved = {name: traffic.hbm_bytes for name, (_, traffic) in seen.items()}
    first, second = RUNGS
    caption = (
        "Every byte of HBM that one head touches, from top to bottom in memory and from left to right in time (each "
        f"panel to its own end). {first} writes T x S scores, reads them, writes as many probabilities and reads "
        f"those: {in_bytes(moved[first])} asked of HBM. {second} knows neither matrix: it reads q once and a tile of "
        f"k and v at a time, for {in_bytes(moved[second])}, {times(moved[first] / moved[second])} less. Recorded from "
        "the kernels as they ran on the SIMT machine.")
    alt = ("Two maps of memory against time. On the left five bands: narrow ones for q, k, v and o, and two wide "
           "ones, scores and probabilities, filled by a stripe of stores and then a stripe of loads. On the right "
           "only the narrow bands are left, their loads running in steps, one a tile.")
    provenance = (f"Traces of {first} and {second}, all blocks: B1 H1 T{TOKENS} S{TOKENS} D{WIDTH} float32; q, k and v "
                  f"of {origin}.")
    return Plate("The matrix that FlashAttention does not write", lambda: draw(seen), caption, alt, provenance)


def traced(technique, rung, inputs):
    """Return ([(array, elements, [(time, index, is_store)])], Traffic) of a rung, its launches one after another."""
    with simt.collect() as launches:
        technique.run(rung, inputs)
    blocks = range(min(launch.grid[0] for launch in launches))  # one sequence, one head: all there are
    with simt.record(blocks=blocks), simt.collect() as launches:
        technique.run(rung, inputs)
    touched, sizes, clock = {}, {}, 0
    for launch in launches:
        trace, columns = launch.trace, launch.trace.columns
        counts = np.diff(columns["access_start"])
        asked = columns["access_step"][[trace.arrays[n].space == "global" for n in columns["access_array"]]]
        order = np.unique(asked)  # steps that ask something of HBM; the others take no room
        for number, info in enumerate(trace.arrays):
            rows = columns["access_array"] == number
            if info.space != "global" or not rows.any():
                continue
            pool = np.repeat(rows, counts)
            when = clock + np.searchsorted(order, np.repeat(columns["access_step"], counts)[pool])
            stores = np.repeat(columns["access_op"] == STORE, counts)[pool]
            sizes[info.name] = int(np.prod(info.shape))
            touched.setdefault(info.name, []).append((when, columns["pool_index"][pool], stores))
        clock += len(order)
    bands_in_order = sorted(sizes, key=lambda name: ("qkspvo".find(name[0]), name))
    bands = [(name, sizes[name], [np.concatenate(x) for x in zip(*touched[name])]) for name in bands_in_order]
    return (bands, clock), sum((launch.traffic for launch in launches), Traffic())


def draw(seen):
    """Draw one panel a rung, all to one scale of memory."""
    figure = new_figure(8.2, 4.6)
    most = max(sum(size for _, size, _ in bands) for (bands, _), _ in seen.values())
    for axes, (name, ((bands, clock), traffic)) in zip(figure.subplots(1, 2), seen.items()):
        pixels = np.ones((PIXELS, clock, 3))
        below = 0
        for array, size, (when, index, stores) in bands:
            rows = ((below + index) * PIXELS // most).astype(int)
            for kind, colour in ((False, BLUE), (True, VERMILLION)):
                pixels[rows[stores == kind], when[stores == kind]] = to_rgb(colour)
            middle = below + size / 2
            if size > most / 100:
                axes.annotate(NAMES.get(array, array), (1.02, middle), xycoords=("axes fraction", "data"), va="center",
                              fontsize=8.5, color=INK, annotation_clip=False)
            axes.axhline(below + size, color="#c9ced6", linewidth=0.7)
            below += size
        axes.imshow(pixels, extent=(0, 1, most, 0), aspect="auto", interpolation="none", zorder=0)
        if below < 0.95 * most:
            axes.annotate("no scores, no probabilities", (0.5, (below + most) / 2), ha="center", va="center",
                          color=GREY, fontsize=9.5)
        axes.set(xticks=[], yticks=[], xlabel=f"time: {clock:,} steps that ask HBM for something", ylim=(most, 0))
        panel(axes, f"{name}: {in_bytes(traffic.hbm_bytes)} asked of HBM")
    first = figure.axes[0]
    first.set_ylabel(f"address in HBM, {in_bytes(4 * most)} from top to bottom")
    figure.legend(handles=[Patch(color=BLUE, label="loads"), Patch(color=VERMILLION, label="stores")],
                  loc="outside upper right", ncols=2)
    return figure
