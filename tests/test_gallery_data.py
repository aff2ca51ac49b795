"""The figures show what was recorded, whatever that is: numbers held to other sources, and data with holes in it."""

import functools
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from minikernels import catalog, cli, gallery
from minikernels.bench.recorded import FOLDER, Recording, Result
from minikernels.commands import figures
from minikernels.flash import traffic
from minikernels.gallery import (
    block_sparse_speedup,
    flash_memory,
    gqa_schedules,
    kv_quality,
    ladders,
    linear_speed,
    page,
    post,
    render,
    scan_trees,
    time_per_token,
)
from minikernels.gallery.sources import Missing, Sources, spelled
from tests import plates

THUMBNAILS = Path(__file__).parent / "gallery"
PICTURED = ("flash_loops", "gqa_schedules", "paged_sharing", "paged_waste", "scan_trees")  # no measurement moves them
SMALL = (96, 64)


@functools.cache
def drawable():
    """Return all plates that there is data for, {name: Plate}, and why others are not there."""
    found, lacking = {}, {}
    for name in gallery.NAMES:
        try:
            found[name] = plates.plate(name)
        except Missing as missing:
            lacking[name] = str(missing)
    return found, lacking


def without(found, name):
    """Return the plates but one."""
    return {other: plate for other, plate in found.items() if other != name}


def rows(provenance, **where):
    """Yield rows, as they stand in its file, of the recording that a figure's provenance names."""
    for path in sorted(FOLDER.glob("*.json")):
        data = json.loads(path.read_text("utf-8"))
        if provenance.startswith(f"{data['gpu']}, driver {data['driver']}, "):
            yield from (row for row in data["results"] if all(row.get(name) == value for name, value in where.items()))


def lines(name, index=0):
    """Return {label: (xs, ys)} of one axes of a figure as it is drawn."""
    drawn = plates.plate(name).draw()
    return {line.get_label(): line.get_data() for line in drawn.axes[index].lines}


@pytest.mark.parametrize("rung", flash_memory.RUNGS)
def test_traced_bytes_are_those_of_the_closed_form(rung, monkeypatch):
    monkeypatch.setattr(flash_memory, "TOKENS", 32)
    technique = catalog.technique("flash")
    inputs = technique.random({"B": 1, "H": 1, "G": 1, "T": 32, "S": 32, "D": 16}, causal=False)
    (bands, clock), counted = flash_memory.traced(technique, technique.rung(rung), inputs)
    form = getattr(traffic, rung)(B=1, H=1, G=1, T=32, S=32, D=16, itemsize=4, causal=False)
    assert counted.hbm_bytes == form.hbm_bytes
    assert {name for name, *_ in bands} >= {"q", "k", "v", "o"} and clock > 0
    assert ("score" in {name for name, *_ in bands}) == (rung == "v1_three_pass")
    for name, size, (when, index, _) in bands:
        assert 0 <= index.min() <= index.max() < size and 0 <= when.min() <= when.max() < clock, name


