"""A step of decoding against the number of key/value heads, beside what the bytes alone would take."""

import numpy as np

from minikernels import catalog
from minikernels.figures import new_figure
from minikernels.gallery.look import GREY, by_powers, name_lines, plain, series
from minikernels.gallery.plate import Plate, percent
from minikernels.gallery.sources import Missing, fastest, place, spelled

TECHNIQUES = ("gqa",)
BESIDE = "Ainslie et al. 2023 (GQA): time per sample against the number of groups"
PEERS = 2  # the fastest, of those that were timed at every G


def plate(sources):
    """Return the plate: time against G, every size but G the same."""
    raw = {rung.name for rung in catalog.technique("gqa").rungs if rung.kind == "raw"}
    recording, results = sources.results("gqa", "decoding at several G", lambda r: plain_case(r) and (
        r.is_peer or r.name in raw))
    groups = {}
    for result in results:
        groups.setdefault(without_g(result), []).append(result)
    results = max(groups.values(), key=lambda rows: len({dict(r.case[0])["G"] for r in rows}))
    lines, cache = {}, {}
    for result in results:
        G = dict(result.case[0])["G"]
        lines.setdefault((result.name, result.is_peer), {})[G] = result.ms
        cache[G] = result.bytes
    most = max(len(points) for points in lines.values())
    if most < 2:
        raise Missing("no GPU has recorded decoding at several G; `minikernels bench gqa` does")
    whole = {key: points for key, points in lines.items() if len(points) == most}
    peers = sorted((key for key in whole if key[1]), key=lambda key: sum(whole[key].values()))[:PEERS]
    kept = {key[0]: points for key, points in whole.items() if not key[1] or key in peers}
    speed = sources.bandwidth(recording.gpu)
    floor = {G: moved / speed / 1e6 for G, moved in cache.items()} if speed else {}
    least, widest = min(cache), max(cache)
    best = {G: fastest(r for r in results if dict(r.case[0])["G"] == G and not r.is_peer) for G in (least, widest)}
    reached = "; ".join(f"G={G}: {best[G].name}, {percent(floor[G] / best[G].ms)} of it" for G in (widest, least)
                        if floor and best[G])
    caption = (
        f"One token for each of {dict(results[0].case[0])['B']} sequences. The dashed line is the time in which the "
        "cache alone crosses HBM" + (f", at the {speed:,.0f} GB/s of a copy" if speed else " (not recorded)") + ". "
        "H / G query heads work on each byte that is read, so the arithmetic on it grows to the right. Our best rung "
        f"and how much of the floor's speed it reaches: {reached or 'not known'}.")
    alt = (f"Time of a step in ms against G from {widest} down to {least}, both axes logarithmic; {len(kept)} "
           f"kernels. The floor falls in proportion to G. Our best rung against the floor: {reached or 'not known'}.")
    provenance = f"{place(recording, results)}: {spelled(results[0].case, 'G')}; median of CUDA events, L2 flushed."
    return Plate("Fewer key/value heads, less to read: when does it pay?", lambda: draw(kept, floor), caption, alt,
                 provenance)


def plain_case(result):
    """Return whether a result is of whole lengths, in float16."""
    return result.case[1] == "float16" and not result.case[3]


def without_g(result):
    """Return a case with its G left out."""
    return tuple((letter, size) for letter, size in result.case[0] if letter != "G"), *result.case[1:]


def draw(lines, floor):
    """Draw time against G, many heads on the left."""
    figure = new_figure(6.8, 3.9)
    axes = figure.subplots()
    for number, (name, points) in enumerate(lines.items()):
        xs = sorted(points, reverse=True)
        axes.plot(xs, [points[x] for x in xs], label=name, **series(number))
    xs = sorted({G for points in lines.values() for G in points}, reverse=True)
    if floor:
        axes.plot(xs, [floor[x] for x in xs], color=GREY, linewidth=1.4, linestyle=(0, (4, 3)), label="bytes alone")
    by_powers(axes, xs)
    axes.set_yscale("log")
    plain(axes.yaxis)
    axes.set_yticks(np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]))
    axes.minorticks_off()
    ends = [ms for points in [*lines.values(), floor] for ms in points.values()]
    axes.set_ylim(min(ends) / 1.3, max(ends) * 1.3)
    axes.invert_xaxis()
    axes.set(xlabel="key/value heads G", ylabel="time of a step in ms")
    axes.grid(axis="y")
    figure.draw_without_rendering()
    name_lines(axes)
    return figure
