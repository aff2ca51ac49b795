"""TilePlayer as a standalone page in a real browser: what moves, what is said, what is drawn."""

import re

import numpy as np
import pytest

from minikernels import simt
from minikernels.launch import cuda, float32
from minikernels.simt.trace import STORE
from minikernels.widgets import TilePlayer
from minikernels.widgets.page import front_end
from minikernels.widgets.picture import picture
from tests import traces

LOAD_COLOUR, STORE_COLOUR = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)

# How many dots of a canvas have exactly this colour.
COUNT_DOTS = """(canvas, [r, g, b]) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) if (data[i] === r && data[i + 1] === g && data[i + 2] === b) count++;
  return count / (canvas.width * canvas.height);
}"""


@pytest.fixture(scope="module")
def trace():
    return traces.attention(T=64, S=64, D=8)


def dots(page, array, colour):
    """Return the share of an array's canvas that is lit in this colour."""
    return page.locator(f"[data-array='{array}'] canvas").evaluate(COUNT_DOTS, list(colour))


def clock(page):
    """Return the step that the page shows."""
    return int(page.locator(".mk-clock").inner_text().split()[1].replace(",", ""))


def step_of(trace, array, op):
    """Return the first step that did this to an array."""
    number = [a.name for a in trace.arrays].index(array)
    c = trace.columns
    return int(c["access_step"][(c["access_array"] == number) & (c["access_op"] == op)][0])


def test_player_says_and_lights_what_a_step_moves(opened, trace):
    page = opened(TilePlayer(trace))
    assert page.locator(".mk-says").inner_text() == (
        "line 30: 32 lanes load k, 128 bytes in 32 sectors; 32 lanes write k_smem, 128 bytes in 8 wavefronts, "
        "7 bank conflicts")
    assert dots(page, "k", LOAD_COLOUR) == pytest.approx(32 / (64 * 8), abs=0.01)
    assert dots(page, "k_smem", STORE_COLOUR) == pytest.approx(1 / 8, abs=0.02)
    assert dots(page, "q", LOAD_COLOUR) == dots(page, "o", STORE_COLOUR) == 0
    assert page.locator(".mk-in.mk-on").inner_text() == "128 B"
    assert page.locator("[data-array='k'] canvas").get_attribute("aria-label") == (
        "k[0, 0], 64 rows by 8 columns in HBM; this step: 32 elements loaded")
    page.evaluate(f"model.set('step', {step_of(trace, 'o', STORE)})")
    assert dots(page, "o", STORE_COLOUR) == pytest.approx(32 / (64 * 8), abs=0.01)
    assert page.locator("[data-counter='storeBytes']").inner_text() == "128 B"


def test_player_counts_what_python_counts(opened, trace):
    page = opened(TilePlayer(trace, step=trace.steps - 1))
    c = trace.columns
    shared = np.array([a.space == "shared" for a in trace.arrays])[c["access_array"]]
    loaded = c["access_bytes"][(c["access_op"] == 0) & ~shared].sum()
    assert page.locator("[data-counter='loadBytes']").inner_text() == f"{loaded:,} B"
    assert page.locator("[data-counter='shared']").inner_text() == f"{c['access_units'][shared].sum():,}"
    assert page.locator("[data-counter='barriers']").inner_text() == str((c["step_kind"] == 1).sum())
    assert f"whole launch {trace.traffic['load_bytes']:,} B" in page.locator(".mk-counters").inner_text()


def test_player_obeys_keys_buttons_and_slider(opened, trace):
    page = opened(TilePlayer(trace))
    page.locator(".mk-player").focus()
    for key, step in [("ArrowRight", 1), ("Shift+ArrowRight", 11), ("ArrowLeft", 10), ("End", trace.steps - 1),
                      ("Home", 0), ("b", int(np.flatnonzero(trace.columns["step_kind"] == 1)[0]))]:
        page.keyboard.press(key)
        assert (clock(page), page.evaluate("model.get('step')")) == (step, step), key
    assert "barrier, all 32 lanes" in page.locator(".mk-says").inner_text()
    page.get_by_role("button", name="First step").click()
    page.get_by_role("button", name="One step on").click()
    assert clock(page) == 1
    page.get_by_role("slider", name="Step").fill("77")
    assert clock(page) == 77 == page.evaluate("model.get('step')")


