"""From a plate to its files: SVG with real text, a title and a description, PNG at 2x, each in light and in dark.

A file is written under another name and then takes its own: whoever looks sees the old one or the new one, whole.
"""

import io
import os
from html import escape
from pathlib import Path

from minikernels.figures.style import METADATA, style
from minikernels.gallery.dark import BACKGROUND, darken, legible

__all__ = ["VARIANTS", "drawn", "png", "replace", "svg", "write"]

VARIANTS = {  # end of a file's name -> what becomes of the figure
    "": lambda figure: legible(figure, "white"),
    "-dark": lambda figure: legible(darken(figure), BACKGROUND),
}
MARGIN = 0.09  # inches around each part
DPI = 200  # twice the 100 points of an inch that a page shows


def write(name, plate, folder, dpi=DPI):
    """Write all files of one plate.

    Parameters
    ----------
    name : str
        The files' name without its end.
    plate : Plate
    folder : Path
        There already.
    dpi : int
        Pixels of an inch in the PNG files.

    Returns
    -------
    list of Path
    """
    paths = []
    for end in VARIANTS:
        figure = drawn(plate, end)
        for suffix, data in ((".svg", svg(name + end, plate, figure).encode()), (".png", png(figure, dpi))):
            paths.append(replace(Path(folder) / f"{name}{end}{suffix}", data))
    return paths


def drawn(plate, variant=""):
    """Return a plate's figure, laid out once and for all: what is drawn later moves nothing."""
    with style():
        figure = VARIANTS[variant](plate.draw())
        if figure.get_layout_engine() is not None:
            figure.get_layout_engine().set(w_pad=MARGIN, h_pad=MARGIN)
            figure.get_layout_engine().execute(figure)
            figure.set_layout_engine("none")
        for axes in figure.axes:
            hold(axes.xaxis)
            hold(axes.yaxis)
    return figure


def hold(axis):
    """Keep a linear axis' ticks: how many there is room for depends on the pixels of an inch."""
    if axis.get_scale() == "linear":
        low, high = sorted(axis.get_view_interval())
        axis.set_ticks([place for place in axis.get_ticklocs() if low <= place <= high])


def svg(name, plate, figure):
    """Return a figure as SVG that says what it is to those who do not see it."""
    text = io.StringIO()
    with style():
        figure.savefig(text, format="svg", metadata=METADATA[".svg"], facecolor=figure.get_facecolor())
    head, tag, rest = text.getvalue().partition("<svg ")
    attributes, _, body = rest.partition(">")
    words = (f'<title id="{name}-title">{escape(plate.title)}</title>\n'
             f'<desc id="{name}-desc">{escape(plate.alt)}</desc>')
    role = f'role="img" aria-labelledby="{name}-title {name}-desc"'
    return f"{head}{tag}{attributes} {role}>\n {words}{body}"


def png(figure, dpi=DPI):
    """Return a figure as the bytes of a PNG."""
    pixels = io.BytesIO()
    with style():
        figure.savefig(pixels, format="png", dpi=dpi, metadata=METADATA[".png"], facecolor=figure.get_facecolor())
    return pixels.getvalue()


def replace(path, data):
    """Write a file's bytes, all or nothing, and return its path."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(data)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
