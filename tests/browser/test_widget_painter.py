"""MaskPainter in a browser: strokes, keys and patterns, and the same sums as in Python."""

import numpy as np
import pytest

from minikernels.widgets import MaskPainter
from minikernels.widgets.painter import _from_page

KEPT = (0x00, 0x72, 0xB2)
LIT = """(canvas, [r, g, b]) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) if (data[i] === r && data[i + 1] === g && data[i + 2] === b) count++;
  return count / (canvas.width * canvas.height);
}"""


def painted(page, painter):
    """Return the mask that the page holds."""
    return _from_page(page.evaluate("model.get('mask')"), painter)[0]


def agree(page, painter):
    """Hold the page's numbers for the head shown to Python's."""
    mask = painted(page, painter)
    own = MaskPainter(painter.mass[:1], block=painter.block, queries=painter.queries, keys=painter.length,
                      width=painter.width, itemsize=painter.itemsize, mask=mask[:1])

    def number(key):
        return page.locator(f"[data-number='{key}']").inner_text()

    assert number("flop") == f"{own.flop:,}" and number("bytes") == f"{own.hbm_bytes:,} B"
    assert float(number("density").rstrip(" %")) == pytest.approx(100 * own.density, abs=0.06)
    assert float(number("recall").rstrip(" %")) == pytest.approx(100 * own.recall, abs=0.06)


def test_painter_paints_with_mouse_keys_and_patterns(opened, fits_everyone):
    mass = np.random.default_rng(0).random((2, 6, 6)) + 0.1
    mass[:, :, 0] = 9  # the darkest of every row
    painter = MaskPainter(mass, block=(16, 16), queries=90, keys=90, width=32)
    page = opened(painter)
    board = page.locator("canvas")
    assert page.locator(".mk-says").inner_text().startswith("100 % of the blocks hold 100 %")
    assert board.evaluate(LIT, list(KEPT)) == pytest.approx(6 / 36, rel=0.15)
    agree(page, painter)

    box = board.bounding_box()
    cell = box["width"] / 6
    page.mouse.move(box["x"] + 0.5 * cell, box["y"] + 5.5 * cell)  # along the last row, three blocks
    page.mouse.down()
    page.mouse.move(box["x"] + 2.5 * cell, box["y"] + 5.5 * cell, steps=6)
    page.mouse.up()
    mask = painted(page, painter)
    assert not mask[:, 5, :3].any() and mask[:, :5].sum() == 2 * 15 and mask[:, 5, 3:].all()
    assert board.evaluate(LIT, list(KEPT)) == pytest.approx(5 / 36, rel=0.15)
    agree(page, painter)

    page.get_by_role("checkbox", name="paint every head").uncheck()
    board.focus()
    page.keyboard.press("ArrowUp")  # the cursor stood where the stroke began
    page.keyboard.press("Space")
    assert painted(page, painter)[:, 4, 0].tolist() == [False, True]
    page.keyboard.press("Shift+ArrowRight")
    assert painted(page, painter)[0, 4, :3].tolist() == [False, False, True]
    page.locator("[role='status']").get_by_text("block of queries 4, of keys 1: dropped").wait_for(state="attached")
    page.mouse.move(box["x"] + 5.5 * cell, box["y"] + 0.5 * cell)
    assert page.get_by_text("block of queries 0, of keys 5: no query sees it").count() == 1

    page.get_by_role("combobox", name="Pattern").select_option("top")
    page.get_by_role("spinbutton").fill("1")
    page.get_by_role("button", name="Fill with the pattern").click()
    mask = painted(page, painter)
    assert mask[0].sum() == 6 and mask[0, :, 0].all() and mask[1].sum() > 6
    agree(page, painter)
    page.get_by_role("combobox", name="Pattern").select_option("none")
    page.get_by_role("button", name="Fill with the pattern").click()
    assert page.locator(".mk-says").inner_text().endswith("6 rows of blocks keep nothing and give 0")
    page.get_by_role("slider", name="head").fill("1")
    assert page.evaluate("model.get('head')") == 1 and "keep nothing" not in page.locator(".mk-says").inner_text()
    fits_everyone(page)
