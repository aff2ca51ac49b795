"""Ragged lengths on a GPU's multiprocessors: shares of rows against equal runs of one list of tiles."""

from matplotlib.patches import Rectangle

from minikernels import catalog
from minikernels.figures import new_figure
from minikernels.figures.style import INK
from minikernels.gallery.look import GREY, ORANGE, SKY, panel
from minikernels.gallery.plate import Plate, percent, times
from minikernels.gallery.sources import Missing, fastest, spelled
from minikernels.gqa import schedule

TECHNIQUES = ("gqa",)
BESIDE = "Sanovar et al. 2024 (LeanAttention): execution schedules on a few multiprocessors"
LENGTHS = (4096, *(512,) * 7)  # one long sequence among short ones
HEADS, BLOCK_S, PLACES = 2, 64, 24
SHARES = 4


def plate(sources):
    """Return the plate: three schedules of one ragged batch."""
    rest = {"rows": HEADS, "block_s": BLOCK_S, "places": PLACES}
    plans = {"a block a row": schedule.fixed_splits(LENGTHS, splits=1, **rest),
             f"Flash-Decoding: {SHARES} shares a row": schedule.fixed_splits(LENGTHS, splits=SHARES, **rest),
             "LeanAttention: equal runs": schedule.stream_k(LENGTHS, **rest)}
    ends = [plan.makespan for plan in plans.values()]
    caption = (
        f"One step of decoding for a sequence of {LENGTHS[0]:,} keys beside {len(LENGTHS) - 1} of {LENGTHS[1]:,}. A "
        f"bar is the tiles of {BLOCK_S} keys that one block absorbs, orange for the long sequence. A block a row ends "
        f"after {ends[0]} tiles, equal shares after {ends[1]}, equal runs of the list of all tiles after {ends[2]}: "
        f"{times(ends[0] / ends[2])} sooner than the first, with every place busy "
        f"{percent(list(plans.values())[2].efficiency)} of the time. {measured(sources)}")
    alt = (f"Three schedules of {PLACES} places, a row a place and time to the right. In the first a single long bar "
           f"reaches {ends[0]} tiles while most places are idle after {LENGTHS[1] // BLOCK_S}; the second ends after "
           f"{ends[1]}; in the third all places end together after {ends[2]}.")
    provenance = (f"Schedules of gqa.schedule: {HEADS} key/value heads, tiles of {BLOCK_S} keys, room for {PLACES} "
                  "blocks at once; arithmetic, no measurement.")
    return Plate("Who absorbs which keys, and when the last one is done", lambda: draw(plans), caption, alt, provenance)


def measured(sources):
    """Return what a GPU says of a ragged batch, or that none has been asked."""
    try:
        recording, results = sources.results("gqa", "a ragged batch", lambda r: "ragged" in r.case[3])
    except Missing as missing:
        return f"In time: {missing}."
    raw = {rung.name for rung in catalog.technique("gqa").rungs if rung.kind == "raw"}
    ours = {r.name: r.ms for r in results if r.name in raw}
    peer = fastest(r for r in results if r.is_peer)
    beside = f", {peer.name} {peer.ms:.3f} ms" if peer else ""
    timed = ", ".join(f"{name} {ms:.3f} ms" for name, ms in ours.items())
    return f"In time, on an {recording.gpu} ({recording.dates(results)}), {spelled(results[0].case)}: {timed}{beside}."


def draw(plans):
    """Draw one panel a schedule, on one scale of time."""
    figure = new_figure(8.6, 3.5)
    longest = max(plan.makespan for plan in plans.values())
    for axes, (name, plan) in zip(figure.subplots(1, len(plans), sharex=True, sharey=True), plans.items()):
        for place, pieces in enumerate(plan.places):
            left = 0
            for piece in pieces:
                long = LENGTHS[piece.b] == max(LENGTHS)
                axes.add_patch(Rectangle((left, place - 0.42), piece.tiles, 0.84, facecolor=ORANGE if long else SKY,
                                         edgecolor="white", linewidth=0.6, hatch="////" if long else None))
                left += piece.tiles
        axes.axvline(plan.makespan, color=INK, linewidth=1.1, linestyle=(0, (4, 3)))
        last = plan.makespan > 0.6 * longest
        axes.annotate(f"done after {plan.makespan}", (plan.makespan, PLACES - 3), (-5 if last else 5, 0), fontsize=8.5,
                      textcoords="offset points", ha="right" if last else "left", va="center", color=INK)
        axes.annotate(f"{plan.efficiency:.0%} busy", (plan.makespan, PLACES - 6), (-5 if last else 5, 0), fontsize=8.5,
                      textcoords="offset points", ha="right" if last else "left", va="center", color=GREY)
        axes.set(xlim=(0, 1.04 * longest), ylim=(PLACES - 0.4, -0.6), xlabel="time in tiles")
        panel(axes, name)
    figure.axes[0].set_ylabel("place for a block")
    return figure