def test_player_plays_and_pauses(opened, trace):
    page = opened(TilePlayer(trace, speed=250))
    page.locator(".mk-player").focus()
    page.keyboard.press("Space")
    page.locator(".mk-clock").filter(has_text=re.compile("step ([2-9][0-9]|1[0-9][0-9]) ")).wait_for()
    page.get_by_role("button", name="Pause").click()
    here = clock(page)
    page.wait_for_timeout(150)
    assert clock(page) == here == page.evaluate("model.get('step')")
    page.get_by_role("combobox", name="Speed, steps a second").select_option("1000")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Play").wait_for()  # it stops by itself at the end
    assert clock(page) == trace.steps - 1


def test_player_lights_the_line_and_shows_registers_and_lanes(opened, trace):
    page = opened(TilePlayer(trace))
    c = trace.columns
    step = int(c["register_step"][c["register_name"] == trace.registers.index("m")][3])  # only even lanes take part
    page.evaluate(f"model.set('step', {step})")
    now = page.locator(".mk-line.mk-now")
    assert now.get_attribute("data-line") == str(c["step_line"][step]) and "m = max(m" in now.inner_text()
    assert now.bounding_box()["y"] > page.locator(".mk-code").bounding_box()["y"]
    assert "16 of 32 active" in page.locator(".mk-lanes").inner_text()
    row = page.locator(".mk-registers tr.mk-fresh")
    assert row.locator("th").inner_text() == "m"
    values = c["register_value"][(c["register_name"] == trace.registers.index("m")) & (c["register_step"] <= step), 0]
    lane_0 = float(row.locator("td").first.inner_text().replace("−", "-"))
    lane_1 = float(row.locator("td").nth(1).inner_text().replace("−", "-"))
    assert lane_0 == pytest.approx(values[3, 0], rel=6e-3)
    assert lane_1 == pytest.approx(values[2, 1], rel=6e-3)  # it keeps what it had


def test_player_tells_screen_readers_the_step_it_stands_at(opened, trace):
    page = opened(TilePlayer(trace))
    page.locator(".mk-player").focus()
    page.keyboard.press("ArrowRight")
    says = page.locator(".mk-says").inner_text()
    page.locator("[role='status']").get_by_text(says, exact=True).wait_for(state="attached")
    unnamed = page.evaluate("""() => [...document.querySelectorAll("button, input, select, canvas")]
      .filter((e) => !e.getAttribute("aria-label") && !e.getAttribute("aria-hidden")).map((e) => e.outerHTML)""")
    assert unnamed == []


def test_player_shows_odd_kernels(opened):
    page = opened(TilePlayer(traces.odd(), step=3))
    says = page.locator(".mk-says")
    assert says.inner_text() == ("line 36: 70 lanes update total, 280 bytes in 3 sectors; "
                                 "70 lanes store wide, 140 bytes in 8 sectors")
    assert page.locator("[data-counter='atomicRequests']").inner_text() == "3"
    assert page.locator("[data-array]").evaluate_all("all => all.map((e) => e.dataset.array)") == [
        "total", "table", "wide", "sums"]  # an empty array has no cell to show
    assert "70 of 70 active" in page.locator(".mk-lanes").inner_text()
    assert "None were recorded" in page.locator(".mk-regs").inner_text()
    page.evaluate("model.set('step', 1)")
    assert says.inner_text() == "line 34: 1 lane writes sums, 8 bytes in 1 wavefront"
    page.evaluate("model.set('step', 2)")
    assert says.inner_text() == "line 32: the lanes of each warp wait for each other"
    page.locator("[data-array='table'] canvas").hover(position={"x": 1, "y": 1})
    assert page.locator(".mk-pointed").inner_text() == "table[0] = 0"
    page.locator("[data-array='sums'] canvas").hover(position={"x": 1, "y": 1})
    assert page.locator(".mk-pointed").inner_text() == "sums[0] = not written yet"


