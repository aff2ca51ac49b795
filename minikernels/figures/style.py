"""One look for every figure, and a way to save that gives the same bytes every time."""

import io
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["ATOMIC", "COUNTED", "INK", "LOAD", "PREDICTED", "SHARED", "STORE", "STYLE", "new_figure", "save", "style",
           "svg"]

STYLE = Path(__file__).parent / "minikernels.mplstyle"

# Okabe-Ito; one colour, one meaning, here and in the widgets.
LOAD, STORE, ATOMIC, SHARED = "#0072B2", "#D55E00", "#CC79A7", "#009E73"
COUNTED, PREDICTED, INK = "#0072B2", "#333333", "#22262d"
METADATA = {".svg": {"Date": None, "Creator": "minikernels"}, ".png": {"Software": "minikernels"}}


@contextmanager
def style():
    """Draw inside this block in the project's style; the caller's own settings come back after it."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.style.use(STYLE)
        yield


def new_figure(width, height):
    """Return an empty figure of that many inches in the project's style, outside pyplot (nothing to close)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure, path):
    """Write a figure as ``.svg`` (real text) or ``.png``, byte-identical from run to run.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : str or Path
        The name's end says the format.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If the name ends in neither ``.svg`` nor ``.png``.
    """
    path = Path(path)
    if path.suffix not in METADATA:
        raise ValueError(f"{path.name} ends in {path.suffix or 'nothing'}; a figure is saved as .svg or .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        figure.savefig(path, metadata=METADATA[path.suffix])
    return path


def svg(figure):
    """Return a figure (or the figure of some Axes) as SVG text, for ``IPython.display.SVG``.

    Parameters
    ----------
    figure : matplotlib.figure.Figure or matplotlib.axes.Axes

    Returns
    -------
    str
    """
    figure = figure if isinstance(figure, Figure) else figure.get_figure(root=True)
    text = io.StringIO()
    with style():
        figure.savefig(text, format="svg", metadata=METADATA[".svg"])
    return text.getvalue()
