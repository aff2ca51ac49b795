"""Tokens a second against the length of the sequence: a state against softmax over all that came before."""

from minikernels import catalog
from minikernels.figures import new_figure
from minikernels.gallery.look import by_powers, name_lines, series
from minikernels.gallery.plate import Plate, joined, times
from minikernels.gallery.sources import place, spelled

TECHNIQUES = ("linear_attention",)
BESIDE = "Qin et al. 2024 (Lightning Attention): tokens per GPU and second against length"
VARIANT = "beside softmax"


def plate(sources):
    """Return the plate: recorded tokens a second of linear and softmax attention of one shape."""
    recording, results = sources.results("linear_attention", "linear attention over several lengths",
                                         lambda r: r.case[3] == VARIANT)
    raw = {rung.name for rung in catalog.technique("linear_attention").rungs if rung.kind == "raw"}
    lines, shape = {}, None
    for r in results:
        if r.is_peer or r.name in raw:
            sizes = dict(r.case[0])
            lines.setdefault((r.name, r.is_peer), []).append((sizes["T"], sizes["B"] * sizes["T"] / r.ms * 1000))
            shape = r.case
    lines = {key: sorted(points) for key, points in lines.items()}
    ours = max((key for key in lines if not key[1]), key=lambda key: (len(lines[key]), lines[key][-1][1]))
    soft = [key for key in lines if "flash" in key[0] or "SDPA" in key[0]]
    first, last = lines[ours][0], lines[ours][-1]
    said = [f"{ours[0]} goes from {rate(first[1])} tokens a second at {first[0]:,} to {rate(last[1])} at {last[0]:,}"]
    for key in soft:
        a, b = lines[key][0], lines[key][-1]
        said.append(f"{key[0]} from {rate(a[1])} to {rate(b[1])} at {b[0]:,}")
    both = [T for T, _ in lines[ours] if all(T in dict(lines[key]) for key in soft)] if soft else []
    ahead = ""
    if both:
        T = max(both)
        ahead = (f" At {T:,} tokens linear attention is "
                 f"{times(dict(lines[ours])[T] / max(dict(lines[key])[T] for key in soft))} as fast.")
    caption = (f"The same 16-bit q, k and v. {joined(said)}.{ahead} Short sequences are too few blocks to fill the "
               "GPU; beyond that a state costs the same for every token, and softmax a token more for every one "
               "before it.")
    alt = ("Tokens a second against length on logarithmic axes. Linear attention rises and then stays level up to "
           f"{last[0]:,} tokens; softmax attention falls in proportion to the length.")
    provenance = f"{place(recording, results)}: {spelled(shape, ('T', 'variant'))}; median of CUDA events, L2 flushed."
    return Plate("Tokens a second at any length", lambda: draw({key[0]: points for key, points in lines.items()}),
                 caption, alt, provenance)


def rate(x):
    """Return tokens a second in words: ``94 million``."""
    return f"{x / 1e6:.3g} million"


def draw(lines):
    """Draw tokens a second against length."""
    figure = new_figure(6.8, 3.9)
    axes = figure.subplots()
    for number, (name, points) in enumerate(lines.items()):
        axes.plot(*zip(*points), label=name, **series(number))
    axes.set_yscale("log")
    by_powers(axes, [T for points in lines.values() for T, _ in points])
    axes.yaxis.set_major_formatter(lambda y, _: f"{y / 1e6:g}")
    axes.set(xlabel="sequence length T", ylabel="million tokens a second")
    ys = [y for points in lines.values() for _, y in points]
    axes.set_ylim(min(ys) / 1.5, max(ys) * 1.6)
    axes.grid(axis="y")
    axes.minorticks_off()
    figure.draw_without_rendering()
    name_lines(axes)
    return figure