def test_bars_of_a_schedule_are_all_tiles_and_none_overlap():
    drawn = plates.plate("gqa_schedules").draw()
    wanted = gqa_schedules.HEADS * sum(-(-n // gqa_schedules.BLOCK_S) for n in gqa_schedules.LENGTHS)
    for axes in drawn.axes:
        spans = sorted((bar.get_y(), bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches)
        assert sum(end - begin for _, begin, end in spans) == wanted
        assert all(b[1] >= a[2] for a, b in zip(spans, spans[1:]) if a[0] == b[0])


@pytest.mark.parametrize("name, work, depth", [("sequential", 15, 15), ("hillis_steele", 49, 4), ("blelloch", 26, 7)])
def test_recorded_trees_have_the_work_and_depth_of_the_papers(name, work, depth):
    levels = scan_trees.recorded(scan_trees.operators.SCANS[name], 16)
    assert (sum(map(len, levels)), len(levels)) == (work, depth)
    held = [{t} for t in range(16)]  # what each place holds, if the tree is right
    for level in levels:
        before = list(held)
        for left, right in level:
            held[right] = before[left] | before[right]
    assert held == [set(range(t + 1)) for t in range(16)]


def test_quality_points_are_the_recorded_rows():
    recorded = figures.sources().documents["compression"]["rows"]
    shown = {point for axes in plates.plate("kv_quality").draw().axes for line in axes.lines
             for point in zip(*map(tuple, line.get_data())) if point[0] > 1}
    assert {(row["bytes"], row["bits_per_byte"]) for row in recorded} <= shown
    assert {kv_quality.short(row["method"]) for row in recorded} == {"", "4 bits", "8 bits"}


def test_speedups_are_ratios_of_recorded_times():
    try:
        provenance = plates.plate("block_sparse_speedup").provenance
    except Missing as missing:
        pytest.skip(str(missing))
    found = list(rows(provenance, technique="block_sparse", dtype="float16", causal=False))
    longest = max(row["sizes"]["T"] for row in found)
    dense = {row["variant"]: row["ms"] for row in found
             if row.get("peer") == block_sparse_speedup.DENSE and row["sizes"]["T"] == longest}
    shown = lines("block_sparse_speedup")
    assert set(shown) & {row.get("rung") for row in found}
    for row in found:
        if row["sizes"]["T"] == longest and row.get("rung") in shown:
            density = float(row["variant"].removeprefix("density "))
            points = dict(zip(*shown[row["rung"]]))
            assert points[1 / density] == pytest.approx(dense[row["variant"]] / row["ms"])


@functools.cache
def made_up(gpu="NVIDIA H100 80GB HBM3", factor=1.0):
    """Return a recording of another GPU: lengths of linear attention and of flash, and one rung that is none."""
    results = []
    for T in (1024, 4096, 16_384):
        case = (("B", 1), ("H", 16), ("D", 128), ("T", T)), "float16", True, linear_speed.VARIANT
        results += [Result("linear_attention", "v4_split_along_time", False, case, factor * T / 1e5, 1, 1),
                    Result("linear_attention", "v9_of_tomorrow", False, case, 1.0, 1, 1),
                    Result("linear_attention", "flash v5_mma", True, case, factor * T * T / 1e8, 1, 1)]
    return Recording(gpu, (9, 0), "580.1", "2026-12-01", tuple(results))


def test_data_is_chosen_by_what_is_there_and_names_its_gpu():
    few = Recording("NVIDIA H200", (9, 0), "580.2", "2026-12-02", made_up().results[:3])
    plate = linear_speed.plate(Sources((few, made_up())))
    assert plate.provenance.startswith("NVIDIA H100 80GB HBM3, driver 580.1, 2026-12-01: B1 H16 D128 float16 causal")
    assert "v9_of_tomorrow" not in plate.caption
    drawn = plate.draw()
    assert [line.get_label() for line in drawn.axes[0].lines] == ["v4_split_along_time", "flash v5_mma"]
    np.testing.assert_allclose(drawn.axes[0].lines[0].get_ydata(), 1e8)
    assert "98 times as fast" not in plate.caption and "16 times as fast" in plate.caption


def test_a_figure_without_data_says_what_is_lacking():
    recorded = {"ladders", "time_per_token", "roofline", "counts", "gqa_time", "gqa_quality", "flash_speed",
                "block_sparse_speedup", "block_sparse_gate", "linear_speed", "kv_quality", "kv_speed"}
    for name in sorted(recorded):
        with pytest.raises(Missing, match=r"is not recorded|no GPU has recorded|no counters|no ceilings") as missing:
            gallery.load(name, Sources())
        assert "\n" not in str(missing.value)
    for name in ("paged_page_size", "linear_split", "gqa_schedules"):  # these show something all the same
        assert "no GPU has recorded" in gallery.load(name, Sources()).caption


def test_a_rung_without_a_row_is_shown_as_not_measured():
    case = (("B", 1), ("H", 8)), "float16", False, ""
    one = Recording("GPU", (9, 0), "1", "2026-12-01", (Result("gqa", "v5_split_kv", False, case, 1.0, 10, 10),
                                                      Result("gqa", "SDPA", True, case, 0.5, 10, 10)))
    plate = ladders.plate(Sources((one,)))
    drawn = plate.draw()
    said = [text.get_text() for text in drawn.axes[0].texts]
    rungs = [rung for rung in catalog.technique("gqa").rungs if rung.kind != "numpy"]
    assert said.count("not measured") == len(rungs) - 1 and "50 %" in said
    assert "Not recorded: flash" in plate.caption
    with pytest.raises(Missing):
        time_per_token.plate(Sources((one,)))


def test_a_case_is_spelled_without_what_a_figure_varies():
    case = (("B", 1), ("T", 4096), ("D", 64)), "float16", True, "ragged"
    assert spelled(case) == "B1 T4096 D64 float16 causal ragged"
    assert spelled(case, ("T", "variant")) == "B1 D64 float16 causal"


def small(name):
    """Return a figure as a small grey picture, by means of its pixels."""
    picture = imread(io.BytesIO(render.png(render.drawn(plates.plate(name)), 60)))[..., :3].mean(axis=2)
    rows, columns = (np.linspace(0, n, m + 1).astype(int) for n, m in zip(picture.shape, SMALL[::-1]))
    return np.add.reduceat(np.add.reduceat(picture, rows[:-1], 0), columns[:-1], 1) / np.outer(
        np.diff(rows), np.diff(columns))


@pytest.mark.parametrize("name", PICTURED)
def test_picture_looks_as_it_did(name):
    """To within a few grey levels on average, once it is 96 by 64 pixels; and like no other figure."""
    known = {other: imread(THUMBNAILS / f"{other}.png") for other in PICTURED}
    shown = small(name)
    apart = {other: float(np.abs(picture - shown).mean()) for other, picture in known.items()}
    assert apart.pop(name) < 0.02
    assert min(apart.values()) > 0.04


def test_gallery_shows_every_figure_and_needs_no_other_file():
    drawn, lacking = drawable()
    drawn, lacking = without(drawn, "linear_speed"), lacking | {"linear_speed": "left out here"}
    svgs = {name: (f"<svg>{name}</svg>", f"<svg>{name} dark</svg>") for name in drawn}
    text = page.page(drawn, lacking, svgs)
    for name in gallery.NAMES:
        assert text.count(f'id="{name}"') == 1
    for plate in drawn.values():
        assert text.count(f'alt="{page.escape(plate.alt)}"') == 2
        assert page.escape(plate.caption) in text and page.escape(plate.provenance) in text
    assert "left out here" in text
    assert not re.findall(r'(?:src|href)="(?!data:|#|[a-z_]+(?:-dark)?\.(?:svg|png)")', text)
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize("name", catalog.names())
def test_post_has_everything_that_a_team_starts_from(name):
    drawn, lacking = drawable()
    drawn, lacking = without(drawn, "linear_speed"), lacking | {"linear_speed": "left out here"}
    text = post.post(name, drawn, lacking, f"../players/{name}.html")
    for figure in gallery.about(name):
        if figure in drawn:
            assert f'<img src="../{figure}.svg" alt="' in text and f"../{figure}-dark.svg" in text
            assert drawn[figure].caption in text and drawn[figure].provenance in text
        else:
            assert f"*{figure} is not drawn" in text
    assert text.startswith("# ") and text.count("$$") >= 2
    for heading in ("The question", "The equation", "What to see", "Watch it run", "What to say", "References"):
        assert f"\n## {heading}\n\n" in text
    assert f'<iframe src="../players/{name}.html"' in text
    assert all(paper.arxiv in text for paper in catalog.technique(name).papers)
    assert all(f"`{rung.name}`: {rung.idea}." in text for rung in catalog.technique(name).rungs)


def run(capsys, *words):
    """Run the command; return exit code, standard output and standard error."""
    with pytest.raises(SystemExit) as end:
        cli.main(["figures", *map(str, words)])
    return end.value.code, *capsys.readouterr()


def test_command_draws_what_is_named_and_another_process_the_same_bytes(capsys, tmp_path, root):
    code, out, err = run(capsys, "flash_loops", "--out", tmp_path / "here", "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert [figure["name"] for figure in said["figures"]] == ["flash_loops"] and said["missing"] == []
    here = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    assert set(here) == {f"flash_loops{end}{suffix}" for end in ("", "-dark") for suffix in (".svg", ".png")}
    assert {Path(file).name for file in said["figures"][0]["files"]} == set(here)
    assert imread(tmp_path / "here" / "flash_loops.png").shape[1] == 2 * 100 * 6.4
    command = [sys.executable, "-m", "minikernels", "figures", "flash_loops", "--out", str(tmp_path / "there")]
    subprocess.run(command, cwd=root, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "1"})
    assert here == {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()}


def test_a_technique_has_its_figures_its_post_and_its_player(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(figures.gallery, "about", lambda name: ["linear_speed"])
    code, out, _ = run(capsys, "linear_attention", "--out", tmp_path)
    assert code == 0 and "linear_speed" in out
    post_text = (tmp_path / "blog" / "linear_attention.md").read_text("utf-8")
    for target in re.findall(r'(?:src|srcset)="([^"]*)"', post_text):
        assert (tmp_path / "blog" / target).exists(), target
    assert not (tmp_path / "gallery.html").exists()


@pytest.mark.parametrize("words, said", [
    (["flash_lops"], "unknown figure 'flash_lops'; there are the techniques gqa, flash,"),
    (["flash_loops", "--out", "{file}/here"], "cannot make the folder"),
    (["flash_loops", "--out", "{file}"], "cannot make the folder"),
])
def test_a_mistake_is_one_line_and_exit_code_2(capsys, tmp_path, words, said):
    (tmp_path / "file").touch()
    code, out, err = run(capsys, *(word.format(file=tmp_path / "file") for word in words))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert "flash_lops" not in words or all(name in err for name in gallery.NAMES)


def test_a_figure_asked_for_by_name_that_has_no_data_is_exit_code_1(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "sources", Sources)
    code, out, _ = run(capsys, "linear_speed", "flash_loops", "--out", tmp_path)
    assert code == 1
    assert "linear_speed           not drawn: no GPU has recorded" in out
    assert (tmp_path / "flash_loops.svg").exists() and not (tmp_path / "linear_speed.svg").exists()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.svg"
    path.write_bytes(b"old")

    def fails(*args):
        raise OSError("no room")

    monkeypatch.setattr(render.os, "replace", fails)
    with pytest.raises(OSError, match="no room"):
        render.replace(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
