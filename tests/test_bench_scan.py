"""The scan's bench, without a GPU: what is checked before the clock starts, its cases, and the series over T."""

import numpy as np
import pytest

from minikernels import catalog, launch
from minikernels.bench import attention, record, recorded, scan
from minikernels.bench.suite import Entry

SCAN = catalog.technique("selective_scan")
SIZES = {"B": 2, "T": 70, "E": 20, "N": 3}


@pytest.fixture
def here(monkeypatch):
    """NumPy stands in for the GPU's arrays, and the clock always says 2 ms."""
    for name in ("to_gpu", "to_numpy", "to_cupy"):
        monkeypatch.setattr(launch, name, lambda x, *_: x)
    monkeypatch.setattr(launch, "times_ms", lambda function, runs, warm_up: [2.0] * runs)
    monkeypatch.setattr(scan, "mamba", lambda there: Entry("peer", "mamba_ssm", None, "not here"))
    monkeypatch.setattr(scan, "jax_scan", lambda there: Entry("peer", "jax", None, "not here"))
    monkeypatch.setattr(scan, "torch_loop", lambda there: Entry("peer", "torch", None, "not here"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_right_rungs_are_timed_and_others_say_why_not(here, dtype):
    results, not_run = record.measure(scan.suite(SCAN, SIZES, dtype), say=lambda line: None)
    assert {row["rung"] for row in results} == {"v1_channel_major", "v2_token_major"}
    assert {row["flop"] for row in results} == {6 * 2 * 70 * 20 * 3}
    reasons = {row.get("rung") or row["peer"]: row["reason"] for row in not_run}
    assert reasons["mamba_ssm"] == "not here"
    assert reasons["v3_hillis_steele"] == "a rung for learning, timed at two shapes alone"
    assert "needs arrays on a GPU" in reasons["v6_three_phase"]


@pytest.mark.parametrize(("name", "place", "value"), [
    ("o", (1, 69, 19), 9), ("o", (1, 0, 0), 9), ("o", (0, 30, 10), np.nan), ("state", (1, 19, 2), 9),
    ("state", (0, 10, 0), np.inf)], ids=["last", "first", "nan", "state", "inf"])
def test_a_wrong_kernel_is_not_timed(here, name, place, value):
    suite = scan.suite(SCAN, SIZES, "float32")
    outputs = next(entry for entry in suite.entries if entry.name == "v2_token_major").run()
    assert all(suite.judge(outputs))
    outputs[name][place] = value
    assert not all(suite.judge(outputs))


def test_the_layout_of_v1_is_given_to_it(here):
    there = scan.random(SIZES, "float32")
    given = scan.channel_major(there)
    assert given["u"].swapaxes(1, 2).flags.c_contiguous
    np.testing.assert_array_equal(given["delta"], there["delta"])


def test_a_long_input_repeats_a_short_one(monkeypatch):
    monkeypatch.setattr(scan, "PERIOD", 16)
    u = scan.random({**SIZES, "T": 40}, "float16")["u"]
    np.testing.assert_array_equal(u[:, :16], u[:, 16:32])
    assert u.shape == (2, 40, 20)


def test_the_series_over_lengths_has_scans_and_attention(here, monkeypatch):
    monkeypatch.setattr(scan, "CASES", [])
    monkeypatch.setattr(scan, "LENGTHS", (32, 64))
    monkeypatch.setattr(scan, "LONG", {**SIZES, "B": 1})
    monkeypatch.setattr(attention, "peers", lambda make, there: [Entry("peer", "SDPA", None, "not here")])
    suites = list(scan.suites(SCAN))
    assert [(s.technique, s.sizes["T"]) for s in suites] == [
        (name, T) for T in (32, 64) for name in ("selective_scan", "flash")]
    assert {s.variant for s in suites} == {scan.SERIES}
    assert [entry.name for entry in suites[0].entries] == [
        "v5_registers", "v6_three_phase", "v7_channel_pairs", "v8_staging_warps", "mamba_ssm", "jax"]
    assert "v5_mma" in {entry.name for entry in suites[1].entries}


def test_time_per_token_is_read_from_what_was_recorded():
    def result(technique, name, T, ms, variant=scan.SERIES):
        return recorded.Result(technique, name, False, ((("B", 1), ("T", T)), "float16", False, variant), ms, 1)

    rows = (result("selective_scan", "v6", 2048, 1.0), result("selective_scan", "v6", 1024, 0.5),
            result("flash", "v5_mma", 1024, 2.048), result("selective_scan", "v6", 4096, 1.0, ""))
    recording = recorded.Recording("A GPU", (9, 0), "1", "2026-01-02", rows)
    series = scan.per_token(recording)
    assert series == {"v6": [(1024, 500 / 1024), (2048, 1000 / 2048)], "v5_mma": [(1024, 2.0)]}


def test_time_per_token_is_measured_here():
    times = scan.token_us([32, 64], E=16, N=2, H=2, D=4, runs=1)
    assert [len(x) for x in times.values()] == [2, 2] and min(map(min, times.values())) > 0
