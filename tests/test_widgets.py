"""Widgets without a browser: what travels to the page, what Python sees, and what is refused."""

import base64
import json
import re

import numpy as np
import pytest
import traitlets

from minikernels import figures, simt
from minikernels.core.traffic import Traffic
from minikernels.simt.trace import LOAD
from minikernels.widgets import ExpressionError, HeadGroups, StateView, TilePlayer, TrafficMeter, WarpView
from minikernels.widgets.expression import evaluate
from minikernels.widgets.packing import pack, unpack
from minikernels.widgets.picture import picture
from tests import traces
from tests.test_contract import NUMBA, small

RUNGS = [("v1", Traffic(load_bytes=900, store_bytes=100),
          {"q": Traffic(load_bytes=900), "o": Traffic(store_bytes=100)}),
         ("v2", Traffic(load_bytes=100), Traffic(load_bytes=120)), ("v3", None, Traffic(load_bytes=50))]


@pytest.fixture(scope="module")
def trace():
    return traces.attention(T=64, S=64, D=8)


@pytest.fixture(scope="module")
def flash_trace():
    """A real launch: two heads share one key head, ragged tiles, causal with T != S."""
    from minikernels import flash

    rng = np.random.default_rng(3)
    q, k, v = (rng.standard_normal(s).astype(np.float32) for s in ((1, 2, 37, 8), (1, 1, 45, 8), (1, 1, 45, 8)))
    with simt.record(blocks=[(0, 0, 0), (0, 1, 0)], registers=("m", "l"), lanes=(0, 31)) as recording:
        flash.attention(q, k, v, causal=True, rung="v2_tiled")
    return recording.trace


def test_pack_gives_arrays_back():
    rng = np.random.default_rng(0)
    arrays = {"a": rng.integers(-2**31, 2**31, 50).astype(np.int32),
              "b": rng.integers(-300, 300, (4, 5)).astype(np.int16),
              "c": rng.integers(0, 256, 7).astype(np.uint8), "d": np.zeros((0, 3), np.int32),
              "e": np.array([1.5, np.nan, np.inf, -np.inf, 0, 3.4e38, 123456.789], np.float32)}
    header, back = unpack(pack({"x": [1, None]}, arrays, exact={"e"}))
    assert header == {"x": [1, None]}
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array, strict=True)


def test_pack_rounds_values_to_what_is_shown():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32) * 1e3
    special = np.array([np.nan, np.inf, -np.inf, 0], np.float32)
    back = unpack(pack({}, {"v": np.concatenate([values, special])}))[1]["v"]
    np.testing.assert_allclose(back[:-4], values, rtol=2.0**-13)
    np.testing.assert_array_equal(back[-4:], special)


def test_pack_refuses_other_dtypes():
    with pytest.raises(TypeError, match="array 'x' is float64"):
        pack({}, {"x": np.zeros(3)})


def test_page_is_self_contained_and_repeatable(tmp_path, trace):
    first, second = (TilePlayer(trace, step=9).to_html(tmp_path / name).read_text("utf-8") for name in ("a", "b"))
    assert first == second
    assert not re.search(r"(src|href)\s*=", first) and "default-src 'none'" in first
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", first)
    state = json.loads(re.search(r'id="state">(.*?)</script>', first)[1])
    assert state["step"] == 9
    assert unpack(base64.b64decode(state["_packed"]))[0]["traces"][0]["kernel"] == "v2_tiled"


def test_page_of_5000_steps_is_under_2_megabytes(tmp_path):
    trace = traces.attention(T=256, S=256, D=16)
    assert trace.steps > 5000
    assert TilePlayer(trace).to_html(tmp_path / "page.html").stat().st_size < 2e6


def test_page_title_is_escaped(tmp_path, trace):
    page = TilePlayer(trace).to_html(tmp_path / "p.html", title="<script>alert(1)</script>").read_text("utf-8")
    assert "<script>alert" not in page


def test_source_may_hold_anything(tmp_path):
    odd = traces.attention(T=32, S=32, D=4, tile=0)
    odd.source += "\n# </script><!-- \u2028 \u00e9 {braces} %s\n"
    page = TilePlayer(odd).to_html(tmp_path / "p.html").read_text("utf-8")
    assert page.count("</script>") == 3 and page.count("<!--") == 0


def test_recording_keeps_no_loaded_values(trace):
    header, arrays = unpack(TilePlayer(trace)._packed)
    stored = np.diff(trace.columns["access_start"])[trace.columns["access_op"] != LOAD].sum()
    assert len(arrays["0/store_value"]) == stored
    grids = {grid["name"]: grid for grid in header["traces"][0]["grids"]}
    assert grids["q"]["labels"] == ["q[0, 1]"] and grids["k_smem"]["space"] == "shared"


