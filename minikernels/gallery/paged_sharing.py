"""Pages that sequences grown from one prompt share: parallel samples, and a beam search."""

from minikernels.figures import new_figure
from minikernels.gallery.look import BLUE, GREY, name_lines, panel, series
from minikernels.gallery.plate import Plate, percent
from minikernels.paged import beams

TECHNIQUES = ("paged",)
BESIDE = "Kwon et al. 2023 (PagedAttention), figures 8, 9 and 15"
WIDTH, STEPS, PROMPT, P = 6, 160, 161, 16


def plate(sources):
    """Return the plate: pages with and without sharing, step by step."""
    parents = {"parallel samples": beams.sample_parents(WIDTH, STEPS), "beam search": beams.beam_parents(WIDTH, STEPS)}
    found = {name: beams.grow(each, PROMPT, P) for name, each in parents.items()}
    saved = {name: sharing.saved for name, sharing in found.items()}
    caption = (
        f"{WIDTH} sequences grow from one prompt of {PROMPT} tokens, in pages of {P}. Forked sequences point at the "
        "same pages and copy a page only when they write to it. Samples share the prompt alone and save "
        f"{percent(saved['parallel samples'])} of the pages; beams go on sharing what their common ancestors wrote "
        f"and save {percent(saved['beam search'])}.")
    alt = ("Two charts of pages against tokens written. Without sharing both climb in steps from "
           f"{found['beam search'].alone[0]} pages; shared, the samples climb as steeply from a lower start, and the "
           "beams hardly climb at all.")
    provenance = ("Counted in a paged.PagePool by paged.beams; the search's choices are those of a model that draws "
                  f"at random, seed 0; {WIDTH} sequences, P={P}.")
    return Plate("Sharing pages between sequences", lambda: draw(found), caption, alt, provenance)


def draw(found):
    """Draw pages over time, the saving shaded."""
    figure = new_figure(8.2, 3.6)
    for axes, (name, sharing) in zip(figure.subplots(1, 2, sharey=True), found.items()):
        steps = range(1, len(sharing.used) + 1)
        axes.fill_between(steps, sharing.used, sharing.alone, color="#d5e7f2", linewidth=0, step="post")
        for number, (label, pages) in enumerate((("shared", sharing.used), ("alone", sharing.alone))):
            axes.step(steps, pages, where="post", label=label, **{**series(number), "marker": None})
        copies = [step for step, count in zip(steps, sharing.copied) if count]
        axes.plot(copies, [1.2] * len(copies), "|", color=GREY, markersize=7)
        axes.annotate("a page copied:", (0, 1.2), (1, 7), textcoords="offset points", fontsize=8, color=GREY)
        axes.annotate(f"{sharing.saved:.0%} saved", (0.62 * STEPS, (sharing.used[95] + sharing.alone[95]) / 2),
                      ha="center", va="center", fontsize=9.5, color=BLUE)
        axes.set(xlabel="tokens written by each sequence", ylim=(0, None), xlim=(0, STEPS))
        panel(axes, name)
        figure.draw_without_rendering()
        name_lines(axes)
    figure.axes[0].set_ylabel("pages in use")
    return figure
