"""The dark variant of a figure: the same artists, greys turned over, the palette's colours lightened where too dark."""

import colorsys

import numpy as np
from matplotlib.collections import Collection
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

__all__ = ["BACKGROUND", "darken", "darkened"]

BACKGROUND = "#14171c"
LOW, HIGH = 0.095, 0.92  # lightness that white and black become
WHITE = 0.3  # share of white that the palette's colours are mixed with
TINT = 0.8  # lightness from which on a colour is a tint: a surface and no line
GREYISH = 0.25  # saturation up to which a colour counts as grey


def darkened(colour):
    """Return a colour as it stands on a dark ground, its transparency kept.

    >>> [round(x, 2) for x in darkened("white")], [round(x, 2) for x in darkened("black")]
    ([0.08, 0.09, 0.11, 1.0], [0.92, 0.92, 0.92, 1.0])
    """
    red, green, blue, alpha = to_rgba(colour)
    hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    if saturation <= GREYISH or max(red, green, blue) - min(red, green, blue) < 0.06:
        if light == 1:
            return (*to_rgba(BACKGROUND)[:3], alpha)
        return (*colorsys.hls_to_rgb(hue, HIGH + light * (LOW - HIGH), saturation), alpha)
    if light > TINT:
        return (*colorsys.hls_to_rgb(hue, 0.16 + 1.2 * (1 - light), 0.45 * saturation), alpha)
    return (*(x + WHITE * (1 - x) for x in (red, green, blue)), alpha)


def darken(figure):
    """Turn a figure into its dark variant, in place, and return it."""
    for artist in figure.findobj():
        if isinstance(artist, Figure):
            artist.set_facecolor(BACKGROUND)
        elif isinstance(artist, Text):
            artist.set_color(darkened(artist.get_color()))
            if artist.get_bbox_patch() is not None:
                of_patch(artist.get_bbox_patch())
        elif isinstance(artist, Line2D):
            of_line(artist)
        elif isinstance(artist, Patch):
            of_patch(artist)
        elif isinstance(artist, AxesImage) or (isinstance(artist, Collection) and artist.get_array() is not None):
            of_pixels(artist)
            if isinstance(artist, Collection):
                artist.set_edgecolor([darkened(colour) for colour in artist.get_edgecolor()])
        elif isinstance(artist, Collection):
            for kind in ("facecolor", "edgecolor"):
                colours = getattr(artist, f"get_{kind}")()
                if len(colours):
                    artist.set(**{kind: [darkened(colour) for colour in colours]})
    return figure


def of_patch(patch):
    """Turn a patch's colours over."""
    patch.set(facecolor=darkened(patch.get_facecolor()), edgecolor=darkened(patch.get_edgecolor()))


def of_line(line):
    """Turn a line's colours over; a marker's own are set last, for they follow the line's by default."""
    face, edge = line.get_markerfacecolor(), line.get_markeredgecolor()
    line.set_color(darkened(line.get_color()))
    for name, colour in (("face", face), ("edge", edge)):
        if not (isinstance(colour, str) and colour in ("none", "auto")):
            getattr(line, f"set_marker{name}color")(darkened(colour))


def of_pixels(artist):
    """Turn pixels over: those that are colours themselves, or the map that numbers are coloured by."""
    array = np.ma.getdata(artist.get_array())
    if array.ndim == 3:
        kinds, place = np.unique(np.round(array.reshape(-1, array.shape[2]), 3), axis=0, return_inverse=True)
        turned = np.array([darkened(tuple(kind)) for kind in kinds])[:, : array.shape[2]]
        artist.set_array(turned[place].reshape(array.shape))
    else:
        artist.set_cmap(ListedColormap([darkened(colour) for colour in artist.get_cmap()(np.linspace(0, 1, 256))]))
