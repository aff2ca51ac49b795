"""Time per token against the length of the sequence: a scan, a linear state, and attention."""

from minikernels import catalog
from minikernels.figures import new_figure
from minikernels.gallery.look import by_powers, name_lines, plain, series
from minikernels.gallery.plate import Plate, joined
from minikernels.gallery.sources import Missing, fastest, place, spelled

TECHNIQUES = ("flash", "selective_scan", "linear_attention")
BESIDE = "Gu and Dao 2023 (Mamba): scan against attention over length; Qin et al. 2024 (Lightning Attention)"
SERIES = {"per token against T": "", "beside softmax": ", D=128"}  # variants under which lengths are recorded


def plate(sources):
    """Return the plate: microseconds a token of the fastest rung of each technique, and of the fastest peer."""
    lines, where, lacking = {}, [], []
    for name in TECHNIQUES:
        try:
            recording, results = sources.results(name, f"{name} over several lengths", lambda r: r.case[3] in SERIES)
        except Missing as missing:
            lacking.append(str(missing))
            continue
        for label, rows in kinds(name, results):
            points = {}
            for r in rows:
                sizes = dict(r.case[0])
                points.setdefault(sizes["T"], []).append(r)
            best = {T: fastest(found) for T, found in sorted(points.items())}
            if len(best) > 1:
                lines[label] = [(T, 1000 * r.ms / (dict(r.case[0])["B"] * T)) for T, r in best.items()]
        where.append(f"{name} {spelled(results[0].case, ('T', 'S', 'variant'))} ({place(recording, results)})")
    if len(lines) < 2:
        raise Missing("no GPU has recorded times over several lengths; `minikernels bench` does")
    grown = {label: points[-1][1] / min(y for _, y in points) for label, points in lines.items()}
    said = joined(f"{label} {points[-1][1]:.3g} µs at {points[-1][0]:,}" for label, points in lines.items())
    steep = max(grown, key=grown.get)
    flat = [label for label, factor in grown.items() if factor < 1.5]
    caption = (
        "One more token costs a state the same, however many came before; it costs softmax attention a look at all "
        f"of them. From its best length to its longest a token of {steep} becomes {grown[steep]:.1f} times as dear"
        + (f"; {joined(flat)} stay{'s' if len(flat) == 1 else ''} within a half of the best" if flat else "")
        + f". Per token, at the longest length recorded: {said}." + " The layers are not "
        "all of one width; their shapes stand below." + (f" {' '.join(lacking)}." if lacking else ""))
    alt = (f"Microseconds a token against length, both logarithmic: {joined(lines)}. Attention falls first, while "
           "short sequences do not fill the GPU, and then climbs in proportion to the length; the scan and the "
           "linear state fall and stay level.")
    return Plate("Time per token against length", lambda: draw(lines), caption, alt, "; ".join(where) + ".")


def kinds(name, results):
    """Yield (label, results) of our rungs and, where there are any, of the production kernels."""
    raw = {rung.name for rung in catalog.technique(name).rungs if rung.kind == "raw"}
    ours = [r for r in results if not r.is_peer and r.name in raw]
    if ours:
        longest = fastest(r for r in ours if r.case[0] == max((o.case[0] for o in ours), key=lambda c: dict(c)["T"]))
        yield f"{name} {longest.name}", [r for r in ours if r.name == longest.name]
    own = [r for r in results if r.is_peer and not r.name.startswith("flash ")]
    if own:
        top = max((r.case[0] for r in own), key=lambda c: dict(c)["T"])
        best = fastest(r for r in own if r.case[0] == top)
        yield best.name, [r for r in own if r.name == best.name]


def draw(lines):
    """Draw time a token against length."""
    figure = new_figure(7.4, 4.2)
    axes = figure.subplots()
    for number, (name, points) in enumerate(lines.items()):
        axes.plot(*zip(*points), label=name, **series(number))
    axes.set_yscale("log")
    by_powers(axes, [T for points in lines.values() for T, _ in points])
    plain(axes.yaxis)
    ys = [y for points in lines.values() for _, y in points]
    ticks = [10.0**a * b for a in range(-4, 3) for b in (1, 2, 5)]
    axes.set_yticks([t for t in ticks if min(ys) / 1.4 < t < max(ys) * 1.4])
    axes.set_ylim(min(ys) / 1.4, max(ys) * 1.4)
    axes.minorticks_off()
    axes.set(xlabel="sequence length T", ylabel="time a token in µs")
    axes.grid(axis="y")
    figure.draw_without_rendering()
    name_lines(axes)
    return figure
