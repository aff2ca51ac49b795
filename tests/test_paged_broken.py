"""Broken paged kernels must turn a test red: what each slip of the pen does, and how it is found."""

import inspect
import textwrap

import numpy as np
import pytest

from minikernels import simt
from minikernels.core.errors import KernelError
from minikernels.paged import numba_gather, numba_reduce, numba_table, numba_warp, reference
from tests.paged_cases import made

CASE = (2, 8, 2, 8, 16, (43, 17))
R, D, P, WARPS = 4, 16, 8, 4
SCORES = 32  # so that the longer sequence takes two rounds
NAMES = {
    "v2_page_table": {"D": D, "P": P, "PER": 1, "SCORES": SCORES, "THREADS": 128, "WARPS": 4, "ALL": numba_warp.ALL},
    "v3_warp_key": {"D": D, "P": P, "R": R, "WARPS": WARPS, "HEADS": 4, "CHUNKS": 1, "PART": 1, "ALL": numba_warp.ALL},
}
HEAD = "import math\n\nfrom minikernels.launch import cuda, device, float32, kernel\n\n"


def source(function):
    """Return the text of a kernel or device function, free of the factory around it."""
    return textwrap.dedent(inspect.getsource(function.py_func))


def text_of(rung):
    """Return everything that a rung's kernel needs to be compiled from text."""
    if rung == "v2_page_table":
        parts = numba_reduce.block_max, numba_reduce.block_sum, numba_table.v2_page_table(D, P)
    else:
        parts = numba_warp.warp_sum, numba_warp.v3_warp_key(D, P, R, WARPS)
    return "\n\n".join(map(source, parts))


def broken(rung, old="", new=""):
    """Run a rung's kernel with one piece of text replaced; return the oracle's verdict and the findings."""
    arrays, text = made(CASE), text_of(rung)
    if old:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {rung}"
        text = text.replace(old, new)
    o = np.full_like(arrays[0], np.nan)
    grid = (8, 2) if rung == "v2_page_table" else (2, 2)
    names = NAMES[rung]
    launch = simt.run_source(HEAD + text, rung, grid, 128, *arrays, np.float32(0.25), o, names=names, strict=False)
    return reference.judge(o, *arrays, 0.25)["o"], launch.findings


@pytest.mark.parametrize("rung", NAMES)
def test_the_kernel_itself_passes(rung):
    verdict, findings = broken(rung)
    assert verdict, verdict.message
    assert not findings


@pytest.mark.parametrize(("rung", "old", "new"), [
    ("v2_page_table", "float32(v_pages[page, slot, g, d])", "float32(v_pages[page, slot, g, 0])"),
    ("v2_page_table", "if slot == P:", "if slot == P - 1:"),
    ("v2_page_table", "float32(k_pages[page, slot, g, d])", "float32(k_pages[page, slot, 0, d])"),
    ("v2_page_table", "length = lengths[b]", "length = (lengths[b] + P - 1) // P * P"),
    ("v2_page_table", "acc[n] *= alpha", "pass"),
    ("v2_page_table", "l = alpha * l + block_sum", "l = l + block_sum"),
    ("v2_page_table", "m_new = block_max(m_new, max_smem)", "m_new = block_max(m_new, max_smem) * 0 + m_new"),
    ("v2_page_table", "    if cuda.threadIdx.x % 32 == 0:\n        warp_smem[cuda.threadIdx.x // 32] = x\n"
                      "    cuda.syncthreads()  # every warp's sum", "    if cuda.threadIdx.x % 32 == 0:\n"
                      "        warp_smem[cuda.threadIdx.x // 32] = x * 2\n    cuda.syncthreads()  # every warp's sum"),
    ("v3_warp_key", "page, slot = page_table[b, s // P], s % P", "page, slot = page_table[0, s // P], s % P"),
    ("v3_warp_key", "page, slot = page_table[b, s // P], s % P", "page, slot = s // P, s % P"),
    ("v3_warp_key", "range(warp, length, WARPS)", "range(warp, length // P * P, WARPS)"),
    ("v3_warp_key", "total += share * l_smem[w, r]", "total += l_smem[w, r]"),
    ("v3_warp_key", "top = g * R + skipped", "top = skipped"),
], ids=["wrong-column", "last-slot-passed-over", "wrong-head", "last-page-whole", "acc-not-rescaled", "l-not-rescaled",
        "warps-disagree", "sum-twice", "first-sequence's-table", "table-ignored", "last-page-dropped",
        "merge-not-rescaled", "wrong-group"])
def test_a_wrong_kernel_is_wrong(rung, old, new):
    verdict, _ = broken(rung, old, new)
    assert not verdict
    assert verdict.worst is not None


@pytest.mark.parametrize(("rung", "hazard", "array"), [
    ("v2_page_table", "the whole query is written before any thread reads it", "q_smem"),
    ("v2_page_table", "every warp's maximum is written before any thread reads it", "max_smem"),
    ("v2_page_table", "every warp's sum, and what the threads wrote before, is written before any thread reads it",
     "score_smem"),
    ("v2_page_table", "every thread is done with the scores before the next round overwrites them", "score_smem"),
    ("v3_warp_key", "all warps' states are written before any thread merges them", "m_smem"),
], ids=["query", "maximum", "scores", "reuse", "states"])
def test_a_missing_barrier_is_a_race(rung, hazard, array):
    _, findings = broken(rung, f"cuda.syncthreads()  # {hazard}", "pass")
    assert array in {finding.array for finding in findings if finding.kind == "race"}


@pytest.mark.parametrize(("rung", "old", "new"), [
    ("v2_page_table", "keys = min(SCORES, length - first)", "keys = SCORES"),
    ("v3_warp_key", "s // P], s % P", "s // P + 1], s % P"),
], ids=["round-unguarded", "next-page"])
def test_what_is_no_page_is_found(rung, old, new):
    """Past a sequence's last page the table holds -1, or ends."""
    with pytest.raises(KernelError) as caught:
        broken(rung, old, new)
    assert caught.value.kind == "out_of_bounds"


def test_a_state_without_a_start_is_an_uninitialised_read():
    _, findings = broken("v3_warp_key", "o_reg[r, i] = float32(0)", "pass")
    assert {"uninitialised"} <= {finding.kind for finding in findings}


@pytest.mark.parametrize(("old", "new"), [
    ("i // D % G", "i // D % (G - 1)"), ("j * P + slot, g, d] = k_pages", "j * P + 1, g, d] = k_pages"),
    ("page = page_table[b, j]", "page = page_table[0, j]"),
    ("min(P, lengths[b] - j * P)", "min(P - 1, lengths[b] - j * P)"),
], ids=["head-dropped", "slots-collide", "wrong-sequence", "last-slot-dropped"])
def test_a_wrong_copy_is_wrong(old, new):
    q, k_pages, v_pages, page_table, lengths = made(CASE)
    text = source(numba_gather.gather_pages)
    assert text.count(old) == 1
    for edited, expected in ((text, True), (text.replace(old, new), False)):
        k, v = (np.full((2, 48, 2, D), np.nan, np.float32) for _ in "kv")
        simt.run_source(HEAD + edited, "gather_pages", (6, 2), 128, k_pages, v_pages, page_table, lengths, k, v,
                        names={"THREADS": 128}, strict=False)
        same = [np.array_equal(k[b, :n], reference.gather(k_pages, page_table, lengths)[b, :, :n].swapaxes(0, 1))
                and np.array_equal(v[b, :n], reference.gather(v_pages, page_table, lengths)[b, :, :n].swapaxes(0, 1))
                for b, n in enumerate(lengths)]
        assert all(same) == expected
