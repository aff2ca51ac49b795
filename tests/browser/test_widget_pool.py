"""PoolView in a browser: requests issued there, and the same bookkeeping as in Python."""

import json

import numpy as np

from minikernels.widgets import PoolView
from minikernels.widgets.page import front_end
from minikernels.widgets.pool_model import Pool

RUN = """async ([module, pages, P, events]) => {
  const { Pool } = await import(URL.createObjectURL(new Blob([module], { type: "text/javascript" })));
  const pool = new Pool(pages, P);
  return events.map((event) => [pool.apply(event), [...pool.held], [...pool.lengths], pool.references, pool.filled,
    pool.unused].map((x) => JSON.parse(JSON.stringify(x))));
}"""


def some_events(rng, count):
    """Return events that can be asked, one after the other."""
    pool, events = Pool(10, 3), []
    for _ in range(count):
        name, tokens = rng.choice(["allocate", "append", "fork", "free", "like"]), int(rng.integers(0, 10))
        old = int(rng.choice(list(pool.held))) if pool.held else None
        event = {"append": ["append", old, tokens], "fork": ["fork", old], "free": ["free", old]}.get(name)
        if old is None or event is None:
            same = 0 if old is None else min(tokens, pool.lengths[old])
            event = ["allocate", tokens] if old is None or name == "allocate" else ["allocate", tokens, old, same]
        pool.check(event)
        pool.apply(event)
        events.append(event)
    return events


def test_pool_does_the_same_in_both_languages(opened):
    events = some_events(np.random.default_rng(4), 150)
    page = opened(PoolView(10, 3, events))
    module = front_end("shared.js", "pool_model.js") + "\nexport { Pool };"
    shown = page.evaluate(RUN, [module, 10, 3, events])
    pool = Pool(10, 3)
    for event, (said, held, lengths, references, filled, unused) in zip(events, shown, strict=True):
        assert said == pool.apply(event)
        assert held == json.loads(json.dumps(list(pool.held.items()))), event
        assert lengths == [list(pair) for pair in pool.lengths.items()]
        assert (references, filled, unused) == (pool.references, pool.filled, pool.unused)
    assert any(said.startswith("out of pages") for said, *_ in shown) and any("copied" in said for said, *_ in shown)


def test_pool_view_takes_requests(opened, fits_everyone):
    page = opened(PoolView(12, 4, [("allocate", 9), ("fork", 0)]))
    says = page.locator(".mk-says")
    assert page.locator("[data-references='2']").count() == 3 and page.locator(".mk-empty").count() == 3
    page.get_by_role("spinbutton", name="Tokens").fill("2")
    page.get_by_role("button", name="Append tokens to the chosen sequence").click()
    assert says.inner_text() == ("sequence 1 appends 2 tokens, 1 page taken; page 2 was shared, so it is copied to "
                                 "page 3")
    page.get_by_role("button", name="Sequence 0, 9 tokens, pages 0, 1, 2").click()
    assert page.evaluate("model.get('selected')") == 0
    page.get_by_role("button", name="Free the chosen sequence").click()
    assert says.inner_text() == "sequence 0 is freed: 1 page given back"
    assert page.evaluate("[model.get('selected'), model.get('step')]") == [1, 4]
    page.get_by_role("spinbutton", name="Tokens").fill("99")
    page.get_by_role("button", name="New request", exact=True).click()
    assert says.inner_text().startswith("out of pages: a request of 48 tokens needs 12 pages, and 9 are free")
    page.get_by_role("button", name="One event back").click()
    page.get_by_role("button", name="One event back").click()
    assert page.locator(".mk-sequence").count() == 2 and "copied" in says.inner_text()
    page.get_by_role("spinbutton", name="Tokens").fill("8")
    page.get_by_role("button", name="New request that begins like the chosen sequence").click()
    assert page.evaluate("model.get('events')") == [  # what came later is gone
        ["allocate", 9], ["fork", 0], ["append", 1, 2], ["allocate", 8, 1, 8]]
    assert says.inner_text() == "sequence 2 begins with 8 tokens in 2 pages, 2 pages shared with sequence 1"
    assert "sharing saves 4 pages" in page.locator(".mk-use").inner_text()
    assert page.locator("svg.mk-history").get_attribute("aria-label") == (
        "Slots over 4 events: at most 4 empty slots in pages in use")
    page.get_by_role("slider", name="Event").focus()
    page.keyboard.press("Home")
    assert says.inner_text() == "nothing has happened yet"
    assert page.get_by_role("button", name="Fork the chosen sequence").is_disabled()
    page.keyboard.press("End")
    fits_everyone(page)
