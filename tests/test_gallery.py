"""The published figures: each can be read by everyone, says where its data comes from, and never changes by itself."""

import functools
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from minikernels import catalog, gallery
from minikernels.figures.style import style
from minikernels.gallery import dark, render
from minikernels.gallery.sources import Missing
from tests import plates

SVG = "{http://www.w3.org/2000/svg}"
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
INKS = ("#22262d", "#5d6571", "#3a4250")
UNITS = {"time": ("ms", "µs", "step", "tiles"), "memory": ("%",), "recall": ("%",), "speed": ("%",), "rate": ("/s",)}


@functools.cache
def drawn(name):
    """Return one figure: its name, its plate, and what is drawn from it on a light and on a dark ground."""
    try:
        plate = plates.plate(name)
    except Missing as missing:
        pytest.skip(str(missing))
    light = render.drawn(plate)
    with style():
        turned = render.VARIANTS["-dark"](plate.draw())
    return SimpleNamespace(name=name, plate=plate, light=light, dark=turned, svg=render.svg(name, plate, light))


@pytest.fixture(scope="module", params=gallery.NAMES)
def figure(request):
    return drawn(request.param)


def words(picture):
    """Yield the texts that a figure shows: not the labels of ticks that lie outside its axes."""
    hidden = set()
    for axes in picture.axes:
        for axis in (axes.xaxis, axes.yaxis):
            shown = axis._update_ticks() if axes.axison else []
            hidden |= {id(label) for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()] if tick not in shown
                       for label in (tick.label1, tick.label2)}
    yield from (text for text in picture.findobj(Text)
                if text.get_visible() and text.get_text().strip() and id(text) not in hidden)


def test_svg_says_what_it_is_to_those_who_do_not_see_it(figure):
    top = ET.fromstring(figure.svg)
    title, description = list(top)[:2]
    assert (title.tag, title.text) == (f"{SVG}title", figure.plate.title)
    assert (description.tag, description.text) == (f"{SVG}desc", figure.plate.alt)
    assert top.get("role") == "img"
    assert top.get("aria-labelledby").split() == [title.get("id"), description.get("id")]


def test_words_are_text_and_no_outlines(figure):
    shown = {"".join(element.itertext()) for element in ET.fromstring(figure.svg).iter(f"{SVG}text")}
    lines = {line.strip() for text in words(figure.light) for line in text.get_text().split("\n")}
    assert len(lines) > 5
    assert not {line for line in lines if line not in {one.strip() for one in shown}}
    assert "DejaVuSans-" not in figure.svg


def test_no_word_is_cut_off_or_written_over_another(figure):
    picture = figure.light
    picture.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in words(picture)]
    outside = [text for text, box in boxes
               if box.x0 < -1 or box.y0 < -1 or box.x1 > picture.bbox.width + 1 or box.y1 > picture.bbox.height + 1]
    over = [(one, other) for i, (one, a) in enumerate(boxes) for other, b in boxes[i + 1:]
            if min(a.x1, b.x1) - max(a.x0, b.x0) > 1.5 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1.5]
    assert (outside, over) == ([], [])


def test_axes_have_labels_with_units(figure):
    """An axis with ticks has a label: its own, a neighbour's that shares it, or the figure's; quantities have units."""
    groups = {}
    for axes in figure.light.axes:
        for axis, sides in ((axes.xaxis, axes.get_shared_x_axes()), (axes.yaxis, axes.get_shared_y_axes())):
            kin = frozenset(map(id, sides.get_siblings(axes)))
            said = [axis.label.get_text(), "of the figure" * bool(above(axes, axis.axis_name))]
            group = groups.setdefault((axis.axis_name, kin), [False, []])
            named = any(re.search("[A-Za-z%]", label.get_text()) for label in axis.get_ticklabels())
            group[0] |= axes.axison and len(axis._update_ticks()) > 0 and not named
            group[1] += filter(None, said)
    assert not [key[0] for key, (ticks, labels) in groups.items() if ticks and not labels]
    labels = [label for _, said in groups.values() for label in said]
    for label in labels:
        for quantity, units in UNITS.items():
            if re.match(rf"{quantity}\b", label):
                assert any(unit in label for unit in units), label


