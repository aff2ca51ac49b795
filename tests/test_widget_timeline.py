"""CacheTimeline without a browser: what became of each token, and what cannot be a cache."""

import numpy as np
import pytest

from minikernels.core.errors import DtypeError, ShapeError
from minikernels.widgets import CacheTimeline

HELD = np.array([[16, 0, 0, 0, 0], [16, 16, 0, 0, 0], [16, 4, 16, 0, 0], [16, 0, 16, 0, 0], [16, 0, 0, 0, 16]])
BYTES = HELD.sum(1)
FULL = 16 * np.arange(1, 6)


def test_timeline_tells_what_became_of_each_token():
    view = CacheTimeline(HELD, BYTES, FULL, merged=[-1, -1, -1, 2, -1])
    np.testing.assert_array_equal(view.status, [
        [4, 0, 0, 0, 0], [4, 4, 0, 0, 0], [4, 3, 4, 0, 0], [4, 1, 4, 2, 0], [4, 1, 1, 1, 4]])
    assert view.kept == (0, 4) and view.step == 4
    assert view.title == "CacheTimeline: step 4 of 4, 2 of 5 tokens in 32 B of 80 B"


def test_timeline_takes_true_and_false_and_a_prompt():
    held = np.array([[1, 1, 1, 0], [1, 0, 1, 1]], bool)
    view = CacheTimeline(held, [3, 3], [3, 4])
    np.testing.assert_array_equal(view.status, [[4, 4, 4, 0], [4, 1, 4, 4]])
    held[0, 3] = True
    assert CacheTimeline(held, [3, 3], [4, 4], arrived=[4, 4], text="abcd").status[0].tolist() == [4, 4, 4, 4]


def test_timeline_step_can_be_observed_and_stays_inside():
    heard, view = [], CacheTimeline(HELD, BYTES, FULL, step=1)
    view.observe(lambda change: heard.append(change.new), "step")
    view.step, view.step = 3, 99
    assert heard == [3, 4] and view.kept == (0, 4)


@pytest.mark.parametrize("change, error, message", [
    ({"held": np.eye(5)}, DtypeError, "held holds float64"), ({"held": HELD[0]}, ShapeError, "held has shape"),
    ({"held": np.zeros((0, 3), int)}, ValueError, "these are 0 and 3"), ({"held": -HELD}, ValueError, "0 or more"),
    ({"held": HELD[::-1]}, ValueError, "token 4 is held at step 0, before it came"),
    ({"held": HELD[[0, 1, 3, 2, 3]]}, ValueError, "token 1 comes back at step 3, after it was evicted"),
    ({"cache_bytes": BYTES[:4]}, ShapeError, "cache_bytes has shape"), ({"full_bytes": -FULL}, ValueError, "0 or more"),
    ({"merged": [-1, -1, -1, 3, -1]}, ValueError, "an earlier token"),
    ({"merged": [-1, -1, 0, -1, -1]}, ValueError, "token 2 is merged into token 0 and held too"),
    ({"arrived": [5, 4, 3, 2, 1]}, ValueError, "it never falls"), ({"text": "ab"}, ShapeError, "2 words for 5 tokens")])
def test_timeline_refuses(change, error, message):
    given = {"held": HELD, "cache_bytes": BYTES, "full_bytes": FULL, **change}
    with pytest.raises(error, match=message):
        CacheTimeline(**given)


def test_timeline_page_and_picture_are_small_and_repeatable(tmp_path):
    held = np.tril(np.full((512, 512), 16))
    view = CacheTimeline(held, held.sum(1), held.sum(1))
    assert view.to_svg() == view.to_svg() and len(view.to_svg()) < 200_000
    assert view.to_html(tmp_path / "p.html").stat().st_size < 200_000