def test_step_stays_inside_the_recording(trace):
    player = TilePlayer(trace)
    player.step = 10**9
    assert player.step == player.last == trace.steps - 1
    player.step = -3
    assert player.step == 0


def test_step_is_observable(trace):
    heard, player = [], TilePlayer(trace)
    player.observe(lambda change: heard.append(change.new), "step")
    player.step = 40
    assert heard == [40]


def test_two_traces_share_a_clock(trace):
    short = traces.attention(T=32, S=32, D=4, tile=0, kernel="v3")
    player = TilePlayer(short, trace)
    assert player.last == trace.steps - 1 and player.title == "TilePlayer: v3 beside v2_tiled"


@pytest.mark.parametrize("name, value", [("block", 3), ("speed", 0), ("step", "x")])
def test_player_refuses_bad_settings(trace, name, value):
    with pytest.raises(traitlets.TraitError):
        setattr(TilePlayer(trace), name, value)


def test_player_refuses_what_is_no_trace(trace):
    with pytest.raises(TypeError, match="this is a ndarray; record one with"):
        TilePlayer(np.zeros(3))
    empty = traces.Builder([], {}, 32).trace()
    with pytest.raises(ValueError, match="has no step"):
        TilePlayer(empty)
    with pytest.raises(ValueError, match="lacks the contents before the launch of q"):
        TilePlayer(traces.Trace(**{**vars(trace), "initial": {}}))


def test_static_picture_goes_with_the_live_view(trace):
    data, _ = TilePlayer(trace, step=3)._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["image/svg+xml"].startswith("<?xml") and len(data["image/svg+xml"]) < 300_000
    assert data["image/svg+xml"] == TilePlayer(trace, step=3)._repr_mimebundle_()[0]["image/svg+xml"]


def test_picture_without_a_browser_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    with pytest.raises(RuntimeError, match="none of chromium, .* is on the PATH"):
        picture(tmp_path / "page.html", tmp_path / "p.png")


def test_linked_controls_follow_both_ways():
    view = HeadGroups(8, 2)
    dropdown = view.linked_dropdown("groups", [1, 2, 4, 8])
    view.groups = 4
    assert dropdown.value == 4
    dropdown.value = 8
    assert view.groups == 8
    assert view.linked_checkbox("shared").value is True
    slider = StateView(*np.ones((3, 4, 2)), decay=0.5).linked_slider("decay", max=1.0)
    assert type(slider).__name__ == "FloatSlider" and slider.value == 0.5