def above(axes, name):
    """Return the label that a figure, or a part of it, has for all its axes in one direction."""
    part = axes.figure
    label = getattr(part, f"_sup{name}label", None)
    return label.get_text() if label is not None else ""


def test_colours_are_okabe_and_itos_and_greys(figure):
    text = re.sub(r'xlink:href="data:[^"]*"', "", figure.svg)
    strange = {colour for colour in set(re.findall(r"#[0-9a-f]{6}\b", text)) if not allowed(colour)}
    assert not strange


def allowed(colour):
    """Return whether a colour is a grey, or lies between one of the palette and white (a tint) or black (an ink)."""
    rgb = np.array(to_rgb(colour))
    if np.ptp(rgb) < 0.1:
        return True
    for base in map(np.array, map(to_rgb, (*OKABE_ITO, *INKS))):
        for end in (np.zeros(3), np.ones(3)):
            share = np.clip(np.dot(rgb - end, base - end) / np.dot(base - end, base - end), 0, 1)
            if np.abs(end + share * (base - end) - rgb).max() < 0.025:
                return True
    return False


def test_series_can_be_told_apart_without_colour(figure):
    for axes in figure.light.axes:
        named = [line for line in axes.lines if not line.get_label().startswith("_")]
        looks = [(line.get_marker(), str(line._dash_pattern), line.get_markerfacecolor() == "none") for line in named]
        assert len(set(looks)) == len(looks), [line.get_label() for line in named]
        filled = {(tuple(np.round(patch.get_facecolor(), 3)), patch.get_hatch())
                  for bars in axes.containers for patch in bars}
        for one, hatch in filled:
            for other, other_hatch in filled:
                if one != other and hatch == other_hatch and len(axes.containers) > 1:
                    assert abs(lightness(one) - lightness(other)) > 0.1, (one, other)


def lightness(colour):
    return float(np.dot(colour[:3], (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("ground", ["white", dark.BACKGROUND], ids=["light", "dark"])
def test_words_stand_out_from_their_ground(figure, ground):
    picture = figure.light if ground == "white" else figure.dark
    assert np.allclose(to_rgb(picture.get_facecolor()[:3]), to_rgb(ground), atol=1e-6)
    faint = {text.get_text(): dark.contrast(text.get_color(), ground) for text in words(picture)}
    assert not {text: ratio for text, ratio in faint.items() if ratio < dark.CONTRAST - 1e-6}


def test_caption_alt_and_provenance_say_something(figure):
    plate = figure.plate
    assert len(plate.caption) > 120
    assert len(plate.alt) > 80
    assert len(plate.provenance) > 40
    for text in (plate.title, plate.caption, plate.alt, plate.provenance):
        assert not re.search(r"nan|None|\{|\}|  |\.\.", text), text
    if any(recording.gpu in plate.provenance for recording in plates.sources().recordings):
        assert re.search(r"\d{4}-\d\d-\d\d|ncu \d", plate.provenance), "a measurement has a date, or the tool's version"


def test_every_script_is_in_the_list_and_every_technique_has_two_figures():
    scripts = {path.stem for path in Path(gallery.__file__).parent.glob("*.py") if "\ndef plate(" in path.read_text()}
    assert scripts == set(gallery.NAMES) and len(gallery.NAMES) >= 14
    for name in catalog.names():
        assert sum(gallery.script(figure).TECHNIQUES == (name,) for figure in gallery.about(name)) >= 2, name
    assert all(gallery.script(name).BESIDE for name in gallery.NAMES)


@pytest.mark.parametrize("name", gallery.NAMES[::3])
def test_two_drawings_are_the_same_to_the_byte(name):
    """A third of the figures: what makes SVG the same every time is common to all of them."""
    figure = drawn(name)
    again = render.svg(name, figure.plate, render.drawn(figure.plate))
    assert again == figure.svg and "<dc:date>" not in again
