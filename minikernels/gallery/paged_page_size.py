"""How large a page should be: memory that is wasted, entries that are looked up, and time."""

from minikernels import catalog
from minikernels.figures import new_figure
from minikernels.gallery.look import by_powers, name_lines, panel, plain, series
from minikernels.gallery.plate import Plate, percent
from minikernels.gallery.sources import Missing, place, spelled
from minikernels.paged import requests

TECHNIQUES = ("paged",)
BESIDE = "Kwon et al. 2023 (PagedAttention): the ablation of the block size"
SLOTS, COUNT, RATE, STEPS = 15_700, 300, 0.5, 600
PAGES = (1, 4, 16, 64, 128, 256)
MARKED = (1, 4, 16, 64, 256)  # of those, with room for their names
USUAL = 16


def plate(sources):
    """Return the plate: simulated waste and lookups, and recorded times, against the page's length."""
    arrivals = requests.trace(count=COUNT, rate=RATE)
    lines = {P: requests.simulate(arrivals, requests.Pages(SLOTS, P), steps=STEPS) for P in PAGES}
    waste = {P: 100 * wasted(line) for P, line in lines.items()}
    try:
        recording, results, times, case = timed(sources)
        said = f"Right: a step of decoding from such pages, on an {recording.gpu}."
        where = f" Times: {place(recording, results)}, {spelled(case, 'P')}."
    except Missing as missing:
        times, said, where = {}, f"Times of other pages than {USUAL} tokens: {missing}.", ""
    caption = (
        f"The share of slots in pages that hold no token, on average over {STEPS} steps of a simulated server, and the "
        f"entries of the page table that a step reads for a thousand tokens. At P={USUAL} "
        f"{percent(waste[USUAL] / 100)} are empty, at P={PAGES[-1]} {percent(waste[PAGES[-1]] / 100)}; below {USUAL} "
        f"there is little left to gain, and each token costs more lookups. {said}")
    alt = (f"Against tokens of a page from {PAGES[0]} to {PAGES[-1]}: empty slots rise from 0 to "
           f"{waste[PAGES[-1]]:.0f} per cent while lookups fall in proportion."
           + (" A third panel shows time against page length." if times else ""))
    provenance = f"Simulated by paged.requests: {COUNT} requests with ShareGPT's mean lengths, {SLOTS:,} slots.{where}"
    return Plate("How large a page?", lambda: draw(waste, times), caption, alt, provenance)


def wasted(line):
    """Return the share of the slots in pages that are given away and hold no token."""
    tokens, reserved, internal, *_ = line.use.sum(axis=0)
    return float((reserved + internal) / max(1, tokens + reserved + internal))


def timed(sources):
    """Return (recording, results, {rung: [(P, ms)]}, case) of CUDA C++ rungs timed at several page lengths."""
    raw = {rung.name for rung in catalog.technique("paged").rungs if rung.kind == "raw"}
    recording, results = sources.results("paged", "pages of several lengths", lambda r: not r.case[3] and (
        r.name in raw and r.case[1] == "float16"))
    groups = {}
    for r in results:
        sizes = dict(r.case[0])
        groups.setdefault(tuple((k, n) for k, n in sizes.items() if k != "P"), []).append((sizes["P"], r))
    most = max(groups.values(), key=lambda rows: len({P for P, _ in rows}))
    if len({P for P, _ in most}) < 3:
        raise Missing("no GPU has recorded pages of several lengths; `minikernels bench paged` does")
    lines = {}
    for P, r in most:
        lines.setdefault(r.name, []).append((P, r.ms))
    results = [r for _, r in most]
    return recording, results, {name: sorted(points) for name, points in lines.items()}, results[0].case


def draw(waste, times):
    """Draw waste and lookups, and time where it is known."""
    figure = new_figure(8.6, 3.3)
    left, middle, *right = figure.subplots(1, 3 if times else 2)
    left.plot(list(waste), list(waste.values()), **series(0))
    left.set(ylabel="slots that hold no token, in %", ylim=(-0.5, None))
    panel(left, "memory wasted")
    middle.plot(list(waste), [1000 / P for P in waste], **series(1))
    middle.set(yscale="log", ylabel="table entries read for 1,000 tokens")
    plain(middle.yaxis)
    panel(middle, "lookups")
    for axes in right:
        for number, (name, points) in enumerate(times.items()):
            axes.plot(*zip(*points), label=name, **series(number + 2))
        axes.set(ylabel="time of a step in ms", ylim=(0, None))
        panel(axes, "time")
    for axes in figure.axes:
        by_powers(axes, MARKED, short=False)
        axes.set_xlabel("tokens of a page, P")
        axes.grid(axis="y")
    figure.draw_without_rendering()
    for axes in right:
        name_lines(axes)
    return figure