@pytest.mark.parametrize(("technique", "rung"), NUMBA)
def test_player_plays_every_rung_that_can_be_recorded(technique, rung, tmp_path):
    with simt.record(registers=technique.registers, lanes=(0, 1)), simt.collect() as launches:
        technique.run(rung, technique.cut(small(technique)))
    for launch in launches:
        player = TilePlayer(launch.trace, step=launch.trace.steps // 2)
        assert player.to_html(tmp_path / "page.html").stat().st_size < 2e6
        header, arrays = unpack(player._packed)
        assert header["traces"][0]["steps"] == launch.trace.steps
        assert len(arrays["0/pool_cell"]) and (arrays["0/pool_cell"] >= 0).all()  # every access has a cell to light


def test_linked_slider_follows(trace):
    slider = TilePlayer(trace, step=5).linked_slider("step", max=100)
    assert (slider.value, slider.max, slider.description) == (5, 100, "step")


def test_recorded_flash_launch_makes_a_page(flash_trace, tmp_path):
    player = TilePlayer(flash_trace, block=1)
    header, arrays = unpack(player._packed)
    grids = {grid["name"]: grid for grid in header["traces"][0]["grids"]}
    assert grids["q"]["labels"] == ["q[0, 0]", "q[0, 1]"] and grids["k"]["labels"][0] == "k[0, 0]"
    assert header["traces"][0]["traffic"]["load_bytes"] == flash_trace.traffic["load_bytes"]
    assert (arrays["0/pool_cell"] >= 0).all()
    assert player.to_html(tmp_path / "p.html").stat().st_size < 200_000
    assert figures.svg(player.picture())


@pytest.mark.parametrize("expression, names, first", [
    ("lane", {}, [0, 1, 2]), ("lane*2+1", {}, [1, 3, 5]), ("(lane % 4) * D + lane // 4", {"D": 64}, [0, 64, 128]),
    ("-lane // 2 + 20", {}, [20, 19, 19]), ("-lane % 5", {}, [0, 4, 3]), ("lane ^ 1 << 2 & 0xF | 8", {}, [12, 13, 14]),
    ("min(lane, 1) + max(2, lane)", {}, [2, 3, 3]), ("~lane & 3", {}, [3, 2, 1]),
    ("2 * (3 - -lane) >> 1", {}, [3, 4, 5])])
def test_expression_means_what_python_means(expression, names, first):
    values = evaluate(expression, names)
    assert values == [eval(expression, {"min": min, "max": max}, {**names, "lane": lane}) for lane in range(32)]
    assert values[:3] == first


@pytest.mark.parametrize("expression, message", [
    ("", "expected a number or a name and found the end (character 1)"),
    ("lane / 2", "/ gives fractions (character 6); write // for a whole number"),
    ("lane +", "expected a number or a name and found the end (character 7)"),
    ("2 lane", "did not expect lane (character 3)"),
    ("row * 2", "unknown name row (character 1); known: D, lane"),
    ("(lane", "expected ) and found the end (character 6)"),
    ("lane // 0", "lane 0: // by zero"),
    ("8 % lane", "lane 0: % by zero"),
    ("1 << lane * 2", "lane 16: << by 32; 0 to 31 is possible"),
    ("lane * 2147483647", "lane 2: a value does not fit in 31 bits"),
    ("__import__('os')", "unknown name __import__ (character 1); known: D, lane"),
    ("lane.real", "did not expect . (character 5)"),
    ("lane ** 2", "expected a number or a name and found * (character 7)"),
    ("1" * 201, "an expression has at most 200 characters"),
])
def test_expression_errors_name_the_place(expression, message):
    with pytest.raises(ExpressionError) as error:
        evaluate(expression, {"D": 64})
    assert str(error.value) == message


def test_warp_view_counts_what_the_machine_counts():
    view = WarpView("lane * 8")
    assert (view.sectors, view.wavefronts, view.conflicts) == (32, 8, 7)
    view.expression = "lane"
    assert (view.sectors, view.wavefronts, view.conflicts) == (4, 1, 0)
    view.itemsize = 8
    assert (view.sectors, view.wavefronts, view.conflicts) == (8, 2, 0)
    view.names = {"D": 33}
    view.expression = "lane * D"
    assert view.indices[2] == 66 and view.conflicts == 0


@pytest.mark.parametrize("settings", [{"expression": "lane +"}, {"expression": "lane - 1"}, {"itemsize": 3},
                                      {"space": "hbm"}, {"names": {"lane": 3}}, {"names": {"D": 2**40}}])
def test_warp_view_refuses(settings):
    with pytest.raises((ExpressionError, traitlets.TraitError)):
        WarpView(**settings)


def test_warp_view_keeps_its_state_when_an_expression_is_refused():
    view = WarpView("lane * 2")
    with pytest.raises(ExpressionError):
        view.expression = "lane *"
    assert view.expression == "lane * 2" and view.sectors == 8
    view = WarpView("lane * D", names={"D": 2})
    with pytest.raises(ExpressionError, match="unknown name D"):
        view.names = {"E": 2}
    assert view.names == {"D": 2}


def test_meter_carries_every_quantity():
    header, _ = unpack(TrafficMeter(RUNGS)._packed)
    first, _, third = header["rungs"]
    assert first["counted"]["q"]["hbm_bytes"] == 900 and first["predicted"][""]["hbm_bytes"] == 1000
    assert third["predicted"] is None


@pytest.mark.parametrize("rungs, error", [
    ([], ValueError), ([("v1", None, None)], ValueError), ([("v1", 5, None)], TypeError),
    ([("v1", Traffic())], TypeError),
    ([RUNGS[0], RUNGS[0]], ValueError), (["v1"], TypeError)])
def test_meter_refuses(rungs, error):
    with pytest.raises(error):
        TrafficMeter(rungs)


def test_meter_refuses_what_it_does_not_know():
    meter = TrafficMeter(RUNGS)
    for name, value in (("quantity", "joules"), ("selected", "v9")):
        with pytest.raises(traitlets.TraitError):
            setattr(meter, name, value)


@pytest.mark.parametrize("make", [lambda: TrafficMeter(RUNGS), lambda: WarpView("lane * 3"),
                                  lambda: WarpView("lane * 3", space="shared")], ids=["meter", "warp", "banks"])
def test_every_widget_has_a_picture_and_a_page(make, tmp_path):
    widget = make()
    assert widget.to_svg() == make().to_svg()
    page = widget.to_html(tmp_path / "p.html")
    assert page.read_text("utf-8") == make().to_html(tmp_path / "q.html").read_text("utf-8")
