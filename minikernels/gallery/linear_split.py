"""One long sequence on a whole GPU: into how many segments a head is cut, and what that buys."""

from minikernels import catalog
from minikernels.figures import new_figure
from minikernels.figures.style import INK
from minikernels.gallery.look import BLUE, GREY, ORANGE, SKY, by_powers, panel, plain
from minikernels.gallery.plate import Plate, joined, times
from minikernels.gallery.sources import Missing, place, spelled
from minikernels.linear_attention import schedule

TECHNIQUES = ("linear_attention",)
BESIDE = "Yang et al. 2023 (Gated Linear Attention): parallelism over the sequence"
HEADS, TOKENS, TILE, PLACES = 16, 16_384, 64, 132
SEGMENTS = tuple(range(1, 33))


def plate(sources):
    """Return the plate: the modelled makespan against segments, and recorded times of the raw rungs."""
    tiles = TOKENS // TILE
    spans = [schedule.makespan(HEADS, tiles, n, PLACES) for n in SEGMENTS]
    chosen, length = schedule.segments_of(HEADS, TOKENS, TILE, PLACES)
    try:
        bars, where = recorded(sources)
        least = bars[0][1:]
        said = f"Right, as measured for {bars[0][0]}: {joined(f'{name} {ms:.3g} ms' for name, ms in least[0].items())}."
    except Missing as missing:
        bars, where, said = [], "", f"Times: {missing}."
    caption = (
        f"{HEADS} heads are {HEADS} blocks, and {PLACES} places want work. Left: how long the longest place works, in "
        f"tiles of {TILE} tokens, if each head is cut into so many segments that run side by side and hand on their "
        f"states. {chosen} segments of {length:,} tokens finish first, {times(spans[0] / spans[chosen - 1])} sooner "
        f"than one; each cut reads k and v once more, and a segment too many begins another round. {said}")
    alt = (f"Left, a saw-toothed curve of time against 1 to {SEGMENTS[-1]} segments, lowest at {chosen}."
           + (" Right, bars of measured time for each rung and shape." if bars else ""))
    provenance = f"schedule.makespan of linear_attention: B*H={HEADS} T={TOKENS} D=128, {PLACES} places.{where}"
    return Plate("Cutting a recurrence along time", lambda: draw(spans, chosen, bars), caption, alt, provenance)


def recorded(sources):
    """Return ([(shape in words, {rung: ms})], where) of the raw rungs in the shapes in which two or more were timed."""
    raw = [rung.name for rung in catalog.technique("linear_attention").rungs if rung.kind == "raw"]
    recording, results = sources.results("linear_attention", "the rungs on tensor cores",
                                         lambda r: r.name in raw and not r.case[3] and r.case[1] == "float16"
                                         and dict(r.case[0])["D"] == 128)
    cases = {}
    for r in results:
        cases.setdefault(r.case, {})[r.name] = r.ms
    bars = [(words(case), found) for case, found in cases.items() if len(found) > 1]
    if not bars:
        raise Missing("no GPU has recorded two rungs on tensor cores in one shape; "
                      "`minikernels bench linear_attention` does")
    bars.sort(key=lambda bar: "B1 " not in bar[0])
    case = next(case for case, found in cases.items() if len(found) > 1)
    return bars, f" Times: {place(recording, results)}, {spelled(case, 'BT')}."


def words(case):
    """Return the sizes that tell the shapes apart."""
    sizes = dict(case[0])
    return f"B{sizes['B']} T{sizes['T']:,}"


def draw(spans, chosen, bars):
    """Draw the curve, and bars of time a token beside it."""
    figure = new_figure(8.4 if bars else 5.6, 3.6)
    left, *right = figure.subplots(1, 2 if bars else 1, squeeze=False)[0]
    left.plot(SEGMENTS, spans, color=BLUE, marker="o", markersize=4)
    left.axvline(chosen, color=INK, linewidth=1.1, linestyle=(0, (4, 3)), zorder=0)
    left.annotate(f"chosen: {chosen}", (chosen, max(spans)), (6, -2), textcoords="offset points", va="top", color=INK,
                  fontsize=8.5)
    by_powers(left, [2**n for n in range(6)], short=False)
    left.set(xlabel="segments of a head", ylabel="longest place, in tiles' worth of time", ylim=(0, None))
    left.grid(axis="y")
    panel(left, "as scheduled")
    for axes in right:
        names = list(dict.fromkeys(name for _, found in bars for name in found))
        tall = 0.8 / len(names)
        for i, name in enumerate(names):
            look = {"color": (SKY, BLUE, ORANGE, GREY)[i % 4], "hatch": (None, "////", "....", "xx")[i % 4]}
            known = [(y, found[name]) for y, (_, found) in enumerate(bars) if name in found]
            axes.barh([y + (i - (len(names) - 1) / 2) * tall for y, _ in known], [ms for _, ms in known], 0.92 * tall,
                      edgecolor="white", label=name, **look)
            for y, ms in known:
                axes.annotate(f"{ms:.3g}", (ms, y + (i - (len(names) - 1) / 2) * tall), (4, 0), va="center",
                              textcoords="offset points", fontsize=8, color=INK)
        axes.set_yticks(range(len(bars)), [shape for shape, _ in bars])
        axes.invert_yaxis()
        axes.set(xscale="log", xlabel="time in ms, shorter is better")
        low = min(ms for _, found in bars for ms in found.values())
        axes.set_xlim(low / 3, 2.2 * max(ms for _, found in bars for ms in found.values()))
        plain(axes.xaxis)
        axes.tick_params(axis="y", length=0)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
        panel(axes, "as measured")
    return figure
