"""What is timed of paged decoding, without a GPU: inputs, work, and the check before the clock."""

import numpy as np
import pytest

from minikernels import catalog, launch
from minikernels.bench import decode, record
from minikernels.bench import paged as bench

SIZES = {"B": 3, "H": 4, "G": 2, "S": 50, "P": 16, "D": 8}


@pytest.fixture
def here(monkeypatch):
    """NumPy stands in for the GPU's arrays, and no peer is there."""
    for name in ("to_gpu", "to_numpy", "to_cupy"):
        monkeypatch.setattr(launch, name, lambda x, *_: x)
    monkeypatch.setattr(bench, "contiguous_peers", lambda *_: [])
    monkeypatch.setattr(bench, "flashinfer_peer", lambda *_: bench.Entry("peer", "flashinfer paged", None, "not here"))


@pytest.mark.parametrize("variant", decode.LENGTHS)
def test_a_case_is_checked_before_it_is_timed(here, variant):
    keys = int(np.sum(decode.LENGTHS[variant](3, 50)))
    suite = bench.suite(catalog.technique("paged"), SIZES, "float16", variant)
    assert (suite.technique, suite.variant) == ("paged", variant)
    assert suite.bytes == 2 * 2 * 8 * 2 * keys
    assert suite.flop == 4 * 4 * 8 * keys
    entries = {entry.name: entry for entry in suite.entries}
    outputs = entries["v3_warp_key"].run()
    assert all(suite.judge(outputs))
    outputs["o"][-1, -1, 3] += 1
    assert not all(suite.judge(outputs))
    outputs["o"][1, 1, 0] = np.nan
    assert not all(suite.judge(outputs))
    assert entries["v1_gather"].reason == "a rung for learning, timed at a few shapes alone"
    assert entries["flashinfer paged"].reason == "not here"


def test_every_sequence_is_the_first_one_moved_on():
    q, k_pages, v_pages, page_table, lengths = bench.strewn(bench.random(SIZES, "float32", [50, 50, 50]), 16).values()
    tokens = k_pages[page_table].reshape(3, -1, 2, 8)
    np.testing.assert_array_equal(tokens[2, :50], np.roll(tokens[0, :50], 97 * 2, axis=0))
    assert sorted(page_table.ravel()) == list(range(len(v_pages)))
    assert (q.shape, lengths.tolist()) == ((3, 4, 8), [50, 50, 50])


def test_the_bench_knows_the_technique_and_its_cases_are_those_of_production():
    assert record.SUITES["paged"] is bench.suites
    shapes = [(sizes["B"], sizes["H"], sizes["G"], sizes["S"], sizes["P"]) for sizes, _ in bench.CASES[:4]]
    assert shapes == [(64, 32, 8, 8192, 16), (64, 32, 32, 4096, 16), (64, 32, 1, 8192, 16), (1, 32, 8, 131_072, 16)]


def test_a_missing_peer_is_named():
    try:
        import flashinfer  # noqa: F401
    except ImportError:
        assert bench.flashinfer_peer({}, []).reason in ("flashinfer is not installed", "torch is not installed")
