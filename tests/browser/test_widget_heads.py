"""HeadGroups in a browser."""

from minikernels.widgets import HeadGroups


def test_head_groups_shows_what_sharing_saves(opened, fits_everyone):
    page = opened(HeadGroups(8, 2, keys=1024, width=64, quality={8: 1.9, 2: 2.0}))
    says, read = page.locator(".mk-says"), page.locator("[data-number='read']")
    assert says.inner_text() == ("query head 0 reads key/value head 0 // 4 = 0; keys and values are read from HBM "
                                 "2 times, once a group")
    assert read.inner_text() == "524,288 B" and page.locator("[data-group]").count() == 2
    page.locator("[data-query='5']").click()
    assert page.evaluate("model.get('head')") == 5 and "5 // 4 = 1" in says.inner_text()
    page.get_by_role("checkbox").uncheck()
    assert read.inner_text() == "2,097,152 B" and says.inner_text().endswith("8 times, once a query head")
    assert page.locator(".mk-moves").count() == 8
    page.get_by_role("combobox", name="Key/value heads G").select_option("8")
    assert page.evaluate("model.get('groups')") == 8 and page.locator("[data-group]").count() == 8
    assert page.locator("[data-number='quality']").inner_text() == "1.900 bits a byte"
    page.evaluate("model.set('groups', 1)")
    assert page.get_by_role("combobox", name="Key/value heads G").input_value() == "1"
    assert page.locator("[data-number='quality']").inner_text() == "not measured"
    page.get_by_role("slider", name="follow query head").focus()
    page.keyboard.press("End")
    assert "query head 7 reads" in says.inner_text()
    fits_everyone(page)
