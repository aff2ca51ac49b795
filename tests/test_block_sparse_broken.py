"""Broken kernels must turn a test red: what each slip of the pen does, and how it is found."""

import inspect
import textwrap

import numpy as np
import pytest

from minikernels import simt
from minikernels.block_sparse import numba_lists, numba_mask, reference
from minikernels.block_sparse.lists import block_lists
from minikernels.core.errors import KernelError
from tests.block_sparse_cases import Case, made

CASE = Case(1, 4, 2, 44, 40, 8, 16, 16, per_head=False, density=0.7, causal=True)
NAMES = {"D": 8, "R": 16, "C": 16, "ROWS": 16, "PARTS": 1, "BLOCK_S": 8, "CAUSAL": True, "THREADS": 32}
HEAD = "import math\n\nfrom minikernels.launch import cuda, float32, kernel\n\n"
MAKERS = {"v2_skip_test": numba_mask.v2_skip_test, "v4_full_partial": numba_lists.v4_full_partial}


def broken(rung, old, new, case=CASE, names=NAMES):
    """Run a rung's kernel with one piece of text replaced; return the verdicts on o and lse, and the findings."""
    q, k, v, mask = made(case)
    kernel = MAKERS[rung](*(names[n] for n in ("D", "R", "C", "ROWS", "PARTS", "BLOCK_S", "CAUSAL")))
    text = textwrap.dedent(inspect.getsource(kernel.py_func))
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {rung}"
    lists = block_lists(mask, case.T, case.S, case.block, True)
    which = (mask,) if rung == "v2_skip_test" else (*lists, np.int32(1), np.int32(mask.shape[1]))
    scale, o, lse = np.float32(0.5), np.full_like(q, np.nan), np.full(q.shape[:3], np.nan, np.float32)
    launch = simt.run_source(HEAD + text.replace(old, new), rung, (mask.shape[2], case.H, case.B), names["THREADS"],
                             q, k, v, *which, scale, o, lse, names=names, strict=False)
    verdicts = reference.judge(o, lse, q, k, v, mask, case.block, True, float(scale))
    return verdicts["o"], verdicts["lse"], launch.findings


@pytest.mark.parametrize("rung", MAKERS)
def test_the_kernel_itself_passes(rung):
    o, lse, findings = broken(rung, "l *= alpha", "l *= alpha")
    assert o, o.message
    assert lse, lse.message
    assert not findings


@pytest.mark.parametrize(("rung", "old", "new"), [
    ("v2_skip_test", "if mask[mask_b, mask_h, i, j]:", "if not mask[mask_b, mask_h, i, j]:"),
    ("v2_skip_test", "if mask[mask_b, mask_h, i, j]:", "if mask[mask_b, mask_h, j, i]:"),
    ("v2_skip_test", "range((tile_seen + C - 1) // C)", "range(tile_seen // C)"),
    ("v2_skip_test", "if first + n < row_seen else float32(-math.inf)", "if n < row_seen else float32(-math.inf)"),
    ("v2_skip_test", "score[n] = dot if first + n < row_seen else float32(-math.inf)", "score[n] = dot"),
    ("v4_full_partial", "first_partial = start + full[row]", "first_partial = starts[row + 1]"),
    ("v4_full_partial", "place >= first_partial", "place > first_partial"),
    ("v4_full_partial", "first + n >= row_seen", "first + n > row_seen"),
    ("v4_full_partial", "range(start, starts[row + 1])", "range(start, starts[row + 1] - 1)"),
    ("v4_full_partial", "g = h // (q.shape[1] // k.shape[1])", "g = h % k.shape[1]"),
    ("v4_full_partial", "o_reg[d] *= alpha", "pass"),
], ids=["test-turned-round", "transposed", "last-block-missed", "tile-counted-twice", "diagonal-ignored",
        "nothing-partial", "first-partial-missed", "one-key-of-the-future", "last-block-of-the-list", "wrong-group",
        "not-rescaled"])
def test_a_wrong_kernel_is_wrong(rung, old, new):
    o, lse, _ = broken(rung, old, new)
    assert not (o and lse)


def test_a_row_of_minus_infinities_without_its_guard_is_nan():
    o, _, _ = broken("v4_full_partial", "base = m_new if m_new != float32(-math.inf) else float32(0)", "base = m_new")
    assert "NaN" in o.message


@pytest.mark.parametrize("rung", MAKERS)
@pytest.mark.parametrize("barrier", [
    "cuda.syncthreads()  # the whole tile is written before any thread reads it",
    "cuda.syncthreads()  # every thread is done with the tile before the next one overwrites it",
], ids=["tile", "reuse"])
def test_a_missing_barrier_between_warps_is_a_race(rung, barrier):
    """16 rows are one warp, which runs in step: the race is between two, so the blocks here have 64 rows."""
    case, names = Case(1, 1, 1, 64, 64, 8, 64, 16, density=1.0), {**NAMES, "R": 64, "ROWS": 64, "THREADS": 64}
    _, _, findings = broken(rung, barrier, "pass", case, names)
    assert {"race"} <= {finding.kind for finding in findings}


def test_a_barrier_that_not_all_threads_reach_is_found():
    with pytest.raises(KernelError) as caught:
        broken("v2_skip_test", "if mask[mask_b, mask_h, i, j]:", "if mask[mask_b, mask_h, i, j] and mine_here:")
    assert caught.value.kind == "barrier_divergence"


def test_a_ragged_last_block_without_its_end_reads_past_the_keys():
    with pytest.raises(KernelError) as caught:
        broken("v4_full_partial", "end = min(S, j * C + C)", "end = j * C + C")
    assert caught.value.kind == "out_of_bounds"
