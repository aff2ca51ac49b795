"""``gallery.html``: every figure on one page that needs no other file, in light and in dark."""

import base64
from html import escape

from minikernels import catalog, gallery

__all__ = ["page", "picture"]

STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --ink: #22262d; --soft: #5d6571; --rule: #dfe2e7; --link: #0072b2 }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14171c; --ink: #e8eaee; --soft: #a3aab5; --rule: #2c323b; --link: #56b4e9 }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 5rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif }
h1 { font-size: 1.9rem; margin: 0 0 .4rem }
h2 { margin: 3.5rem 0 .5rem; border-top: 1px solid var(--rule); padding-top: 1rem }
h3 { margin: 0 0 .3rem; font-size: 1.1rem }
a { color: var(--link) } nav a { margin-right: .9rem; white-space: nowrap }
figure { margin: 2rem 0 2.5rem } figure img { width: 100%; height: auto; display: block; margin-bottom: .7rem }
figcaption p { margin: .35rem 0 } .from, .lack { color: var(--soft); font-size: .87rem }
.dark { display: none !important }
@media (prefers-color-scheme: dark) { .light { display: none !important } .dark { display: block !important } }
@media print { .light { display: block !important } .dark { display: none !important } }
"""
FILES = {".svg": "SVG", ".png": "PNG", "-dark.svg": "SVG, dark", "-dark.png": "PNG, dark"}


def page(drawn, lacking, variants):
    """Return the page.

    Parameters
    ----------
    drawn : dict of str to Plate
        In the order of the page.
    lacking : dict of str to str
        Figures that could not be drawn, and why.
    variants : dict of str to (str, str)
        Each figure's SVG in light and in dark.
    """
    several = [name for name in gallery.NAMES if len(gallery.script(name).TECHNIQUES) > 1]
    groups = {"together": ("All techniques together", several)}
    for name in catalog.names():
        own = [figure for figure in gallery.about(name) if figure not in several]
        groups[name] = f"{name}: {catalog.technique(name).title}", own
    here = {key: (title, [n for n in names if n in drawn or n in lacking]) for key, (title, names) in groups.items()}
    here = {key: group for key, group in here.items() if group[1]}
    links = " ".join(f'<a href="#{key}">{key}</a>' for key in here)
    parts = [f'<h2 id="{key}">{escape(title)}</h2>\n' + "\n".join(
        shown(name, drawn[name], *variants[name]) if name in drawn else
        f'<p class="lack" id="{name}"><b>{name}</b> is not drawn: {escape(lacking[name])}.</p>' for name in names)
        for key, (title, names) in here.items()]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>minikernels: the gallery</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n"
        "<h1>The gallery</h1>\n<p>Every figure is drawn from a trace, a closed form, a recorded measurement or the "
        "tiny model; what each was drawn from stands below it. It follows your system's light or dark setting.</p>\n"
        f"<nav>{links}</nav>\n" + "\n".join(parts) + "\n</body>\n</html>\n")


def shown(name, plate, light, dark):
    """Return one figure with its words."""
    beside = escape(gallery.script(name).BESIDE)
    files = " ".join(f'<a href="{name}{end}">{word}</a>' for end, word in FILES.items())
    return (f'<figure id="{name}">\n{picture(light, plate.alt, "light")}\n{picture(dark, plate.alt, "dark")}\n'
            f"<figcaption>\n<h3>{escape(plate.title)}</h3>\n<p>{escape(plate.caption)}</p>\n"
            f'<p class="from">{escape(plate.provenance)}</p>\n'
            f'<p class="from">In the papers: {beside}. Files: {files}</p>\n</figcaption>\n</figure>')


def picture(svg, alt, kind):
    """Return an image that carries its SVG within."""
    data = base64.b64encode(svg.encode()).decode()
    return f'<img class="{kind}" alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}">'
