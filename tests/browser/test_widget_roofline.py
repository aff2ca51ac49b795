"""Roofline in a browser."""

import pytest

from minikernels.widgets import Roofline
from tests.test_widget_roofline import MACHINE, POINTS


def test_roofline_shows_the_roof_above_a_kernel(opened, fits_everyone):
    page = opened(Roofline([*POINTS, {"name": "cached", "flop": 1e9, "bytes": 1e9, "ms": 0.5}], MACHINE))
    says = page.locator(".mk-says")
    assert says.inner_text() == "5 kernels; choose one to see the roof above it"
    assert page.locator("circle.mk-rung").count() == 4 and page.locator("path.mk-peer").count() == 1
    page.get_by_role("button", name="v2").click()
    assert page.evaluate("model.get('selected')") == "v2"
    assert says.inner_text() == "v2: 50 TFLOP/s, 50 % of the roof above it; arithmetic limits it (tensor)"
    assert page.locator(".mk-under").count() == 1
    page.locator("circle.mk-rung").first.click()
    assert says.inner_text() == "v1: 0.500 TFLOP/s, 50 % of the roof above it; bytes limit it"
    page.get_by_role("button", name="cached").focus()
    page.keyboard.press("Enter")
    assert says.inner_text().endswith("200 % of the roof above it; bytes that L2 serves let it stand above HBM's roof")
    spots = [dot.bounding_box() for dot in page.locator("circle.mk-rung").all()]
    assert spots[0]["x"] == pytest.approx(spots[3]["x"], abs=1) and spots[3]["y"] < spots[0]["y"]
    assert spots[1]["x"] > spots[0]["x"] and "measured on a day" in page.locator(".mk-what").inner_text()
    fits_everyone(page)
