"""The bench, without a GPU: what is checked before the clock starts, and what is written down."""

import json
from functools import partial

import numpy as np
import pytest

from minikernels import bench, catalog, launch
from minikernels.bench import attention, record, recorded, sdpa
from minikernels.bench import suite as suites
from minikernels.core.errors import DeviceError

FLASH = catalog.technique("flash")
SIZES = {"B": 2, "H": 4, "G": 2, "T": 70, "S": 90, "D": 16}
ABOUT = {"gpu": "NVIDIA Test", "compute": [9, 0], "driver": "1.2", "cuda": "13.0", "versions": {}}


@pytest.fixture
def here(monkeypatch):
    """NumPy stands in for the GPU's arrays, and the clock always says 2 ms."""
    monkeypatch.setattr(launch, "require_gpu", lambda *_, **__: None)
    monkeypatch.setattr(launch, "provenance", lambda: dict(ABOUT))
    for name in ("to_gpu", "to_numpy", "to_cupy"):
        monkeypatch.setattr(launch, name, lambda x, *_: x)
    monkeypatch.setattr(launch, "times_ms", lambda function, runs, warm_up: [2.0] * runs)
    monkeypatch.setattr(attention, "peers", lambda make, there: [suites.Entry("peer", "SDPA", None, "not here")])


def suite(*entries, causal=True, dtype="float32"):
    """Return a forward suite with entries of one's own: (name, function of the right output)."""
    whole = attention.forward(FLASH, SIZES, dtype, causal)
    right = partial(FLASH.run, FLASH.rung("tiled"), FLASH.random(SIZES, dtype, causal=causal))
    made = tuple(suites.Entry("rung", name, lambda spoil=spoil: spoil(right())) for name, spoil in entries)
    return suites.Suite("flash", SIZES, dtype, causal, whole.flop, made, whole.judge)


def spoiled(name, index, value):
    def spoil(outputs):
        outputs[name][index] = value
        return outputs
    return spoil


def measured(a_suite):
    return record.measure(a_suite, say=lambda line: None)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_right_kernel_is_timed(here, causal, dtype):
    results, not_run = measured(suite(("right", lambda outputs: outputs), causal=causal, dtype=dtype))
    assert not not_run
    assert results[0]["ms"] == 2.0
    assert results[0]["runs"] == [2.0, 2.0]
    assert results[0]["flop"] == 4 * 2 * 4 * 70 * 90 * 16 // (2 if causal else 1)
    assert 0 < results[0]["error"] <= results[0]["budget"]


@pytest.mark.parametrize("spoil", [
    spoiled("o", (1, 3, 69, 5), 0.5), spoiled("o", (0, 0, 0, 0), 9), spoiled("o", (0, 2, 50, 3), np.nan),
    spoiled("lse", (0, 1, 30), 0), spoiled("lse", (1, 3, 69), np.inf)], ids=["last", "first", "nan", "lse", "inf"])
def test_a_wrong_kernel_is_never_timed(here, spoil):
    results, not_run = measured(suite(("wrong", spoil)))
    assert not results
    assert not_run[0]["reason"].startswith("wrong, so not timed")


def test_a_kernel_that_cannot_run_says_why(here):
    def refuse(_):
        raise DeviceError("it needs compute capability 99")
    results, not_run = measured(suite(("absent", refuse)))
    assert not results
    assert not_run[0]["reason"] == "it needs compute capability 99"


def test_a_peers_reason_is_torchs_own():
    said = ["Memory efficient kernel not used because: (Triggered internally at x)", "Memory Efficient is disabled.",
            "Flash attention kernel not used because: (Triggered internally at x)",
            "Expected dtype Half. Got float instead. (Triggered internally at y)"]
    assert sdpa.why("FLASH_ATTENTION", said) == "Expected dtype Half. Got float instead."
    assert sdpa.why("CUDNN_ATTENTION", said) == sdpa.why("MATH", []) == ""


