"""One page for all widgets: opened from a file, without a network, held to what every reader needs."""

import pytest

# Controls and drawings without a name, and text that stands out too little from what is behind it (WCAG's 4.5 to 1).
UNNAMED = """() => [...document.querySelectorAll("button, input, select, canvas, svg, [role='group'], [role='region']")]
  .filter((e) => !e.getAttribute("aria-label") && !e.getAttribute("aria-hidden") && !e.closest("label")
    && !(e.tagName === "BUTTON" && e.textContent.trim())).map((e) => e.outerHTML.slice(0, 120))"""
UNREACHED = """() => [...document.querySelectorAll("button, input, select")]
  .filter((e) => e.tabIndex < 0).map((e) => e.outerHTML.slice(0, 120))"""
FAINT = """() => {
  const numbers = (text) => text.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [[r, 0.2126], [g, 0.7152], [b, 0.0722]].reduce((sum, [value, weight]) => {
    const c = value / 255;
    return sum + weight * (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  }, 0);
  const behind = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const { backgroundColor, backgroundImage } = getComputedStyle(at);
      if (backgroundImage !== "none") return null;
      const [r, g, b, a] = numbers(backgroundColor);
      if (a === undefined || a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("#widget *")].filter((e) => !e.closest("svg, canvas, option, [disabled]")
    && e.clientHeight && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((e) => {
      const back = behind(e);
      if (!back) return null;
      const [a, b] = [light(numbers(getComputedStyle(e).color)), light(back)].sort((x, y) => y - x);
      return (a + 0.05) / (b + 0.05) < 4.5 ? e.outerHTML.slice(0, 120) : null;
    }).filter(Boolean);
}"""


@pytest.fixture(scope="session")
def shared_page(browser):
    """Return one page, and what its scripts complain of and ask the network for."""
    context = browser.new_context(offline=True)
    page = context.new_page()
    errors, asked = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    yield page, errors, asked
    context.close()


@pytest.fixture
def opened(shared_page, tmp_path):
    """Open a widget's page from a file; nothing but that file may be asked for, and no script may complain."""
    page, errors, asked = shared_page
    errors.clear()
    asked.clear()

    def open_page(widget, width=1240):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme="light")
        page.goto(widget.to_html(tmp_path / "page.html").as_uri())
        page.locator("html[data-ready='true']").wait_for()
        return page

    yield open_page
    assert not errors, errors
    assert [url for url in asked if not url.startswith(("file:", "blob:"))] == []


@pytest.fixture
def fits_everyone():
    """Hold a page to names, keys, contrast in light and dark, and a width of 400 px."""

    def check(page):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.locator(f".mk[data-theme='{scheme}']").wait_for()
            assert page.evaluate(FAINT) == [], scheme
        assert page.evaluate(UNNAMED) == page.evaluate(UNREACHED) == []
        page.set_viewport_size({"width": 400, "height": 800})
        page.wait_for_function("document.documentElement.scrollWidth <= 400")
        page.wait_for_function("document.querySelector('.mk').clientWidth <= 400")

    return check
