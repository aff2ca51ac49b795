"""MaskPainter without a browser: masks in and out, what is kept, what is refused."""

import numpy as np
import pytest
import traitlets

from minikernels.core.errors import DtypeError, ShapeError
from minikernels.widgets import MaskPainter
from minikernels.widgets.painter import _from_page, _to_page

MASS = np.arange(24, dtype=float).reshape(2, 3, 4) + 1


def test_painter_mask_has_the_shape_that_attention_takes():
    painter = MaskPainter(MASS, block=(8, 4), causal=False)
    assert painter.mask.shape == (1, 2, 3, 4) and painter.mask.dtype == bool and painter.block == (8, 4)
    assert (painter.density, painter.recall) == (1.0, 1.0)
    painter.mask = np.eye(3, 4, dtype=bool)
    assert painter.mask.shape == (1, 2, 3, 4) and painter.density == 0.25
    assert painter.recall == pytest.approx((1 + 6 + 11 + 13 + 18 + 23) / MASS.sum())


def test_painter_takes_attention_of_one_head_of_heads_and_of_one_sequence():
    masks = [MaskPainter(mass, causal=False).mask.shape for mass in (MASS[0], MASS, MASS[None])]
    assert masks == [(1, 1, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)]


def test_painter_mask_is_observable_and_read_only():
    heard, painter = [], MaskPainter(MASS, causal=False)
    painter.observe(lambda change: heard.append(change.new.sum()), "mask")
    painter.mask = np.zeros((2, 3, 4), bool)
    painter.mask = np.ones((1, 1, 3, 4), bool)
    assert heard == [0, 24]
    with pytest.raises(ValueError, match="read-only"):
        painter.mask[0, 0, 0, 0] = True


def test_painter_hides_what_causality_hides_where_queries_are_fewer_than_keys():
    painter = MaskPainter(np.ones((3, 5)), block=(4, 4), queries=10, keys=18)  # query t sees keys up to t + 8
    np.testing.assert_array_equal(painter.visible, [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    assert painter.mask.sum() == painter.visible.sum() and painter.density == 1.0


def test_painter_counts_ragged_blocks():
    painter = MaskPainter(np.ones((2, 3)), block=(4, 3), queries=6, keys=8, width=10, itemsize=2, causal=False)
    assert painter.flop == 4 * 6 * 8 * 10
    assert painter.hbm_bytes == 10 * 2 * (2 * 2 * 8 + 2 * 6)  # K and V once a row of blocks, q and o once
    painter.mask = np.array([[False, False, True], [True, False, False]])
    assert painter.flop == 4 * (4 * 2 + 2 * 3) * 10
    assert painter.hbm_bytes == 10 * 2 * (2 * (2 + 3) + 2 * 6)


def test_painter_mask_survives_the_way_to_the_page_and_back():
    painter = MaskPainter(MASS, causal=False, mask=np.random.default_rng(0).random((2, 3, 4)) < 0.5)
    text = _to_page(painter.mask, painter)
    assert set(text) == {"0", "1"} and len(text) == 24
    np.testing.assert_array_equal(_from_page(text, painter), painter.mask, strict=True)
    for wrong in (text[1:], "2" * 24, "x" * 24):
        with pytest.raises(traitlets.TraitError, match="24 cells of 0 or 1"):
            _from_page(wrong, painter)


@pytest.mark.parametrize("mass, settings, error, message", [
    (np.ones(3), {}, ShapeError, "mass has shape"),
    (np.ones((2, 1, 3, 3)), {}, ShapeError, "mass has shape"), (np.ones((0, 3)), {}, ValueError, "at least one block"),
    (-np.ones((2, 2)), {}, ValueError, "0 or more"),
    (np.full((2, 2), np.nan), {}, ValueError, "NaN or infinity"),
    ([["a"]], {}, DtypeError, "must hold floats"),
    (np.ones((2, 2)), {"queries": 99}, ShapeError, r"queries=99 in blocks of 16 are ceil\(T/R\)=7 blocks; mass has 2"),
    (np.ones((2, 2)), {"block": (0, 4)}, ValueError, "block is a whole number"),
    (np.ones((2, 2)), {"mask": np.ones((3, 2), bool)}, ShapeError, "mask has shape"),
    (np.ones((2, 2)), {"mask": np.ones((2, 2))}, traitlets.TraitError, "mask holds float64")])
def test_painter_refuses(mass, settings, error, message):
    with pytest.raises(error, match=message):
        MaskPainter(mass, **settings)


def test_painter_picture_is_small_and_repeatable():
    for side in (3, 64):
        painter = MaskPainter(np.random.default_rng(0).random((side, side)))
        assert painter.to_svg() == painter.to_svg() and len(painter.to_svg()) < 200_000
