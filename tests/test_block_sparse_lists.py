"""Masks become lists: right by a slow definition, and refused in letters where they do not fit."""

import re

import numpy as np
import pytest

from minikernels.block_sparse import raw_wgmma
from minikernels.block_sparse.lists import block_lists, reach, visible
from minikernels.core.errors import DtypeError, ShapeError
from tests.block_sparse_cases import CASES, Case, label, made

over = pytest.mark.parametrize


def cells(mask, T, S, block, causal):
    """Return what is seen, (B, H, T, S), one cell at a time."""
    seen = np.zeros((*mask.shape[:2], T, S), bool)
    for b, h, t, s in np.ndindex(seen.shape):
        seen[b, h, t, s] = mask[b, h, t // block[0], s // block[1]] and (not causal or s <= t + S - T)
    return seen


@over("case", CASES, ids=label)
@over("causal", [False, True])
def test_lists_name_every_block_with_a_cell_that_is_seen_and_full_ones_first(case, causal):
    mask = made(case)[3]
    T, S, (R, C) = case.T, case.S, case.block
    seen = cells(mask, T, S, case.block, causal)
    np.testing.assert_array_equal(visible(mask, T, S, case.block, causal), seen)
    starts, full, columns = block_lists(mask, T, S, case.block, causal)
    assert [x.dtype for x in (starts, full, columns)] == [np.int32] * 3
    assert starts[0] == 0
    assert len(columns) == starts[-1]
    for n, (b, h, i) in enumerate(np.ndindex(mask.shape[:3])):
        parts = [seen[b, h, i * R : i * R + R, j * C : j * C + C] for j in range(mask.shape[3])]
        whole = [j for j, part in enumerate(parts) if part.all() and part.shape[1] == C]
        partial = [j for j, part in enumerate(parts) if part.any() and j not in whole]
        assert columns[starts[n] : starts[n + 1]].tolist() == whole + partial
        assert full[n] == len(whole)


def test_a_dense_mask_under_the_diagonal():
    lists = block_lists(np.ones((1, 1, 4, 4), bool), 64, 64, (16, 16), causal=True)
    assert lists.starts.tolist() == [0, 1, 3, 6, 10]
    assert lists.full.tolist() == [0, 1, 2, 3]
    assert lists.columns.tolist() == [0, 0, 1, 0, 1, 2, 0, 1, 2, 3]


def test_a_mask_is_not_changed_and_may_be_a_view():
    mask = np.random.default_rng(0).random((4, 3, 5, 2)) < 0.5
    view, before = mask.swapaxes(0, 3)[:, ::-1], mask.copy()
    for found, wanted in zip(block_lists(view, 9, 8, (2, 2)), block_lists(view.copy(), 9, 8, (2, 2))):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(mask, before)


@over("shape", [(1, 1, 0, 3), (1, 1, 3, 0), (0, 2, 3, 3), (2, 0, 3, 3)], ids=str)
def test_empty_masks_have_empty_lists(shape):
    starts, full, columns = block_lists(np.ones(shape, bool), 4 * shape[2], 4 * shape[3], (4, 4), causal=True)
    assert len(starts) == len(full) + 1 == np.prod(shape[:3]) + 1
    assert not starts.any() and not full.any() and not len(columns)


@over(("mask", "error", "message"), [
    (np.ones((1, 1, 3, 4)), DtypeError, "mask has dtype float64; it must be bool"),
    ([[True]], DtypeError, "mask is of type list; it must be a bool array of shape (B, H, ceil(T/R), ceil(S/C))"),
    (np.ones(4, bool), ShapeError, "mask has shape (4,), 1 axis; it must be (B, H, ceil(T/R), ceil(S/C))"),
    (np.ones((1, 1, 4, 4), bool), ShapeError, "ceil(T/R)=4 must be 3: T=37 in blocks of R=16"),
    (np.ones((1, 1, 3, 3), bool), ShapeError, "ceil(S/C)=3 must be 4: S=53 in blocks of C=16"),
], ids=["float", "list", "axes", "rows", "columns"])
def test_a_mask_that_does_not_fit_is_refused(mask, error, message):
    with pytest.raises(error, match=re.escape(message)):
        block_lists(mask, 37, 53, (16, 16))


def test_a_block_that_is_no_pair_is_refused():
    with pytest.raises(ShapeError, match=r"block is \(16, 0\); it must be \(R, C\)"):
        block_lists(np.ones((1, 1, 3, 4), bool), 37, 53, (16, 0))


def test_reach_without_a_mask_hides_nothing_but_a_ragged_last_column():
    seen, whole = reach(np.ones(1, bool), 10, 10, (4, 4), causal=False)
    assert seen.all() and seen.shape == (3, 3)
    assert whole.tolist() == [[True, True, False]] * 3


@pytest.mark.parametrize("case", [CASES[4], Case(2, 4, 2, 700, 800, 96, 64, 128, per_sequence=False, causal=True),
                                  Case(1, 3, 3, 900, 900, 64, 128, 128, per_head=False, causal=True)], ids=label)
def test_long_rows_are_taken_first_and_every_row_once(case):
    q, k, _, mask = made(case, "float16")
    found, order = raw_wgmma.sorted_lists(q, k, mask, case.block, case.causal)
    counts = np.diff(found.starts).reshape(mask.shape[:3])
    counts = np.broadcast_to(counts, (case.B, case.H, mask.shape[2])).ravel()[order]
    assert sorted(order) == list(range(counts.size))
    assert (np.diff(counts) <= 0).all()


def test_only_heads_whose_keys_fit_the_cache_are_taken_together(monkeypatch):
    monkeypatch.setattr(raw_wgmma, "TOGETHER", 32 << 20)
    q, k = np.empty((1, 3, 128, 128), np.float16), np.empty((1, 3, 1 << 15, 128), np.float16)  # 16 MB of K and V a head
    mask = np.ones((1, 1, 2, 512), bool)
    mask[0, 0, 0, 7:] = False
    assert raw_wgmma.sorted_lists(q, k, mask, (64, 64), False).order.tolist() == [1, 3, 0, 2, 5, 4]
