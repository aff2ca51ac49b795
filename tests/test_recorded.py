"""Recorded measurements: what is read from a file, which cases are compared, and what the tables say of them."""

import json
import re
from datetime import date

import pytest

from minikernels import catalog, flash
from minikernels.bench import ladder, recorded

CASE = {"technique": "flash", "sizes": {"B": 1, "H": 2, "G": 2, "T": 64, "S": 64, "D": 8}, "dtype": "float32",
        "causal": False, "runs": 30, "flop": 4 * 2 * 64 * 64 * 8}
ROWS = [
    {**CASE, "rung": "v1_three_pass", "ms": 4.0},
    {**CASE, "rung": "v2_tiled", "ms": 2.0},
    {**CASE, "peer": "slow peer", "ms": 1.5},
    {**CASE, "peer": "fast peer", "ms": 1.0},
    {**CASE, "peer": "gqa v4_wide_loads", "ms": 0.5},  # held against, but nobody's production kernel
    {**CASE, "rung": "v2_tiled", "ms": 0.5, "causal": True},  # another case: never compared with the rest
    {**CASE, "peer": "causal peer", "ms": 0.1, "causal": True},
]
HEAD = {"gpu": "A GPU", "compute": [9, 0], "driver": "1.2", "cuda": "13.0", "versions": {}, "date": "2026-01-02"}
FILES = sorted(recorded.FOLDER.glob("*.json"))


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps({**HEAD, "results": ROWS}), "utf-8")
    return recorded.read(path)


def test_the_case_with_most_rungs_is_shown_and_the_fastest_peer_is_production(recording):
    case = recording.case("flash", "float32")
    assert recorded.spelled(case) == "B1 H2 G2 T64 S64 D8 float32"
    assert recording.production("flash", case).name == "fast peer"
    assert recording.of("flash", "v2_tiled", case).ms == 2.0
    assert recording.of("flash", "v3_split_rows", case) is None
    assert recording.case("flash", "float16") is None


def test_table_holds_speed_and_share_and_says_where_from(recording, monkeypatch):
    monkeypatch.setattr(ladder, "recordings", lambda: (recording,))
    table = ladder.table(catalog.technique("flash"))
    row = next(line for line in table.splitlines() if "`v2_tiled`" in line)
    assert row.endswith("| 0.000131 TFLOP/s | 50 % |")
    assert "A GPU, driver 1.2, 2026-01-02: B1 H2 G2 T64 S64 D8 float32" in table
    assert "production: fast peer" in table
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len({line.count(" | ") for line in lines}) == 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_recorded_file_is_whole_and_names_rungs_of_the_catalog(path):
    data = json.loads(path.read_text("utf-8"))
    assert HEAD.keys() <= data.keys()
    date.fromisoformat(data["date"])
    assert re.fullmatch(r"[a-z0-9-]+", path.stem)
    for result in recorded.read(path).results:
        assert result.ms > 0
        assert result.flop > 0
        if result.case[3] == "backward" and not result.is_peer:
            assert result.name in flash.api.BACKWARD
        elif not result.is_peer:
            assert result.case[1] in catalog.technique(result.technique).rung(result.name).dtypes
