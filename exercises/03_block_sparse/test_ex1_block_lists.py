"""Grades ex1_block_lists on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.failure import Failure


def expected(mask):
    """Return starts and columns, one row after another."""
    lists = [[j for j, kept in enumerate(row) if kept] for row in mask]
    starts = np.cumsum([0, *map(len, lists)])
    return {"starts": starts, "columns": np.array([j for row in lists for j in row], np.int64)}


def grade(submission, masks):
    """Call the function for every mask and compare every number."""
    outputs = submission.call("block_lists", *[(mask,) for mask in masks])
    for mask, found in zip(masks, outputs, strict=True):
        rows = "; ".join("".join("01"[int(kept)] for kept in row) for row in mask[:8])
        said = f"(block_lists of a mask {mask.shape}{': ' if rows else ''}{rows})"
        if len(found) != 2:
            raise Failure(f"it returned {len(found)} values; it should return (starts, columns)\n{said}")
        for (name, right), x in zip(expected(mask).items(), found, strict=True):
            if x.shape != right.shape or x.dtype.kind not in "iu":
                raise Failure(f"{name} has shape {x.shape}, {x.dtype}; it should be {right.shape} integers\n{said}")
            wrong = np.flatnonzero(x != right)
            if len(wrong):
                i = wrong[0]
                raise Failure(f"{name}[{i}] is {x[i]} but should be {right[i]}\n{said}")


@pytest.mark.points(5)
def test_value(submission, rng):
    """Every row's columns, row after row"""
    grade(submission, [np.tri(4, dtype=bool), np.eye(5, dtype=bool)[::-1].copy(), rng.random((6, 9)) < 0.5])


@pytest.mark.points(3)
def test_empty_rows(submission, rng):
    """Rows that keep nothing, at the start, inside and at the end"""
    mask = rng.random((7, 5)) < 0.6
    mask[[0, 3, 4, 6]] = False
    grade(submission, [mask, np.zeros((3, 4), bool)])


@pytest.mark.points(2)
def test_odd_shapes(submission, rng):
    """One row, one column, no row, no column; and a mask that keeps everything"""
    grade(submission, [rng.random((1, 9)) < 0.5, rng.random((9, 1)) < 0.5, np.zeros((0, 3), bool),
                       np.zeros((3, 0), bool), np.ones((3, 5), bool)])