def test_player_switches_between_recorded_blocks(opened):
    from minikernels import flash

    rng = np.random.default_rng(3)
    q, k, v = (rng.standard_normal(s).astype(np.float32) for s in ((1, 2, 37, 8), (1, 1, 45, 8), (1, 1, 45, 8)))
    with simt.record(blocks=[(0, 0, 0), (0, 1, 0)], registers=("m", "l"), lanes=(0, 31)) as recording:
        flash.attention(q, k, v, causal=True, rung="v2_tiled")
    trace = recording.trace
    page = opened(TilePlayer(trace, step=trace.steps - 1))
    c = trace.columns
    shared = np.array([a.space == "shared" for a in trace.arrays])[c["access_array"]]
    for block, label in enumerate(["q[0,0]", "q[0,1]"]):
        page.get_by_role("combobox", name="Block").select_option(str(block))
        assert page.locator("[data-array='q'] b").inner_text() == label
        loaded = c["access_bytes"][(c["access_op"] == 0) & ~shared & (c["access_block"] == block)].sum()
        assert page.locator("[data-counter='loadBytes']").inner_text() == f"{loaded:,} B"
        last = c["register_value"][c["register_name"] == trace.registers.index("l"), block, 0]
        shown = page.locator(".mk-registers tr").filter(has_text="l").last.locator("td").first.inner_text()
        assert float(shown.replace("−", "-")) == pytest.approx(last[np.isfinite(last)][-1], rel=1e-3)
    assert page.evaluate("model.get('block')") == 1


def difference(x, y):
    s = cuda.shared.array(4, float32)
    i = cuda.threadIdx.x
    m = float32(7)
    s[i] = m
    m = x[i] - x[i]
    if i > 1:
        m = x[i]
    s[i] = m
    y[i] = m


def test_player_shows_a_nan_that_a_lane_computed_and_not_what_was_there_before(opened):
    y = np.full(4, np.nan, np.float32)
    with simt.record(registers=("m",), lanes=range(4)) as recording:
        simt.run(difference, 1, 4, np.array([np.inf, 1, 2, 3], np.float32), y)
    trace = recording.trace
    page = opened(TilePlayer(trace))

    def pointed(array):
        page.locator(f"[data-array='{array}'] canvas").hover(position={"x": 1, "y": 1})
        return page.locator(".mk-pointed").inner_text()

    assert (pointed("s"), pointed("y")) == ("s[0] = not written yet", "y[0] = not written yet")
    page.evaluate(f"model.set('step', {trace.steps - 1})")
    shown = page.locator(".mk-registers tr").filter(has_text="m").last.locator("td").all_inner_texts()
    assert shown == ["nan", "0", "2", "3"]
    assert (pointed("s"), pointed("y")) == ("s[0] = nan", "y[0] = nan")
    page.evaluate("model.set('step', 0)")
    assert pointed("s") == "s[0] = not written yet"


@pytest.mark.parametrize("value", [-3.4028235e38, 1e30, 0.0])
def test_player_draws_an_array_of_one_number_however_large(opened, value):
    with simt.record() as recording:
        simt.run(doubled, 1, 32, np.full(32, value, np.float32), np.zeros(32, np.float32))
    page = opened(TilePlayer(recording.trace, step=recording.trace.steps - 1))
    assert page.locator("[data-array='x'] b").inner_text() == "x"


def doubled(x, y):
    i = cuda.threadIdx.x
    y[i] = x[i] * float32(0.5)


def test_address_says_where_to_begin(opened, trace, tmp_path):
    page = opened(TilePlayer(trace))
    page.goto((tmp_path / "page.html").as_uri() + "#step=40&kernel=x&speed=-3&block=7")
    page.reload()
    page.locator(".mk-clock").filter(has_text="step 40 of").wait_for()
    assert page.evaluate("[model.get('speed'), model.get('block')]") == [16, 0]


def test_picture_is_of_the_step_asked_for(trace, tmp_path):
    page = TilePlayer(trace).to_html(tmp_path / "page.html")
    path = picture(page, tmp_path / "player.png", at="step=3", width=600, height=400)
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


