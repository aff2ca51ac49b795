"""Broken decode kernels must turn a test red: what each slip of the pen does, and how it is found."""

import inspect
import textwrap

import numpy as np
import pytest

from minikernels import simt
from minikernels.core.errors import KernelError
from minikernels.gqa import numba_block, numba_warp, reference
from tests.gqa_cases import made

CASE = (2, 8, 2, 43, 16, (43, 17))
R, D, BLOCK_S, THREADS, WARPS = 4, 16, 8, 128, 4
V2 = {"D": D, "R": R, "BLOCK_S": BLOCK_S, "THREADS": THREADS, "WIDTH": D + 1, "PER": 1}
V3 = {"D": D, "R": R, "WARPS": WARPS, "HEADS": 4, "CHUNKS": 1, "PART": 1, "ALL": numba_warp.ALL}
WARP_SUM = textwrap.dedent(inspect.getsource(numba_warp.warp_sum.py_func))


def source(kernel):
    """Return the text of a kernel, free of the factory around it."""
    return textwrap.dedent(inspect.getsource(kernel.py_func))


def broken(rung, old, new):
    """Run a rung's kernel with one piece of text replaced; return the oracle's verdict and the findings."""
    q, k, v, lengths = made(CASE)
    if rung == "v2_shared_group":
        kernel, names, block = numba_block.v2_shared_group(D, R, BLOCK_S, THREADS), V2, THREADS
        text = source(kernel)
    else:
        kernel, names, block = numba_warp.v3_warp_dot(D, R, WARPS), V3, 32 * WARPS
        text = WARP_SUM + "\n\n" + source(kernel)
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {rung}"
    o = np.full_like(q, np.nan)
    head = "import math\n\nfrom minikernels.launch import cuda, device, float32, kernel\n\n"
    launch = simt.run_source(head + text.replace(old, new), rung, (2, 2), block, q, k, v, lengths.astype(np.int32),
                             np.float32(0.25), o, names=names, strict=False)
    return reference.judge(o, q, k, v, lengths, 0.25)["o"], launch.findings


@pytest.mark.parametrize("rung", ["v2_shared_group", "v3_warp_dot"])
def test_the_kernel_itself_passes(rung):
    verdict, findings = broken(rung, "length = lengths[b]", "length = lengths[b]")
    assert verdict, verdict.message
    assert not findings


@pytest.mark.parametrize(("rung", "old", "new"), [
    ("v2_shared_group", "acc[n] *= alpha", "pass"),
    ("v2_shared_group", "l[n] *= alpha", "pass"),
    ("v2_shared_group", "q[b, g * R + i // D, i % D]", "q[b, g + i // D * 2, i % D]"),
    ("v2_shared_group", "length = lengths[b]", "length = k.shape[2]"),
    ("v2_shared_group", "inverse = float32(1) / l[n]", "inverse = float32(1)"),
    ("v3_warp_dot", "range(warp, length, WARPS)", "range(warp, length - 1, WARPS)"),
    ("v3_warp_dot", "range(warp, length, WARPS)", "range(warp + 1, length, WARPS)"),
    ("v3_warp_dot", "total += share * l_smem[w, r]", "total += l_smem[w, r]"),
    ("v3_warp_dot", "x += cuda.shfl_xor_sync(ALL, x, 8)", "x += cuda.shfl_xor_sync(ALL, x, 4)"),
    ("v3_warp_dot", "top = g * R + skipped", "top = skipped"),
], ids=["acc-not-rescaled", "l-not-rescaled", "wrong-heads", "length-ignored", "not-divided", "last-key-missed",
        "first-key-missed", "merge-not-rescaled", "lane-counted-twice", "wrong-group"])
def test_a_wrong_kernel_is_wrong(rung, old, new):
    verdict, _ = broken(rung, old, new)
    assert not verdict
    assert verdict.worst is not None


@pytest.mark.parametrize(("rung", "barrier", "array"), [
    ("v2_shared_group", "cuda.syncthreads()  # the whole tile, and q, are written before any thread reads them", None),
    ("v2_shared_group", "cuda.syncthreads()  # all scores of the tile are written before any thread reads them",
     "score_smem"),
    ("v2_shared_group", "cuda.syncthreads()  # every thread is done with the tile before the next one overwrites it",
     None),
    ("v3_warp_dot", "cuda.syncthreads()  # all warps' states are written before any thread merges them", None),
], ids=["tile", "scores", "reuse", "states"])
def test_a_missing_barrier_is_a_race(rung, barrier, array):
    _, findings = broken(rung, barrier, "pass")
    races = [finding for finding in findings if finding.kind == "race"]
    assert races
    assert array is None or array in {finding.array for finding in races}


def test_an_unguarded_last_tile_reads_past_the_cache():
    with pytest.raises(KernelError) as caught:
        broken("v2_shared_group", "keys = min(BLOCK_S, length - first)", "keys = BLOCK_S")
    assert caught.value.kind == "out_of_bounds"


def test_a_state_without_a_start_is_an_uninitialised_read():
    _, findings = broken("v3_warp_dot", "o_reg[r, i] = float32(0)", "pass")
    assert {"uninitialised"} <= {finding.kind for finding in findings}