def test_backward_is_judged_too(here):
    whole = attention.backward(FLASH, SIZES, "float32", True)
    outputs = whole.entries[0].run()
    assert all(whole.judge(outputs))
    outputs["dk"][-1, -1, 3, 3] += 1
    assert not all(whole.judge(outputs))


def test_run_writes_a_file_that_reads_back(here, tmp_path):
    small = {**SIZES, "B": 1, "T": 20, "S": 20, "D": 8}
    path = bench.run(["flash"], [record.Case(small, "float32", True)], tmp_path, say=lambda line: None)
    assert path.name == "nvidia-test.json"
    data = json.loads(path.read_text("utf-8"))
    timed = {row["rung"] for row in data["results"] if row["technique"] == "flash"}
    assert "v3_split_rows" in timed
    reasons = {row.get("rung") or row["peer"]: row["reason"] for row in data["not_run"]}
    assert reasons["SDPA"] == "not here"
    assert reasons["v5_mma"] == "takes float16"
    assert reasons["v2_tiled"] == "a rung for learning, timed at D=64"
    recording = recorded.read(path)
    case = recording.case("flash", "float32")
    assert recording.of("flash", "v3_split_rows", case).ms == 2.0
    assert dict(case[0]) == small


def test_a_second_run_replaces_its_cases_and_keeps_the_others(here, tmp_path, monkeypatch):
    small = {**SIZES, "B": 1, "T": 20, "S": 20, "D": 8}
    cases = [record.Case(small, dtype, True) for dtype in ("float32", "float16")]
    silent = {"say": lambda line: None}
    path = bench.run(["flash"], cases, tmp_path, **silent)
    before = json.loads(path.read_text("utf-8"))
    monkeypatch.setattr(launch, "times_ms", lambda function, runs, warm_up: [3.0] * runs)
    after = json.loads(bench.run(["flash"], cases[:1], tmp_path, **silent).read_text("utf-8"))
    assert {(row["dtype"], row["ms"]) for row in after["results"]} == {("float32", 3.0), ("float16", 2.0)}
    assert len(after["results"]) == len(before["results"])
    assert len(after["not_run"]) == len(before["not_run"])
    monkeypatch.setattr(launch, "provenance", lambda: {**ABOUT, "driver": "1.3"})
    other = json.loads(bench.run(["flash"], cases[:1], tmp_path, **silent).read_text("utf-8"))
    assert {row["dtype"] for row in other["results"]} == {"float32"}


def test_one_rung_is_measured_beside_the_peers_and_the_others_stay(here, tmp_path, monkeypatch):
    small = {**SIZES, "B": 1, "T": 20, "S": 20, "D": 8}
    case, silent = [record.Case(small, "float32", True)], {"say": lambda line: None}
    before = json.loads(bench.run(["flash"], case, tmp_path, **silent).read_text("utf-8"))
    monkeypatch.setattr(launch, "times_ms", lambda function, runs, warm_up: [3.0] * runs)
    after = json.loads(bench.run(["flash"], case, tmp_path, rungs=["v4_register_tiles"], **silent).read_text("utf-8"))
    assert [(row["rung"], row["ms"]) for row in before["results"]] == [("v3_split_rows", 2.0), ("v3_split_rows", 2.0)]
    assert after["results"] == before["results"]  # here no GPU runs the rung that is asked for: nothing is lost
    assert sorted(map(str, after["not_run"])) == sorted(map(str, before["not_run"]))
    again = json.loads(bench.run(["flash"], case, tmp_path, rungs=["v3_split_rows"], **silent).read_text("utf-8"))
    assert {row["ms"] for row in again["results"]} == {3.0}
    assert len(again["not_run"]) == len(before["not_run"])


def test_without_a_gpu_it_says_what_to_install():
    if launch.no_gpu_because(numba=True) is None:
        pytest.skip("there is a GPU here")
    with pytest.raises(DeviceError, match="uv run --extra cuda13"):
        bench.run(["flash"])


def test_unknown_technique_is_a_clear_error(here):
    with pytest.raises(ValueError, match="nothing of 'nothing' is timed; there are gqa, flash"):
        bench.run(["nothing"])
