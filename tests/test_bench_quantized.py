"""What is timed over quantised caches, without a GPU: inputs, bytes, the judge; what is left out, and why."""

import numpy as np
import pytest

from minikernels import catalog, launch
from minikernels.bench import quantized, record

SIZES = {"B": 3, "H": 4, "G": 2, "S": 200, "D": 32}
TECHNIQUE = catalog.technique("kv_compression")


@pytest.fixture
def here(monkeypatch):
    """NumPy stands in for the GPU's arrays, and the clock always says 2 ms."""
    for name in ("to_gpu", "to_numpy", "to_cupy"):
        monkeypatch.setattr(launch, name, lambda x, *_: x)
    monkeypatch.setattr(launch, "times_ms", lambda function, runs, warm_up: [2.0] * runs)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_right_rungs_are_timed_and_what_cannot_run_says_why(here, dtype, bits):
    suite = quantized.suite(TECHNIQUE, SIZES, dtype, bits)
    results, not_run = record.measure(suite, say=lambda line: None)
    assert [row["rung"] for row in results] == ["v1_dequantize", "v2_folded_scales"]
    assert all(row["ms"] == 2.0 for row in results)
    item = np.dtype(dtype).itemsize
    old = 192 * 32 * bits // 8 + (3 * 32 + 192) * item  # codes; a scale and a minimum, half of them keys' and values'
    assert suite.bytes == 3 * 2 * 2 * (old + 8 * 32 * item)
    assert suite.row.get("variant") == (None if bits == 4 else "8 bits")
    reasons = {row.get("rung") or row["peer"]: row["reason"] for row in not_run}
    assert "needs arrays on a GPU" in reasons["v5_split_kv"]
    assert "needs arrays on a GPU" in reasons[f"gqa {quantized.OWN[dtype]}, dequantised"]


def test_a_wrong_kernel_is_not_timed(here):
    suite = quantized.suite(TECHNIQUE, SIZES, "float16", 4)
    o = quantized.decoded(*quantized.random(SIZES, "float16", 4), "reference")["o"]
    assert all(suite.judge({"o": o}))
    for index in ((0, 0, 0), (2, 3, 31)):
        wrong = o.copy()
        wrong[index] += 1
        assert not all(suite.judge({"o": wrong}))
    o[1, 2, 5] = np.nan  # where no head is compared
    assert not all(suite.judge({"o": o}))


def test_sequences_differ_by_whole_groups():
    _, k_cache, v_cache = quantized.random(SIZES, "float16", 4)
    for cache in (k_cache, v_cache):
        x = cache.dequantize()
        np.testing.assert_array_equal(x[2, :, :192], np.roll(x[0, :, :192], 128, axis=1))
        assert not np.array_equal(x[1], x[0])


def test_cases_have_shapes_that_rungs_take():
    for sizes, dtype, bits in quantized.CASES:
        assert sizes["D"] % (128 // bits) == 0 and sizes["H"] % sizes["G"] == 0 and dtype in ("float16", "float32")
