"""The closed forms of block_sparse: equal to what the SIMT machine counts, and to the formulas of the README."""

import numpy as np
import pytest

from minikernels import block_sparse, simt
from minikernels.block_sparse import api, traffic
from minikernels.block_sparse.lists import visible
from minikernels.core.errors import ShapeError
from minikernels.core.traffic import Traffic
from tests.block_sparse_cases import CASES, Case, label, made

FIELDS = ["load_requests", "load_sectors", "load_bytes", "store_requests", "store_sectors", "store_bytes", "barriers"]
NUMBA = api.ATTENTION.of_kind("numba")
over = pytest.mark.parametrize


def run(rung, case, dtype="float32"):
    """Return the traffic that a rung's launch counted, without findings, and the closed form."""
    q, k, v, mask = made(case, dtype)
    with simt.collect() as launches:
        block_sparse.attention(q, k, v, mask, block=case.block, causal=case.causal, rung=rung)
    assert not [finding for launch in launches for finding in launch.findings]
    form = getattr(traffic, rung)(**case.sizes, itemsize=q.itemsize, mask=mask, block=case.block, causal=case.causal)
    return sum((launch.traffic for launch in launches), Traffic()), form


@over("case, dtype", [(c, "float32") for c in CASES] + [(c, "float16") for c in CASES[1::3]],
      ids=lambda x: label(x) if isinstance(x, Case) else x)
@over("rung", NUMBA)
def test_predicted_equals_counted(rung, case, dtype):
    counted, predicted = run(rung, case, dtype)
    assert {f: getattr(predicted, f) for f in FIELDS} == {f: getattr(counted, f) for f in FIELDS}


@over("density", [0.25, 0.5, 1.0])
def test_keys_and_values_are_read_in_proportion_to_the_density(density):
    case = Case(1, 2, 2, 64, 64, 16, 16, 16)
    q, k, v, _ = made(case)
    mask = block_sparse.patterns.random(64, 64, block=(16, 16), density=density, heads=2)
    dense = 2 * 4 * 64 * 16 * 4  # heads, rows of blocks, keys, columns, bytes
    for rung in NUMBA:
        with simt.collect() as launches:
            block_sparse.attention(q, k, v, mask, block=(16, 16), rung=rung)
        read = launches[0].by_array["k"].load_bytes
        assert read == (dense if rung == "v1_masked_dense" else density * dense)


def test_only_partial_blocks_have_branches_on_cells():
    case = Case(1, 1, 1, 64, 64, 8, 16, 16, density=1.0, causal=True)  # 4 blocks on the diagonal, 6 below
    steps = {rung: run(rung, case)[0].branches for rung in ("v3_block_lists", "v4_full_partial")}
    a_block = 16  # one warp asks about each of 16 keys
    assert steps["v3_block_lists"] - steps["v4_full_partial"] == 6 * a_block - 10  # and once about each block's kind


