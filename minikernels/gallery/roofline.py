"""The rungs under the roofs of the machine that they were timed on."""

import numpy as np

from minikernels import catalog
from minikernels.figures import new_figure
from minikernels.figures.style import INK
from minikernels.flash import traffic
from minikernels.gallery.look import HALO, SERIES, plain
from minikernels.gallery.plate import Plate, joined, percent
from minikernels.gallery.sources import Missing, place, spelled

TECHNIQUES = tuple(catalog.names())
BESIDE = "Williams et al. 2009 (Roofline)"
PATH = "flash"  # the ladder whose rungs are named one by one: its bytes change from rung to rung


def plate(sources):
    """Return the plate: every ladder's rungs by FLOP a byte and TFLOP/s, on the GPU that timed flash."""
    recording, path = sources.ladder(PATH)
    machine = sources.roof(recording.gpu)
    one = type(sources)((recording,), sources.roofs, sources.counters, sources.documents)
    points = {PATH: flash_points(path)}
    shapes, used = [f"{PATH} {spelled(path[0].case)}"], [*path]
    for name in catalog.names():
        try:
            _, results = one.ladder(name)
        except Missing:
            continue
        ours = [(r.name, r.flop / r.bytes, r.tflops) for r in results if not r.is_peer and r.bytes]
        if ours and name != PATH:
            points[name] = ours
            used += results
            shapes.append(f"{name} {spelled(results[0].case)}")
    roof = max(one["gb_per_s"] for one in machine["bandwidth"]) / 1e3
    top = max(one["tflop_per_s"] for one in machine["compute"])
    reached = {name: max((y / min(top, roof * x), rung) for rung, x, y in found) for name, found in points.items()}
    caption = (
        f"Left of the ridge bytes are the wall, right of it arithmetic. {PATH}'s rungs are placed by the bytes that "
        "each asks of HBM, so the ladder walks right and up; the other ladders, whose work on each byte that must "
        "cross is fixed, climb straight up. The nearest that each comes to its roof: "
        f"{joined(f'{name} {percent(share)} ({rung})' for name, (share, rung) in reached.items())}. Some of what a "
        "kernel asks is served by the caches, so a rung may stand above the slope.")
    alt = (f"TFLOP/s against FLOP a byte, both logarithmic, under a slope of {1000 * roof:,.0f} GB/s and a ceiling of "
           f"{top:,.0f} TFLOP/s. {PATH} climbs from the lower left to the upper right; {len(points) - 1} other "
           "ladders are vertical lines.")
    where = f"{place(recording, used)}; ceilings {machine['source']}. {'; '.join(shapes)}."
    return Plate("Where each rung stands under its roof", lambda: draw(points, machine), caption, alt, where)


def flash_points(results):
    """Return (rung, FLOP a byte asked, TFLOP/s) of flash's rungs, the bytes by their closed forms."""
    points = []
    for r in results:
        if not r.is_peer and hasattr(traffic, r.name):
            sizes, dtype, causal, _ = r.case
            moved = getattr(traffic, r.name)(**dict(sizes), itemsize=np.dtype(dtype).itemsize, causal=causal)
            points.append((r.name, r.flop / moved.hbm_bytes, r.tflops))
    if not points:
        raise Missing("no GPU has recorded flash; `minikernels bench flash` does")
    return points


def draw(points, machine):
    """Draw the roofs, the path of one ladder and the others as vertical lines."""
    figure = new_figure(8.4, 5.0)
    axes = figure.subplots()
    slope = max(one["gb_per_s"] for one in machine["bandwidth"]) / 1e3
    xs = [x for found in points.values() for _, x, _ in found]
    ys = [y for found in points.values() for *_, y in found]
    tops = [one["tflop_per_s"] for one in machine["compute"]]
    left, right, low = min(xs) / 3, max(*xs, max(tops) / slope) * 5, min(ys) / 25
    axes.plot([left, max(tops) / slope], [slope * left, max(tops)], color=INK, linewidth=1.6)
    at = left * 4
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low, 2.5 * max(tops)))
    for one in machine["compute"]:
        top = one["tflop_per_s"]
        axes.plot([top / slope, right], [top, top], color=INK, linewidth=1.6)
        axes.annotate(f"{one['name']}: {top:,.3g} TFLOP/s", (right, top), (-2, 4), textcoords="offset points",
                      ha="right", fontsize=8.5, color=INK)
    tracks = {name: found[0][1] * (1 + 0.06 * (-1) ** number)  # aside: two ladders may do the same work on a byte
              for number, (name, found) in enumerate(points.items()) if name != PATH}
    for number, (name, found) in enumerate(points.items()):
        colour, marker, _ = SERIES[number % len(SERIES)]
        line = "-" if name == PATH else (0, (1, 1.5))
        axes.plot([tracks.get(name, x) for _, x, _ in found], [y for *_, y in found], color=colour, marker=marker,
                  markersize=6, linewidth=1.2, linestyle=line, label="_")
        if name == PATH:
            for rung, x, y in found:
                crowded = any(x < right_x < 4 * x and 0.75 < y / other_y < 1.35 for _, right_x, other_y in found)
                under = any(abs(other_x / x - 1) < 0.1 and y < other_y < 1.5 * y for _, other_x, other_y in found)
                axes.annotate(rung, (x, y), (-8, 2) if crowded else (8, -7 if under else -2),
                              textcoords="offset points", fontsize=8, va="center", ha="right" if crowded else "left",
                              color=colour, bbox=HALO)
        else:
            x = tracks[name]
            crowded = any(x < other < 2 * x for ladder, other in tracks.items() if ladder != name)
            side = -1 if crowded else 1
            axes.plot([x, x], [low, min(y for *_, y in found)], color=colour, linewidth=0.8, linestyle=(0, (1, 3)))
            axes.annotate(name, (x, low), (side * 4, 4), textcoords="offset points", va="bottom", rotation=90,
                          ha="left" if side > 0 else "right", fontsize=8.5, color=colour)
    plain(axes.xaxis)
    plain(axes.yaxis)
    axes.minorticks_off()
    axes.set(xlabel="FLOP for each byte", ylabel="TFLOP/s")
    axes.grid()
    figure.draw_without_rendering()
    (x0, y0), (x1, y1) = axes.transData.transform([(at, slope * at), (2 * at, 2 * slope * at)])
    axes.annotate(f"{machine['bandwidth'][0]['name']}: {1000 * slope:,.0f} GB/s", (at, slope * at), (-4, 4),
                  textcoords="offset points", rotation=np.degrees(np.arctan2(y1 - y0, x1 - x0)), fontsize=8.5,
                  color=INK, rotation_mode="anchor")
    return figure
