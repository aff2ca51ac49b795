"""StateView in a browser: the same recurrence, forward and back, and under another decay."""

import numpy as np
import pytest

from minikernels.widgets import StateView
from minikernels.widgets.page import front_end

RUN = """async ([module, packed, steps]) => {
  const { StateModel, unpack } = await import(URL.createObjectURL(new Blob([module], { type: "text/javascript" })));
  const { header, arrays } = await unpack(Uint8Array.from(packed));
  const model = new StateModel(header, arrays);
  return steps.map(([t, decay]) => {
    model.setDecay(decay);
    return [Array.from(model.at(t)), Array.from(model.memory(t)), Array.from(model.norms)];
  });
}"""
COLOURS = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let [blue, orange] = [0, 0];
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 2] > data[i] + 60) blue++;
    if (data[i] > data[i + 2] + 60) orange++;
  }
  return [blue, orange];
}"""


def view_of(T, D, **settings):
    return StateView(*np.random.default_rng(2).standard_normal((3, T, D)).astype(np.float32), **settings)


@pytest.mark.parametrize("gated", [False, True])
def test_state_is_the_same_in_both_languages(opened, gated):
    gate = -np.random.default_rng(3).random((70, 4)).astype(np.float32) if gated else None
    view = view_of(70, 4, gate=gate)
    page = opened(view)
    module = front_end("shared.js", "state_model.js") + "\nexport { StateModel, unpack };"
    wanted = [(69, 1.0), (0, 1.0), (31, 1.0), (32, 1.0)] + ([] if gated else [(50, 0.9), (50, 0.0)])
    for (t, decay), (state, memory, norms) in zip(wanted, page.evaluate(RUN, [module, list(view._packed), wanted]),
                                                  strict=True):
        view.step, view.decay = t, decay
        np.testing.assert_allclose(state, view.state.ravel(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(memory, view.memory, rtol=1e-9)
        np.testing.assert_allclose(norms, view.norms, rtol=1e-9)


def test_state_view_forgets_as_its_decay_says(opened, fits_everyone):
    page = opened(view_of(80, 8, decay=1.0))
    says = page.locator(".mk-says")
    assert says.inner_text().startswith("token 79: ") and says.inner_text().endswith("the first token counts 100 %")
    blue, orange = page.locator("canvas").evaluate(COLOURS)
    assert blue > 500 and orange > 500
    page.get_by_role("slider", name="decay").fill("0.9")
    assert page.evaluate("model.get('decay')") == 0.9
    assert page.locator("[data-number='half']").inner_text() == "after 7 tokens"  # 0.9^7 = 0.478
    page.get_by_role("slider", name="Token").focus()
    page.keyboard.press("Home")
    assert says.inner_text().startswith("token 0: ") and page.locator("[data-number='cache']").inner_text() == "32 B"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("model.get('step')") == 1
    assert page.locator("canvas").get_attribute("aria-label").startswith("State after token 1, 8 by 8 numbers")
    box = page.locator("[data-touch]").bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 60, steps=3)
    page.mouse.up()
    assert page.evaluate("model.get('step')") == 79
    assert page.locator("[data-number='state']").inner_text() == "256 B"
    fits_everyone(page)