def test_the_readme_formulas_are_the_closed_forms():
    B, H, G, T, S, D, item, (R, C) = 2, 4, 2, 64, 96, 32, 2, (16, 16)
    mask = np.random.default_rng(0).random((B, H, T // R, S // C)) < 0.4
    kept, rows, threads, square = int(mask.sum()), B * H * T // R, 32, B * H * T * S * 4
    once, every = B * H * T * D * item, B * H * (T // R) * (S // C)
    takers = [rung for rung in api.ATTENTION if rung != "v7_wgmma"]
    forms = {rung: getattr(traffic, rung)(B, H, G, T, S, D, item, mask, (R, C)) for rung in takers}
    assert forms["reference"].load_bytes == once + 2 * B * G * S * D * item + mask.size + 2 * square
    assert forms["tiled"].load_bytes == once + 2 * kept * C * D * item
    assert forms["v1_masked_dense"].load_bytes == once + 2 * every * C * D * item + every * threads
    assert forms["v2_skip_test"].load_bytes == once + 2 * kept * C * D * item + every * threads
    assert forms["v3_block_lists"].load_bytes == once + 2 * kept * C * D * item + (kept + 2 * rows) * 4 * threads
    assert forms["v4_full_partial"].load_bytes == once + 2 * kept * C * D * item + (kept + 3 * rows) * 4 * threads
    assert {form.store_bytes for rung, form in forms.items() if rung != "reference"} == {once + B * H * T * 4}


@over("block", [(64, 64), (128, 128), (256, 64), (64, 128)], ids=str)
def test_wgmma_reads_kept_blocks_once_a_query_tile_and_no_queries_that_see_nothing(block):
    B, H, G, T, S, D, item, (R, C) = 2, 4, 2, 512, 768, 64, 2, block
    mask = np.random.default_rng(0).random((B, H, T // R, S // C)) < 0.2
    mask[0, 1] = False
    tiles, parts = B * H * T // min(R, 128), R // min(R, 128)
    kept, busy = int(mask.sum()) * parts, int(mask.any(axis=3).sum()) * R
    steps = kept * C // (128 if min(block) == 128 else 64)
    form = traffic.v7_wgmma(B, H, G, T, S, D, item, mask, block)
    looked_up = 4 * (4 * tiles + steps)  # by one thread
    assert form.load_bytes == busy * D * item + 2 * kept * C * D * item + looked_up
    assert form.store_bytes == B * H * T * (D * item + 4)
    whole = traffic.v7_wgmma(B, H, G, T, S, D, item, mask, block, causal=True)
    assert whole.load_bytes < form.load_bytes
    assert (form.barriers, form.atomic_requests) == (0, tiles)


def test_warps_of_wgmma_look_up_the_columns_of_partial_blocks():
    mask = np.ones((1, 1, 4, 4), bool)
    sizes = 1, 1, 1, 512, 512, 64, 2, mask, (128, 128)
    here, there = traffic.v7_wgmma(*sizes, causal=True), traffic.v7_wgmma(*sizes)
    moved = 2 * 6 * 128 * 64 * 2 + 4 * 6  # K, V and columns of the 6 blocks that are in the future
    assert there.load_bytes - here.load_bytes == moved - 32 * 4 * 8 * 4  # 8 warps, 4 blocks on the diagonal


def test_wgmma_refuses_other_blocks_in_letters():
    with pytest.raises(ShapeError, match=r"block is \(64, 96\) = \(R, C\); C=96 must be a multiple of 64 for rung v7"):
        traffic.v7_wgmma(1, 1, 1, 64, 96, 64, block=(64, 96))


def test_work_counts_the_cells_that_are_seen():
    mask = np.ones((1, 1, 4, 4), bool)
    assert traffic.work(2, 3, 64, 64, 8, mask, (16, 16)) == 4 * 2 * 3 * 64 * 64 * 8
    assert traffic.work(2, 3, 64, 64, 8, mask, (16, 16), causal=True) == 4 * 2 * 3 * (64 * 65 // 2) * 8
    mask[0, 0, 1] = False
    assert traffic.work(1, 1, 64, 64, 8, mask, (16, 16)) == 4 * 48 * 64 * 8
    for case in CASES:
        mask = made(case)[3]
        seen = np.broadcast_to(visible(mask, case.T, case.S, case.block, case.causal), (case.B, case.H, case.T, case.S))
        found = traffic.work(case.B, case.H, case.T, case.S, case.D, mask, case.block, case.causal)
        assert found == 4 * case.D * seen.sum(), label(case)
    assert traffic.work(1, 1, 0, 5, 8, np.ones((1, 1, 0, 1), bool), (16, 16)) == 0
    assert traffic.work(1, 1, 5, 0, 8, np.ones((1, 1, 1, 0), bool), (16, 16)) == 0


def test_no_mask_is_every_block():
    sizes = dict(zip("BHGTSD", (1, 2, 1, 70, 90, 8)))
    mask = np.ones((1, 1, 5, 6), bool)
    for rung in NUMBA:
        form = getattr(traffic, rung)
        assert form(**sizes, block=(16, 16)) == form(**sizes, mask=mask, block=(16, 16))
