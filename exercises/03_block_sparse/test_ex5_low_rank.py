"""Grades ex5_low_rank on values, in a worker process."""

import numpy as np
import pytest

from minikernels.block_sparse import dba
from minikernels.grading.values import check_outputs


def grade(submission, cases):
    outputs = submission.call("low_rank", *cases)
    for (x, *weights), found in zip(cases, outputs, strict=True):
        exact, plain = (dba.attention(x[None].astype(dtype), dba.Weights(*(w.astype(dtype) for w in weights)))[0]
                        for dtype in ("float64", "float32"))
        check_outputs(found, [exact], [plain], names=["o"], letters=["TW"],
                      said=f"low_rank of x {x.shape} with {len(weights[0])} rows")


def case(rng, T, M, L, N, W, spread=1.0):
    weights = dba.random_weights(M, L, N, W, seed=int(rng.integers(2**31)))
    return (rng.normal(0, spread, (T, M)).astype(np.float32), *weights)


@pytest.mark.points(6)
def test_value(submission, rng):
    """Gather, attend, hand back"""
    grade(submission, [case(rng, 20, 8, 4, 4, 6), case(rng, 33, 12, 16, 5, 3)])


@pytest.mark.points(2)
def test_few(submission, rng):
    """One row, one token, more rows than tokens"""
    grade(submission, [case(rng, 9, 8, 1, 4, 6), case(rng, 1, 8, 4, 4, 6), case(rng, 3, 4, 7, 2, 2)])


@pytest.mark.points(2)
def test_large_scores(submission, rng):
    """Scores in the hundreds do not overflow"""
    grade(submission, [case(rng, 20, 8, 4, 4, 6, spread=150.0)])
