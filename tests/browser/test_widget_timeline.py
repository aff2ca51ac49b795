"""CacheTimeline in a browser."""

import numpy as np
import pytest

from minikernels.widgets import CacheTimeline

DOTS = """(canvas, [r, g, b]) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) if (data[i] === r && data[i + 1] === g && data[i + 2] === b) count++;
  return count / (canvas.width * canvas.height);
}"""


def view_of(steps=20):
    """Return sinks and a window: the newest 4 at 16 bits, older ones at 4; token 9 is merged into token 8."""
    held = np.zeros((steps, steps), int)
    for s in range(steps):
        t = np.arange(s + 1)
        held[s, :s + 1] = np.where(t > s - 4, 16, 4) * ((t < 2) | (t > s - 8))
    merged = np.full(steps, -1)
    merged[9], held[:, 9] = 8, 0
    return CacheTimeline(held, 8 * held.sum(1), 128 * np.arange(1, steps + 1), merged=merged,
                         text=[chr(97 + t) for t in range(steps)])


def test_timeline_says_and_draws_what_a_step_does(opened, fits_everyone):
    view = view_of()
    page = opened(view)
    says = page.locator(".mk-says")
    assert says.inner_text() == 'step 19: slots for 10 of 20 tokens; token 19 "t" gets a slot, token 11 "l" evicted'
    share = np.mean(view.status == 4)
    assert page.locator("canvas").evaluate(DOTS, [0x00, 0x72, 0xB2]) == pytest.approx(share, abs=0.03)
    page.get_by_role("slider", name="Step").fill("9")
    assert page.evaluate("model.get('step')") == 9
    assert says.inner_text() == 'step 9: slots for 9 of 10 tokens; token 9 "j" merges into token 8 "i"'
    assert page.locator(".mk-slots .mk-wide").inner_text() == "i +1"
    assert page.locator("[data-number='now']").inner_text() == f"{view.cache_bytes[9]:,} B"
    box = page.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + 3, box["y"] + 0.22 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 3, box["y"] + 0.62 * box["height"], steps=4)
    page.mouse.up()
    assert page.evaluate("model.get('step')") == 12
    assert page.get_by_text("token 0 \"a\" after step 12: held, 4 bits").count() == 1
    page.get_by_role("button", name="First step").click()
    assert says.inner_text() == "step 0: slots for 1 of 1 token"
    fits_everyone(page)
