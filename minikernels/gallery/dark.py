"""A figure on a light and on a dark ground: greys turned over, colours lightened, and words that can be read on both.

A line in one of the palette's colours is seen on white; small letters in some of them are not. Words keep their hue and
are darkened, or on a dark ground lightened, until they stand out as WCAG asks of small text.
"""

import colorsys

import numpy as np
from matplotlib.collections import Collection
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

__all__ = ["BACKGROUND", "CONTRAST", "contrast", "darken", "darkened", "legible"]

BACKGROUND = "#14171c"
LOW, HIGH = 0.095, 0.92  # lightness that white and black become
CONTRAST = 4.5  # of words to their ground, to 1
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


def inverted(colour):
    """Return a pixel's colour with its lightness turned over: what was strongest on white is strongest on dark."""
    red, green, blue, alpha = to_rgba(colour)
    hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    low = colorsys.rgb_to_hls(*to_rgba(BACKGROUND)[:3])[1]
    turned = colorsys.hls_to_rgb(hue, HIGH + light * (low - HIGH), saturation)
    share = (1 - light) ** 0.3  # the palest fade into the ground, which has a hue of its own
    return (*(share * x + (1 - share) * y for x, y in zip(turned, to_rgba(BACKGROUND))), alpha)


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


def legible(figure, ground):
    """Make all of a figure's words stand out from its ground, in place, and return it."""
    for text in figure.findobj(Text):
        text.set_color(readable(text.get_color(), ground))
    return figure


def readable(colour, ground):
    """Return a colour mixed with black or white, whichever is away from the ground, just enough to be read on it.

    >>> [round(x, 2) for x in readable("#0072B2", "white")]  # stands out as it is
    [0.0, 0.45, 0.7, 1.0]
    """
    away = (0.0, 0.0, 0.0) if contrast("white", ground) < contrast("black", ground) else (1.0, 1.0, 1.0)
    *base, alpha = to_rgba(colour)
    for share in np.linspace(0, 1, 41).tolist():
        mixed = tuple(x + share * (end - x) for x, end in zip(base, away))
        if contrast(mixed, ground) >= CONTRAST:
            break
    return (*mixed, alpha)


def contrast(one, other):
    """Return how much two colours differ in luminance, from 1 to 21, as WCAG 2 defines it.

    >>> round(contrast("white", "black"))
    21
    """
    lights = []
    for colour in (one, other):
        linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in to_rgba(colour)[:3]]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


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
        turned = np.array([inverted(tuple(kind)) for kind in kinds])[:, : array.shape[2]]
        artist.set_array(turned[place].reshape(array.shape))
    else:
        artist.set_cmap(ListedColormap([inverted(colour) for colour in artist.get_cmap()(np.linspace(0, 1, 256))]))
