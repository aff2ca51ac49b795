"""The drawing primitives: grids, a step's picture, traffic, and files that never change by themselves."""

import re

import numpy as np
import pytest

from minikernels import catalog, figures, simt
from minikernels.core.traffic import Traffic
from minikernels.simt.trace import LOAD, STORE
from tests import traces


@pytest.fixture(scope="module")
def trace():
    return traces.attention(T=64, S=64, D=8)


def grid_of(trace, name, **settings):
    return figures.grid(trace, [a.name for a in trace.arrays].index(name), **settings)


@pytest.mark.parametrize("name, label, rows, columns", [
    ("q", "q[0, 1]", 64, 8), ("k", "k[0, 0]", 64, 8), ("o", "o[0, 1]", 64, 8), ("k_smem", "k_smem", 32, 8)])
def test_grid_fixes_the_batch_and_the_head_of_the_block(trace, name, label, rows, columns):
    folded = grid_of(trace, name)
    assert (folded.label(), folded.rows, folded.columns) == (label, rows, columns)
    assert folded.cell_rows * folded.cell_columns == rows * columns


@pytest.mark.parametrize("name", ["q", "k", "k_smem"])
def test_grid_cells_and_values_agree(trace, name):
    folded, step = grid_of(trace, name), trace.steps // 2
    contents = trace.contents(name, step)
    index = np.arange(contents.size)
    cells = folded.cells(index)
    shown = folded.values(contents, folded.at[0]).ravel()
    np.testing.assert_array_equal(shown[cells[cells >= 0]], contents.ravel()[cells >= 0])


def test_grid_of_a_large_array_shows_means():
    trace = traces.attention(T=64, S=64, D=8)
    folded = grid_of(trace, "q", limit=20)
    assert (folded.row_pool, folded.column_pool, folded.cell_rows) == (4, 1, 16)
    values = folded.values(trace.initial["q"], folded.at[0])
    np.testing.assert_allclose(values[3, 2], trace.initial["q"][0, 1, 12:16, 2].mean(), rtol=1e-6)
    assert folded.cells([(1 * 64 + 13) * 8 + 2])[0] == 3 * 8 + 2


def plain(shape, touched, op=LOAD, **settings):
    built = traces.Builder([("x", "global", shape, "float32")], {"x": np.zeros(shape, np.float32)}, 32)
    built.step("lane = cuda")
    built.access("x", op, np.array(touched), 1.0)
    return figures.grid(built.trace(), 0, **settings)


@pytest.mark.parametrize("shape, touched, rows, columns, label", [
    ((5,), [1, 2], 1, 5, "x"),
    ((700,), [1, 2], 11, 64, "x"),
    ((), [0], 1, 1, "x"),
    ((4, 3), [0], 4, 3, "x"),
    ((6, 2, 4, 8), [3, 64 + 32 + 3], 12, 8, "x[:, :, 0]"),  # pages of another sequence's head: axis 2 stays at 0
    ((2, 3, 4), [12], 3, 4, "x[1]"),
])
def test_grid_folds_any_shape(shape, touched, rows, columns, label):
    folded = plain(shape, touched)
    assert (folded.rows, folded.columns, folded.label()) == (rows, columns, label)
    assert folded.values(np.zeros(shape), folded.at[0]).shape == (folded.cell_rows, folded.cell_columns)


def test_grid_of_an_empty_array_has_no_cell():
    built = traces.Builder([("x", "global", (0, 4), "float32")], {"x": np.zeros((0, 4), np.float32)}, 32)
    built.step("lane = cuda")
    folded = figures.grid(built.trace(), 0)
    assert folded.cell_rows == 0 and folded.values(np.zeros((0, 4)), folded.at[0]).shape == (0, 4)


def test_step_picture_of_an_odd_kernel():
    text = figures.svg(figures.tile_step(traces.odd(), 3))
    assert "update total, 280 bytes in 3 sectors" in text and ">none<" not in text


def test_an_output_starts_as_not_written():
    """What an array that is only written held before is of no account; what is read first is shown."""
    trace = traces.attention(T=32, S=32, D=4, tile=0)
    trace.initial["o"][:] = 1e30
    names = [a.name for a in trace.arrays]
    assert np.isnan(figures.contents_before(trace, names.index("o"))).all()
    np.testing.assert_array_equal(figures.contents_before(trace, names.index("q")), trace.initial["q"])


def test_step_picture_lights_what_the_step_touched(trace):
    step = int(trace.columns["access_step"][trace.columns["access_op"] == STORE][0])
    figure = figures.new_figure(3, 3)
    axes = figures.draw_tile(trace, "k", step, figure.subplots())
    pixels = axes.images[0].get_array()
    lit = (np.abs(pixels[..., :3] - np.array([0, 0x72, 0xB2]) / 255) < 1e-6).all(-1)
    assert lit.sum() == 32 and lit[:32, 0].all()


def test_step_picture_says_what_happened(trace):
    text = figures.svg(figures.tile_step(trace, 0))
    assert "k_smem" in text and "HBM, off the chip" in text and "SRAM, one a block" in text
    assert "load k, 128 bytes in 32 sectors" in text
    assert "So far in this block: 128 bytes loaded in 32 sectors, 0 bytes stored in 0 sectors, 0 barriers" in text


