"""What becomes of a server's memory over time: rows reserved for each request, against pages."""

from minikernels.figures import new_figure
from minikernels.gallery.look import BLUE, GREEN, ORANGE, PURPLE, panel
from minikernels.gallery.plate import Plate, joined, percent, times
from minikernels.paged import requests

TECHNIQUES = ("paged",)
BESIDE = "Kwon et al. 2023 (PagedAttention), figure 2"
SLOTS, COUNT, RATE, STEPS, P = 15_700, 300, 0.5, 600, 16
EVERY = 4  # steps between two that are drawn
LOOKS = {"tokens": (BLUE, None, "hold a token"), "reserved": (GREEN, "\\\\\\\\", "reserved for later"),
         "internal": (ORANGE, "////", "never to be used"), "external": (PURPLE, "xxxx", "too short a gap"),
         "free": ("#e8eaee", None, "free")}


def plate(sources):
    """Return the plate: the same requests served from four kinds of memory."""
    arrivals = requests.trace(count=COUNT, rate=RATE)
    kinds = {"rows of the longest": requests.Contiguous(SLOTS, "max"),
             "rows of the next power of 2": requests.Contiguous(SLOTS, "pow2"),
             "rows of the true length": requests.Contiguous(SLOTS, "oracle"),
             f"pages of {P}": requests.Pages(SLOTS, P=P)}
    lines = {name: requests.simulate(arrivals, memory, steps=STEPS) for name, memory in kinds.items()}
    used = {name: line.shares["tokens"] for name, line in lines.items()}
    running = {name: float(line.running.mean()) for name, line in lines.items()}
    first, last = list(lines)[0], list(lines)[-1]
    caption = (
        f"The same {COUNT} requests over {STEPS} steps of a server with room for {SLOTS:,} tokens. Share of the memory "
        f"that holds a token, on average: {joined(f'{name} {percent(share)}' for name, share in used.items())}. With "
        f"pages {running[last]:.0f} requests run at once instead of {running[first]:.0f}, "
        f"{times(running[last] / running[first])} as many, from memory of the same size.")
    alt = ("Four stacked area charts of memory over time. With rows of the longest sequence most of it is orange and "
           f"purple waste; with shorter rows less; with pages of {P} nearly all of it is blue, tokens, once enough "
           "requests have arrived.")
    provenance = ("Simulated by paged.requests: log-normal lengths with ShareGPT's means (Kwon et al., figure 11), "
                  f"{RATE:g} arrivals a step, seed 0.")
    return Plate("Where a server's memory goes", lambda: draw(lines), caption, alt, provenance)


def draw(lines):
    """Draw one stack of areas for each kind of memory."""
    figure = new_figure(8.2, 5.0)
    for axes, (name, line) in zip(figure.subplots(2, 2, sharex=True, sharey=True).flat, lines.items()):
        shares = 100 * line.use[::EVERY].T / line.slots
        colours, _, words = zip(*LOOKS.values())
        areas = axes.stackplot(range(0, len(line.use), EVERY), shares, colors=colours, labels=words, linewidth=0,
                               step="post")
        for area, (_, hatch, _) in zip(areas, LOOKS.values()):
            area.set(hatch=hatch, edgecolor="white" if hatch else "none")
        axes.set(xlim=(0, len(line.use)), ylim=(0, 100))
        panel(axes, f"{name}: {line.shares['tokens']:.0%} hold tokens")
    for axes in figure.axes[2:]:
        axes.set_xlabel("step of the server")
    for axes in figure.axes[::2]:
        axes.set_ylabel("memory in %")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, columnspacing=1.3, handlelength=1.6)
    return figure
