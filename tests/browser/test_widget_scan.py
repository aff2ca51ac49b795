"""ScanTree in a browser."""

import numpy as np

from minikernels.widgets import ScanTree


def test_scan_tree_climbs_level_by_level(opened, fits_everyone):
    page = opened(ScanTree(np.full(8, 0.5), np.ones(8), step=0))
    says = page.locator(".mk-says")
    assert says.inner_text() == "before the first level: element 7 holds input 7 alone: decay 0.500, drive 1"
    page.get_by_role("button", name="One level on").click()
    assert says.inner_text() == ("level 1 of 5: 4 combinations at once, 4 of 11 so far; element 7 holds inputs 6 to 7: "
                                 "decay 0.250, drive 1.500")
    assert page.evaluate("model.get('step')") == 1
    assert page.locator("circle.mk-fresh").count() == 3 and page.locator("circle.mk-origin").count() == 3
    page.locator("circle[data-level='1'][data-element='3']").click()
    assert page.evaluate("model.get('element')") == 3 and "element 3 holds inputs 2 to 3" in says.inner_text()
    page.get_by_role("slider", name="Level").focus()
    page.keyboard.press("End")
    assert "holds inputs 0 to 3: decay 0.0625, drive 1.875, done" in says.inner_text()
    page.get_by_role("combobox", name="Algorithm").select_option("hillis_steele")
    assert page.locator("[data-number='work']").inner_text() == "17"
    assert page.locator("[data-number='depth']").inner_text() == "3"
    assert page.locator("circle[data-level='3']").count() == 5  # four combinations, and the element that is followed
    page.get_by_role("button", name="First level").click()
    page.get_by_role("button", name="Play").click()
    says.filter(has_text="level 3 of 3").wait_for()
    page.get_by_role("button", name="Play").wait_for()  # it stops by itself
    fits_everyone(page)