def test_player_puts_two_launches_on_one_clock(opened, trace):
    short = traces.attention(T=32, S=32, D=4, tile=0, kernel="v3_short")
    page = opened(TilePlayer(trace, short))
    page.locator(".mk-player").focus()
    page.keyboard.press("End")
    first, second = page.locator(".mk-stage").all()
    assert second.locator(".mk-says").inner_text() == f"finished after {short.steps:,} steps"
    assert "stores o" not in first.locator(".mk-says").inner_text()
    assert "store o" in first.locator(".mk-says").inner_text()
    bars = [stage.locator(".mk-load .mk-bar i").bounding_box()["width"] for stage in (first, second)]
    ratio = short.traffic["load_bytes"] / trace.traffic["load_bytes"]
    assert bars[1] / bars[0] == pytest.approx(ratio, rel=0.05)  # bars share a scale
    a, b = first.bounding_box(), second.bounding_box()
    assert a["x"] + a["width"] <= b["x"] and a["y"] == b["y"]


@pytest.mark.parametrize("width", [400, 700, 1240])
def test_player_fits_its_width(opened, trace, width):
    page = opened(TilePlayer(trace, step=100), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    panels = [panel.bounding_box() for panel in page.locator(".mk-panel").all()]
    assert len(panels) == 3 and all(panel["width"] > 150 for panel in panels)
    if width == 1240:
        assert panels[0]["x"] < panels[1]["x"] < panels[2]["x"] and panels[0]["y"] == panels[2]["y"]
    if width == 400:
        assert panels[0]["y"] < panels[1]["y"] < panels[2]["y"]


def test_player_follows_dark_mode(opened, trace):
    page = opened(TilePlayer(trace))
    light = page.locator(".mk-player").evaluate("e => getComputedStyle(e).backgroundColor")
    page.emulate_media(color_scheme="dark")
    page.locator(".mk-player[data-theme='dark']").wait_for()
    assert page.locator(".mk-player").evaluate("e => getComputedStyle(e).backgroundColor") != light
    assert dots(page, "k", (0x56, 0xB4, 0xE9)) > 0.05  # repainted in the dark theme's colour


def test_player_draws_5000_steps_at_60_frames_a_second(opened):
    page = opened(TilePlayer(traces.attention(T=256, S=256, D=16)))
    per_frame = page.evaluate("""async () => {
      const slider = document.querySelector(".mk-scrub");
      const times = [];
      for (let step = 0; step < 3000; step += 17) {
        const before = performance.now();
        slider.value = step;
        slider.dispatchEvent(new Event("input"));
        times.push(performance.now() - before);
      }
      return times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
    }""")
    assert per_frame < 1000 / 60


def test_playback_holds_what_the_trace_holds(page, trace):
    """Forward, backward and by jumps, every array equals Trace.contents."""
    module = front_end("shared.js", "playback.js") + "\nexport { Playback, unpack };"
    wanted = [0, 40, 39, trace.steps - 1, 137, 136, 135, 300, 0]
    shown = page.evaluate("""async ([module, packed, steps]) => {
      const url = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
      const { Playback, unpack } = await import(url);
      const { header, arrays } = await unpack(Uint8Array.from(packed));
      const play = new Playback(header.traces[0], arrays, 0);
      return steps.map((step) => {
        play.seek(step);
        return play.values.map(([values]) => Array.from(values, (x) => (Number.isNaN(x) ? null : x)));
      });
    }""", [module, list(TilePlayer(trace)._packed), wanted])
    for step, arrays in zip(wanted, shown, strict=True):
        for info, values in zip(trace.arrays, arrays, strict=True):
            contents = trace.contents(info.name, step).reshape(-1, *info.shape[-2:])
            head = {"q": 1, "o": 1}.get(info.name, 0)  # the block's head; k and v have one
            np.testing.assert_allclose(np.array(values, float), contents[head].ravel(), rtol=2.0**-12)


def test_player_serves_every_reader(opened, fits_everyone, trace):
    fits_everyone(opened(TilePlayer(trace, step=100)))


def test_a_page_that_cannot_be_drawn_says_so(browser, trace, tmp_path):
    path = TilePlayer(trace).to_html(tmp_path / "page.html")
    path.write_text(path.read_text("utf-8").replace("DecompressionStream", "NoSuchStream"), "utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert "could not be drawn (NoSuchStream is not defined)" in page.get_by_role("alert").inner_text()
    page.close()
