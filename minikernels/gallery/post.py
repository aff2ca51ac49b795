"""A blog post to start from: one Markdown file a technique, made of its README, the catalog and its figures' words."""

import re
from pathlib import Path

from minikernels import catalog, gallery

__all__ = ["post", "section"]

PACKAGE = Path(__file__).resolve().parent.parent
HEIGHT = 720  # of the player's frame, in points of a screen


def post(name, drawn, lacking, player):
    """Return the Markdown of one technique's post.

    Parameters
    ----------
    name : str
        The technique.
    drawn : dict of str to Plate
        Figures that stand one folder up.
    lacking : dict of str to str
        Figures that could not be drawn, and why.
    player : str
        The page that plays two of its kernels, as seen from the post.
    """
    technique = catalog.technique(name)
    readme = (PACKAGE / name / "README.md").read_text("utf-8")
    heading, equation, opening = beginning(readme)
    names = gallery.about(name)
    figures = [figure(n, drawn[n]) if n in drawn else f"*{n} is not drawn: {lacking[n]}.*" for n in names
               if n in drawn or n in lacking]
    say = [f"- **{drawn[n].title}**: {first_sentence(drawn[n].caption)}" for n in names if n in drawn]
    say += [f"- Step {i} of the ladder, `{rung.name}`: {rung.idea}." for i, rung in enumerate(technique.rungs)]
    return "\n\n".join([
        f"# {heading}",
        "<!-- A template, written by `minikernels figures`: make it yours. Its numbers are the figures' own. -->",
        "## The question", f"{opening}", "## The equation", equation,
        "## What to see\n\n" + "\n\n".join(figures),
        "## Watch it run",
        f"Two kernels of the ladder, {' and '.join(f'`{n}`' for n in technique.shown)}, step by step: what lies in "
        "HBM, what in SRAM, and what each step costs.",
        f'<iframe src="{player}" title="{name}: {" beside ".join(technique.shown)}, step by step" width="100%" '
        f'height="{HEIGHT}" loading="lazy"></iframe>',
        f"[Open the player on a page of its own]({player})",
        "## What to say", "\n".join(say),
        "## References", section(readme, "Papers"),
    ]) + "\n"


def beginning(readme):
    """Return a README's heading, its first equation, and the paragraph that follows it."""
    heading = re.match(r"# (.*)", readme)[1].partition(": ")[2]
    equation = re.search(r"\$\$.*?\$\$", readme, re.DOTALL)
    opening = readme[equation.end():].strip().split("\n\n")[0]
    return heading[0].upper() + heading[1:], equation[0], opening


def section(readme, name):
    """Return what stands under a heading of a README; '' where there is none of that name."""
    found = re.search(rf"^## {name}\n\n(.*?)(?=^## |\Z)", readme, re.DOTALL | re.MULTILINE)
    return found[1].strip() if found else ""


def first_sentence(text):
    """Return a caption up to its first full stop that ends a sentence."""
    return text.partition(". ")[0].removesuffix(".") + "."


def figure(name, plate):
    """Return one figure in Markdown: light or dark as the reader's system is, with caption and provenance."""
    alt = plate.alt.replace('"', "'")
    beside = gallery.script(name).BESIDE
    return (f"### {plate.title}\n\n"
            f'<picture>\n<source media="(prefers-color-scheme: dark)" srcset="../{name}-dark.svg">\n'
            f'<img src="../{name}.svg" alt="{alt}">\n</picture>\n\n'
            f"{plate.caption}\n\n*{plate.provenance}* In the papers: {beside}.")
