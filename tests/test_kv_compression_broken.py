"""Broken kernels over quantised caches must turn a test red: what each slip of the pen does, and how it is found."""

import inspect
import textwrap

import numpy as np
import pytest

from minikernels import simt
from minikernels.core.errors import KernelError
from minikernels.kv_compression import numba_folded, numba_loop, numba_warps, reference
from minikernels.kv_compression.outputs import ALL
from tests.kv_compression_cases import Case, made

CASE = Case(2, 8, 2, 43, 16, (43, 17), 4, 8)
R, D, WARPS = 4, 16, 4
V1 = {"D": D, "R": R, "WARPS": WARPS, "HEADS": 4, "CHUNKS": 1, "PART": 1, "ALL": ALL, "BITS": 4, "MASK": 15}
V2 = {**V1, "K_GROUP": 8, "V_GROUP": 8}
IMPORTS = "import math\n\nfrom minikernels.launch import cuda, device, float32, int32, kernel\n\n"


def source(function):
    """Return the text of a kernel or device function, free of the factory around it."""
    return textwrap.dedent(inspect.getsource(function.py_func))


def text_of(rung):
    """Return the text of a rung's kernel with all that it calls."""
    called = [source(numba_warps.warp_sum), source(numba_warps.merged)]
    if rung == "v2_folded_scales":
        code = source(numba_folded.code(4))
        called += [code.replace("def code", f"def {name}_code") for name in "kv"]
        kernel = source(numba_folded.v2_folded_scales(D, R, WARPS, 4, 4, 8, 8))
    else:
        number = source(numba_loop.number(4, 8, 1))
        by_channel, by_token = (number.replace("ROWS", rows).replace("COLUMNS", columns)
                                for rows, columns in (("8", "1"), ("1", "8")))
        called += [by_channel.replace("def number", "def k_number"), by_token.replace("def number", "def v_number")]
        kernel = source(numba_loop.v1_dequantize(D, R, WARPS, (4, 8, 1), (4, 1, 8)))
    return IMPORTS + "\n\n".join([*called, kernel])


def broken(rung, old, new, times=1):
    """Run a rung's kernel with one piece of text replaced; return the oracle's verdict and the findings."""
    q, k_cache, v_cache, lengths = made(CASE)
    text = text_of(rung)
    assert text.count(old) == times, f"{old!r} stands {text.count(old)} times in {rung}"
    o = np.full_like(q, np.nan)
    arrays = *k_cache.arrays.values(), *v_cache.arrays.values()
    launch = simt.run_source(text.replace(old, new), rung, (2, 2), 32 * WARPS, q, *arrays, lengths.astype(np.int32),
                             np.float32(0.25), o, names=V1 if rung == "v1_dequantize" else V2, strict=False)
    return reference.judge(o, q, k_cache, v_cache, lengths, 0.25)["o"], launch.findings


@pytest.mark.parametrize("rung", ["v1_dequantize", "v2_folded_scales"])
def test_the_kernel_itself_passes(rung):
    verdict, findings = broken(rung, "top = g * R + skipped", "top = g * R + skipped")
    assert verdict, verdict.message
    assert not findings


@pytest.mark.parametrize(("rung", "old", "new", "times"), [
    ("v1_dequantize", ">> (c * BITS % 8) & MASK", "& MASK", 2),
    ("v1_dequantize", ">> (c * BITS % 8) & MASK", ">> (4 - c * BITS % 8) & MASK", 2),
    ("v1_dequantize", "scales[b, g, s // 8, c // 1]", "scales[b, g, s // 8, c // 8]", 1),
    ("v1_dequantize", "k_recent[b, g, s - quantized, c]", "k_recent[b, g, 0, c]", 1),
    ("v1_dequantize", "top = g * R + skipped", "top = skipped", 1),
    ("v2_folded_scales", "dot = warp_sum(dot) + q_min[r]", "dot = warp_sum(dot)", 1),
    ("v2_folded_scales", "k_scale = float32(k_scales[b, g, part, c])", "k_scale = float32(k_scales[b, g, 0, c])", 1),
    ("v2_folded_scales", "o_min[r, i] = alpha * o_min[r, i] + p * v_min[i]", "o_min[r, i] += p * v_min[i]", 1),
    ("v2_folded_scales", "p * v_scale[i] * v_reg[i]", "p * v_reg[i]", 1),
    ("v2_folded_scales", "end = min(first + K_GROUP, length)", "end = min(first + K_GROUP - 1, length)", 1),
    ("v2_folded_scales", "range(warp, parts, WARPS)", "range(warp, whole, WARPS)", 1),
], ids=["low-half-alone", "halves-swapped", "scale-by-token", "window-stands-still", "wrong-heads", "minima-forgotten",
        "first-group's-scale", "minima-not-rescaled", "value-scale-forgotten", "last-of-group-missed", "no-window"])
def test_a_wrong_kernel_is_wrong(rung, old, new, times):
    verdict, _ = broken(rung, old, new, times)
    assert not verdict
    assert verdict.worst is not None


@pytest.mark.parametrize("rung", ["v1_dequantize", "v2_folded_scales"])
def test_a_missing_barrier_is_a_race(rung):
    barrier = "cuda.syncthreads()  # all warps' states are written before any thread merges them"
    _, findings = broken(rung, barrier, "pass")
    assert "race" in {finding.kind for finding in findings}


def test_a_window_read_by_the_token_s_own_number_is_out_of_bounds():
    with pytest.raises(KernelError) as caught:
        broken("v1_dequantize", "v_recent[b, g, s - quantized, c]", "v_recent[b, g, s, c]")
    assert caught.value.kind == "out_of_bounds"


def test_a_state_without_a_start_is_an_uninitialised_read():
    _, findings = broken("v2_folded_scales", "o_min[r, i] = float32(0)", "pass")
    assert {"uninitialised"} <= {finding.kind for finding in findings}
