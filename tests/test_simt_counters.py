"""The machine's counts equal a GPU's own hardware counters, recorded by tests/counters/profile.py."""

import json
from pathlib import Path

import pytest

from minikernels import simt
from tests.counters.cases import CASES

RECORDED = json.loads((Path(__file__).parent / "counters" / "recorded.json").read_text())
GLOBAL = ("load_requests", "load_sectors", "store_requests", "store_sectors")
SHARED = ("shared_load_wavefronts", "shared_load_conflicts", "shared_store_wavefronts", "shared_store_conflicts")

# Where the compiler did not do what the source says, and why. The machine counts the source.
COMPILED_AWAY = {
    ("reduce_shuffle", "shared_load_wavefronts"): "s[0] to s[3] became one 128-bit load",
    ("matmul_tiled", "shared_load_wavefronts"): "four neighbours a_smem[ty, k] became one 128-bit load",
    ("early_return", "load_requests"): "x[i] * x[i] loads x[i] once",
    ("early_return", "load_sectors"): "x[i] * x[i] loads x[i] once",
}


@pytest.fixture(scope="module")
def counted():
    return {c.name: simt.run(c.kernel, c.grid, c.block, *c.arguments()).traffic for c in CASES}


def test_recording_names_its_hardware_versions_and_date():
    assert {"gpu", "driver", "numba_cuda", "ncu", "date"} <= RECORDED["provenance"].keys()


def test_every_case_is_recorded_and_there_are_enough():
    assert [c.name for c in CASES] == list(RECORDED["counts"])
    assert len(CASES) >= 25


@pytest.mark.parametrize("name", RECORDED["counts"])
@pytest.mark.parametrize("fields", [GLOBAL, SHARED], ids=["global", "shared"])
def test_counts_equal_the_hardware(name, fields, counted):
    hardware = RECORDED["counts"][name]
    wrong = {f: (getattr(counted[name], f), hardware[f]) for f in fields
             if (name, f) not in COMPILED_AWAY and getattr(counted[name], f) != hardware[f]}
    assert not wrong, f"machine against hardware: {wrong}"


@pytest.mark.parametrize("name, field", COMPILED_AWAY)
def test_what_the_compiler_removed_is_less_than_the_source_says(name, field, counted):
    assert getattr(counted[name], field) > RECORDED["counts"][name][field]


@pytest.mark.parametrize("name", RECORDED["counts"])
def test_atomic_requests_equal_the_hardware(name, counted):
    """An atomic whose result nobody uses is compiled to a reduction, which has a counter of its own."""
    hardware = RECORDED["counts"][name]
    assert counted[name].atomic_requests == hardware["atomic_requests"] + hardware["reduction_requests"]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_profiled_kernels_have_no_findings(case):
    assert simt.run(case.kernel, case.grid, case.block, *case.arguments()).findings == []
