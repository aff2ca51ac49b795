"""PoolView without a browser: requests, copies on write, refusals, and tables that attention takes."""

import numpy as np
import pytest

from minikernels.widgets import PoolView

EVENTS = [("allocate", 9), ("allocate", 6), ("fork", 0), ("append", 2, 1), ("allocate", 11, 0, 9), ("free", 1)]


def test_pool_view_holds_what_the_requests_left():
    view = PoolView(8, 4, EVENTS)
    np.testing.assert_array_equal(view.page_table, np.array([[0, 1, 2], [0, 1, 5], [0, 1, 6]], np.int32), strict=True)
    np.testing.assert_array_equal(view.lengths, np.array([9, 10, 11], np.int32), strict=True)
    assert view.references == (3, 3, 1, 0, 0, 1, 1, 0)
    assert view.utilisation == 14 / 20 and view.waste == pytest.approx(6 / 20)
    assert view.says == "sequence 1 is freed: 2 pages given back" and view.selected == 3


@pytest.mark.parametrize("step, says", [
    (0, "nothing has happened yet"), (1, "sequence 0 begins with 9 tokens in 3 pages"),
    (3, "sequence 2 is a fork of 0: 3 pages shared, nothing copied"),
    (4, "sequence 2 appends 1 token, 1 page taken; page 2 was shared, so it is copied to page 5"),
    (5, "sequence 3 begins with 11 tokens in 3 pages, 2 pages shared with sequence 0")])
def test_pool_view_plays_its_events(step, says):
    assert PoolView(8, 4, EVENTS, step=step).says == says


def test_a_request_that_does_not_fit_changes_nothing_and_gets_no_number():
    view = PoolView(3, 4, [("allocate", 9), ("allocate", 5), ("append", 0, 4), ("append", 0, 3), ("free", 0),
                           ("allocate", 12)])
    view.step = 2
    assert view.says == "out of pages: a request of 5 tokens needs 2 pages, and 0 are free; nothing has changed"
    view.step = 3
    assert view.says.startswith("out of pages: to append 4 tokens to sequence 0 takes 1 page")
    assert view.lengths.tolist() == [9]
    view.step = 6
    assert view.page_table.tolist() == [[0, 1, 2]] and list(view.pool.held) == [1] and view.utilisation == 1.0


def test_an_empty_pool_has_an_empty_table():
    view = PoolView(4, 2, [])
    assert view.page_table.shape == (0, 0) and view.lengths.shape == (0,) and view.waste == view.utilisation == 0
    assert view.selected == -1 and "<svg" in view.to_svg()


def test_pool_view_can_be_observed_and_driven():
    heard, view = [], PoolView(8, 4, EVENTS)
    view.observe(lambda change: heard.append(len(change.new)), "events")
    view.events = [*view.events, ["fork", 0]]
    assert heard == [7] and view.step == 6
    view.step = 99
    assert view.step == 7 and view.says.startswith("sequence 4 is a fork of 0")
    view.events = view.events[:2]
    assert view.step == 2
    with pytest.raises(ValueError, match="event 2: there is no sequence 7"):
        view.events = [*view.events, ["free", 7]]
    assert len(view.events) == 2


@pytest.mark.parametrize("events, message", [
    ([("evict", 1)], "event 0: an event is"), ([("allocate",)], "event 0: an event is"), (["free"], "an event is"),
    ([("allocate", -1)], "event 0: tokens is a whole number"), ([("append", 0, 1)], "event 0: there is no sequence 0"),
    ([("allocate", 3), ("free", 0), ("free", 0)], "event 2: there is no sequence 0"),
    ([("allocate", 3), ("allocate", 3, 0, 4)], "event 1: same is a whole number from 0 to 3"), ([5], "an event is")])
def test_pool_view_refuses(events, message):
    with pytest.raises(ValueError, match=message):
        PoolView(8, 4, events)


def test_pool_view_agrees_with_the_pool_of_the_lesson():
    """Page by page, where no two requests say the same by chance."""
    paged = pytest.importorskip("minikernels.paged", reason="this tree has no paged attention")
    rng = np.random.default_rng(1)
    events, real, held = [], paged.PagePool(pages=12, P=4, G=1, D=1, dtype=np.float32), []
    for _ in range(120):
        choice, tokens = rng.integers(4), int(rng.integers(1, 9))
        new = rng.standard_normal((tokens, 1, 1)).astype(np.float32)
        try:
            if choice == 0 or not held:
                events.append(("allocate", tokens))
                held.append(real.allocate(new, new))
            elif choice == 1:
                events.append(("append", held[tokens % len(held)], tokens))
                real.append(held[tokens % len(held)], new, new)
            elif choice == 2 and len(held) < 6:
                events.append(("fork", held[0]))
                held.append(real.fork(held[0]))
            else:
                events.append(("free", held[0]))
                real.free(held.pop(0))
        except RuntimeError as error:
            assert "free" in str(error)
        view = PoolView(12, 4, events)
        table, lengths = real.table(real.sequences)
        np.testing.assert_array_equal(view.page_table, table)
        np.testing.assert_array_equal(view.lengths, lengths)
        assert list(view.references) == list(real.references)


def test_pool_view_picture_is_small_and_repeatable():
    view = PoolView(64, 16, EVENTS)
    assert view.to_svg() == view.to_svg() and len(view.to_svg()) < 300_000
