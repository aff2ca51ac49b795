"""TrafficMeter in a browser."""

import pytest

from minikernels.core.traffic import Traffic
from minikernels.widgets import TrafficMeter


@pytest.mark.parametrize("width", [400, 900])
def test_meter_shows_bars_in_proportion(opened, fits_everyone, width):
    rungs = [("v1_three_pass", Traffic(load_bytes=900, store_bytes=100),
              {"q": Traffic(load_bytes=600), "p": Traffic(load_bytes=300, store_bytes=100), "p_smem": Traffic()}),
             ("v2_tiled", Traffic(load_bytes=200), Traffic(load_bytes=250)), ("v3_raw", Traffic(load_bytes=100), None)]
    page = opened(TrafficMeter(rungs), width)

    def bar(rung):
        return sum(part.bounding_box()["width"] for part in page.locator(f"[data-rung='{rung}'] .mk-segment").all())

    assert bar("v2_tiled") / bar("v1_three_pass") == pytest.approx(0.25, rel=0.02)
    assert [page.locator(f"[data-rung='{name}'] .mk-said").inner_text() for name, *_ in rungs] == [
        "1,000 B counted = predicted", "250 B counted, 200 B predicted (+25 %)", "100 B predicted, not counted"]
    assert page.locator("li.mk-differs").count() == 1
    page.locator("[data-rung='v1_three_pass']").focus()
    assert page.evaluate("model.get('selected')") == "v1_three_pass"
    assert page.locator(".mk-detail").inner_text() == "v1_three_pass, HBM bytes, loaded and stored: q 600 B, p 400 B"
    page.get_by_role("combobox", name="Quantity").select_option("store_bytes")
    assert page.evaluate("model.get('quantity')") == "store_bytes" and bar("v2_tiled") == 0
    page.get_by_role("checkbox").check()
    assert page.evaluate("model.get('logarithmic')") is True
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    fits_everyone(page)
