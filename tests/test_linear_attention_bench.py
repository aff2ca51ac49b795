"""The bench of linear attention, without a GPU: what is judged before the clock, the series, and the cost of a step."""

import numpy as np
import pytest

from minikernels import catalog, launch
from minikernels import linear_attention as la
from minikernels.bench import linear, record, recorded
from minikernels.bench.streaming import step_costs

TECHNIQUE = catalog.technique("linear_attention")
LAST = linear.FASTEST
SIZES = {"B": 2, "H": 3, "T": 70, "D": 16}


@pytest.fixture
def here(monkeypatch):
    """NumPy stands in for the GPU's arrays, and the clock always says 2 ms."""
    for name in ("to_gpu", "to_numpy", "to_cupy"):
        monkeypatch.setattr(launch, name, lambda x, *_: x)
    monkeypatch.setattr(launch, "times_ms", lambda function, runs, warm_up: [2.0] * runs)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_right_rungs_are_timed_and_the_others_say_why(here, dtype, gated):
    results, not_run = record.measure(linear.suite(TECHNIQUE, SIZES, dtype, gated), say=lambda line: None)
    assert [row["rung"] for row in results] == ["v1_recurrent", "v2_chunk"]
    assert {row.get("variant") for row in results} == {"gates" if gated else None}
    reasons = {row.get("rung") or row["peer"]: row["reason"] for row in not_run}
    assert "CUDA C++" in reasons["v3_mma_chunk"] or reasons["v3_mma_chunk"] == "takes float16"
    assert reasons["fla GLA" if gated else "fla lightning"].startswith("not installed")
    assert results[0]["flop"] == 4 * 2 * 3 * 70 * 16 * 16
    assert results[0]["bytes"] == (4 + gated) * 2 * 3 * 70 * 16 * np.dtype(dtype).itemsize


@pytest.mark.parametrize("place", [(0, 0, 3, 2), (1, 2, 69, 5), (1, 1, 9, 9)], ids=str)
def test_a_wrong_output_is_never_timed(here, place):
    suite = linear.suite(TECHNIQUE, SIZES, "float32")
    o = suite.entries[0].run()["o"]
    assert all(suite.judge({"o": o}))
    o[place] = np.nan
    assert not all(suite.judge({"o": o}))


def test_a_long_head_is_judged_at_its_start_and_at_its_end(here, monkeypatch):
    monkeypatch.setattr(linear, "JUDGED", 300)
    for gated in (False, True):
        suite = linear.suite(TECHNIQUE, {"B": 1, "H": 2, "T": 700, "D": 8}, "float32", gated)
        o = linear.attended(linear.random(suite.sizes, "float32", gated), "tiled")["o"]
        assert all(suite.judge({"o": o}))
        o[0, 1, 690, 3] += 1
        assert not all(suite.judge({"o": o}))


def test_the_series_runs_to_a_million_tokens_and_softmax_stops_before(here):
    assert linear.LENGTHS[0] == 1024 and linear.LENGTHS[-1] == 2**20
    one = linear.series(TECHNIQUE, {"B": 1, "H": 2, "T": 64, "D": 8})
    assert (one.variant, [entry.name for entry in one.entries]) == ("beside softmax", [LAST, "flash v5_mma"])
    assert min(T for T in linear.LENGTHS if T > linear.SOFTMAX_LIMIT) == 2**20


def test_the_series_is_read_back_as_time_per_token(here, monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "require_gpu", lambda *_, **__: None)
    about = {"gpu": "NVIDIA Test", "compute": [9, 0], "driver": "1.2", "cuda": "13.0", "versions": {}}
    monkeypatch.setattr(launch, "provenance", lambda: dict(about))
    monkeypatch.setattr(linear, "CASES", [])
    monkeypatch.setattr(linear, "GATED", [])
    monkeypatch.setattr(linear, "LENGTHS", [64, 32])
    monkeypatch.setattr(linear, "SERIES", {"B": 1, "H": 2, "D": 8})
    monkeypatch.setattr(linear, "attended", lambda there, rung: {"o": la.attention(**there)})
    path = record.run(["linear_attention"], out=tmp_path, say=lambda line: None)
    assert linear.per_token(recorded.read(path)) == {LAST: [(32, 2000 / 32), (64, 2000 / 64)]}


def test_a_step_costs_the_same_after_any_number_of_tokens_but_for_a_cache():
    costs = step_costs([256, 4096], runs=3)
    for name, (early, late) in costs.items():
        grows = late.state_bytes / early.state_bytes
        assert (grows > 10) == (name == "softmax, cache"), name
        assert grows > 10 or grows == 1, name
        assert early.us > 0 and late.us > 0
