"""The gallery's page: its pictures are within it, and follow the reader's light or dark setting."""

import pytest

from minikernels.gallery import page as gallery_page
from minikernels.gallery import render
from tests import plates

NAMES = ("flash_loops", "paged_sharing")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("gallery") / "gallery.html"
    drawn = {name: plates.plate(name) for name in NAMES}
    svgs = {name: tuple(render.svg(name, plate, render.drawn(plate, end)) for end in render.VARIANTS)
            for name, plate in drawn.items()}
    path.write_text(gallery_page.page(drawn, {"counts": "nobody counted"}, svgs), "utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_show_in_the_reader_s_scheme_and_fit_a_narrow_screen(page, written, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 400, "height": 800})
    page.goto(written.as_uri())
    shown = page.locator("img:visible")
    assert shown.count() == len(NAMES)
    assert shown.evaluate_all("all => all.every(one => one.complete && one.naturalWidth > 300)")
    assert shown.evaluate_all("all => all.map(one => one.className)") == [scheme] * len(NAMES)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert "nobody counted" in page.inner_text("body")