def test_step_picture_takes_two_traces(trace):
    assert len(figures.tile_step([trace, traces.attention(T=32, S=32, D=4, tile=0)], 10).subfigs) == 2


RUNGS = [("v1", Traffic(load_bytes=900, store_bytes=100),
          {"q": Traffic(load_bytes=900), "o": Traffic(store_bytes=100)}),
         ("v2", Traffic(load_bytes=100), Traffic(load_bytes=120)), ("v3", Traffic(load_bytes=50), None)]


def test_step_picture_puts_many_arrays_in_several_lines():
    technique = catalog.technique("selective_scan")
    inputs = technique.random({"B": 1, "T": 3, "E": 8, "N": 2})
    with simt.record(blocks=[0]) as recording:
        technique.run(technique.rung("v3_hillis_steele"), inputs)
    figure = figures.tile_step(recording.trace, 20)
    figure.draw_without_rendering()  # a warning if some axes have no room
    places = {axes.get_title(loc="left"): axes.get_window_extent() for axes in figure.subfigs[0].axes}
    bottoms = {title: place.y0 for title, place in places.items() if title}
    assert len(bottoms) == 11 + 4
    assert bottoms["u[0]"] > bottoms["last[0]"] > bottoms["decay_smem"]


def test_traffic_bars_say_whether_prediction_and_count_agree():
    axes = figures.traffic_bars(RUNGS)
    said = {text.get_text() for text in axes.texts}
    assert said == {"1,000 = predicted", "120 counted, 100 predicted", "50 predicted"}
    assert sorted(p.get_width() for p in axes.patches if p.get_width()) == [100, 120, 900]


@pytest.mark.parametrize("rungs, quantity, error", [
    ([], "hbm_bytes", ValueError), ([("v1", None, None)], "hbm_bytes", ValueError),
    ([("v1", 3, None)], "hbm_bytes", TypeError), (RUNGS, "bytes", ValueError)])
def test_traffic_bars_refuse_what_they_cannot_draw(rungs, quantity, error):
    with pytest.raises(error):
        figures.traffic_bars(rungs, quantity)


def test_curves_refuse_a_curve_of_another_length():
    with pytest.raises(ValueError, match="v1 has 1 values for 2 lengths"):
        figures.bytes_against_length([1, 2], {"v1": [3]})


def test_curve_names_do_not_overlap():
    axes = figures.bytes_against_length([256, 512], {"a": [1e6, 1e8], "b": [1e6, 1.001e8], "c": [1e4, 1e8]})
    ends = sorted(np.log(text.xy[1]) for text in axes.texts)
    assert min(np.diff(ends)) > 0.05 * np.log(1e4)


def test_ladder_names_its_reference_and_what_is_not_measured():
    said = [t.get_text() for t in figures.ladder([("v1", 10.0), ("v2", None)], reference=("sdpa", 5.0)).texts]
    assert said == ["10 ms  (50 % of sdpa)", "not measured"]


def test_ladder_draws_a_time_of_0():
    said = [t.get_text() for t in figures.ladder([("v1", 10.0), ("v2", 0.0)], reference=("sdpa", 5.0)).texts]
    assert said == ["10 ms  (50 % of sdpa)", "0 ms"]
    assert figures.ladder([("v1", 0.0)]).get_xlim()[1] > 0


@pytest.mark.parametrize("space, count", [("global", 8), ("shared", 32)])
def test_warp_lanes_draw_each_sector_or_word(space, count):
    axes = figures.warp_lanes([2 * lane for lane in range(32)], 4, space)
    below = [p for p in axes.patches if p.get_y() < 2.9]
    assert len(below) == (count + 32 if space == "global" else 32)
    with pytest.raises(ValueError, match="32 lanes"):
        figures.warp_lanes([1, 2], 4)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_files_are_byte_identical(tmp_path, trace, suffix):
    first, second = (figures.save(figures.tile_step(trace, 40), tmp_path / f"{n}{suffix}").read_bytes() for n in "ab")
    assert first == second and b"matplotlib" not in first[-200:]


def test_svg_holds_real_text_and_no_date():
    text = figures.svg(figures.traffic_bars(RUNGS))
    assert re.search(r"<text[^>]*>1,000 = predicted</text>", text) and "<dc:date>" not in text


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"saved as .svg or .png"):
        figures.save(figures.traffic_bars(RUNGS), tmp_path / "a.pdf")


def test_style_leaves_the_callers_settings_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.traffic_bars(RUNGS)
    assert dict(matplotlib.rcParams) == before


def test_a_ladder_says_what_it_measures_and_shows_a_slow_reference():
    axes = figures.ladder([("a", 1.0), ("b", 0.5)], reference=("peer", 5.0))
    assert axes.get_xlabel() == "time in ms, shorter is better"
    assert axes.get_xlim()[1] > 5
    assert figures.ladder([("a", 1.0)], unit="% of attention").get_xlabel() == "% of attention"
