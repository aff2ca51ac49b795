"""Wrong kernels are caught: each is the real v2_tiled with one line changed, and each message is for a beginner."""

import inspect
import math
import textwrap

import numpy as np
import pytest

from minikernels import simt
from minikernels.core.errors import KernelError
from minikernels.core.oracle import unwritten
from minikernels.flash import numba_tiled, reference
from tests.flash_cases import made

BLOCK_T, BLOCK_S = 32, 16
LOAD_BARRIER = "cuda.syncthreads()  # the whole tile is written before any thread reads it"
REUSE_BARRIER = "cuda.syncthreads()  # every thread is done with the tile before the next one overwrites it"


def source(D, causal):
    """Return the source of v2_tiled as a file of its own: its constants, then the function."""
    function = numba_tiled.v2_tiled(D, BLOCK_T, BLOCK_S, causal).py_func
    text = textwrap.dedent(inspect.getsource(function)).partition("\n")[2]  # without the decorator
    return f"D = {D}\nBLOCK_T = {BLOCK_T}\nBLOCK_S = {BLOCK_S}\nCAUSAL = {causal}\n\n\n{text}"


def broken(old="", new="", case=(1, 2, 1, 50, 43, 8, True)):
    """Run v2_tiled with `old` replaced by `new`; return the verdicts on o and lse, and the findings."""
    (B, H, _, T, _, D, causal), (q, k, v, _) = case, made(case)
    text = source(D, causal)
    assert not old or text.count(old) == 1, f"v2_tiled has no single {old!r} any more"
    o, lse = unwritten(q.shape, q.dtype), unwritten((B, H, T), np.float32)
    scale = np.float32(D**-0.5)
    grid = (math.ceil(T / BLOCK_T), H, B)
    run = simt.run_source(text.replace(old, new), "v2_tiled", grid, BLOCK_T, q, k, v, scale, o, lse, strict=False)
    return reference.judge(o, lse, q, k, v, causal, D**-0.5), run.findings


def wrong_cell(old, new, **options):
    """Return what the oracle says about o under a change that the machine has no finding on."""
    verdicts, findings = broken(old, new, **options)
    assert not findings
    assert not verdicts["o"].passed
    return verdicts["o"]


def test_the_kernel_itself_is_right_and_clean():
    verdicts, findings = broken()
    assert verdicts["o"].passed
    assert verdicts["lse"].passed
    assert not findings


def test_missing_rescale_is_named_by_its_worst_cell():
    verdict = wrong_cell("o_reg[d] *= alpha", "o_reg[d] *= float32(1)")
    assert verdict.message.startswith("o[b=0, h=")
    assert "but should be" in verdict.message
    assert "cells are wrong, the first is o[b=0, h=0, t=" in verdict.message
    assert verdict.error > 1000 * verdict.budget


def test_missing_rescale_of_the_sum_also_shows_in_lse():
    verdicts, _ = broken("l *= alpha", "l *= float32(1)")
    assert not verdicts["o"].passed
    assert not verdicts["lse"].passed


def test_the_first_tile_alone_would_not_show_it():
    """Why the cases have more than one tile of keys: with one, nothing is ever rescaled."""
    verdicts, _ = broken("o_reg[d] *= alpha", "o_reg[d] *= float32(1)", case=(1, 1, 1, 20, BLOCK_S, 8, False))
    assert verdicts["o"].passed


@pytest.mark.parametrize("barrier", [LOAD_BARRIER, REUSE_BARRIER], ids=["load", "reuse"])
def test_missing_barrier_is_a_race_with_array_threads_and_lines(barrier):
    _, findings = broken(barrier, "pass")
    assert findings
    first = findings[0]
    assert first.kind == "race"
    assert first.array in ("k_smem", "v_smem")
    assert "cuda.syncthreads()" in first.message
    assert "thread" in first.message
    assert len(first.lines) == 2
    assert len(first.threads) == 2


@pytest.mark.parametrize("shift", ["t + 2 + S - T", "t + S - T"], ids=["one-key-too-many", "one-key-too-few"])
def test_off_by_one_causal_edge_is_wrong_from_the_first_row(shift):
    verdict = wrong_cell("row_seen = min(S, t + 1 + S - T)", f"row_seen = min(S, {shift})")
    first_row = 50 - 43 - (1 if "2" in shift else 0)  # rows 0-6 see no key; one key too many, and row 6 sees one
    assert f"the first is o[b=0, h=0, t={first_row}, d=0]" in verdict.message


def test_top_left_causal_mask_is_wrong_where_t_is_not_s():
    change = "row_seen = min(S, t + 1 + S - T)", "row_seen = min(S, t + 1)"
    wrong_cell(*change)
    assert broken(*change, case=(1, 1, 1, 43, 43, 8, True))[0]["o"].passed


def test_unguarded_ragged_tile_of_keys_reads_out_of_bounds():
    with pytest.raises(KernelError) as caught:
        broken("keys = min(BLOCK_S, S - first)", "keys = BLOCK_S", case=(1, 1, 1, 20, 43, 8, False))
    assert caught.value.kind == "out_of_bounds"
    assert "indexes k with 43 on axis 2, which has 43 elements" in str(caught.value)


def test_unguarded_ragged_tile_of_queries_writes_out_of_bounds():
    old = "if t < T:\n        inverse"
    assert old in source(8, True)
    with pytest.raises(KernelError) as caught:
        broken(old, "if True:\n        inverse")
    assert caught.value.kind == "out_of_bounds"
    assert "indexes o with 50 on axis 2, which has 50 elements" in str(caught.value)


def test_barrier_that_some_threads_miss_stops_the_launch():
    reuse = f"            m = m_new\n        {REUSE_BARRIER}"
    assert reuse in source(8, True)
    with pytest.raises(KernelError) as caught:
        broken(reuse, reuse.replace("        cuda", "            cuda"))
    assert caught.value.kind == "barrier_divergence"
    assert "did not come this way" in str(caught.value)


def test_a_row_that_is_never_written_is_found():
    verdict = wrong_cell("if t < T:\n        inverse", "if t < T - 1:\n        inverse")
    assert verdict.message.startswith("o[b=0, h=0, t=49, d=0] is NaN but should be ")
    assert "no thread wrote it" in verdict.message


def test_the_wrong_head_of_k_is_found():
    wrong_cell("g = h // (q.shape[1] // k.shape[1])", "g = h % k.shape[1]", case=(1, 4, 2, 20, 20, 8, True))


def test_a_missing_guard_against_rows_without_keys_is_found():
    verdicts, _ = broken("if l != 0:", "if True:")
    assert not verdicts["lse"].passed or not verdicts["o"].passed
    assert "t=0" in verdicts["o"].message


def test_a_forgotten_start_value_is_an_uninitialised_read():
    _, findings = broken("o_reg[d] = float32(0)", "pass")
    assert findings[0].kind == "uninitialised"
    assert "o_reg" in findings[0].message
