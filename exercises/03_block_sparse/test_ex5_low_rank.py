"""Grades ex5_low_rank on values, in a worker process."""

import numpy as np
import pytest

from minikernels.block_sparse import dba
from minikernels.core.numerics import softmax
from minikernels.grading.values import check_outputs


def moved(x, rows, row_query, key, value, inner_query, inner_key, inner_value, expand):
    """Return how far o moves, to first order, where every sum is off by as much as its terms are large."""
    scale = key.shape[1] ** -0.5
    c, c_off = mean(rows @ row_query @ (x @ key).T * scale, size(rows, row_query, key.T, x.T) * scale,
                    x @ value, size(x, value))
    wide, inner = np.abs(c) + c_off, size(inner_query, inner_key.T) * scale
    a, a_off = mean(c @ inner_query @ (c @ inner_key).T * scale, size(wide, inner, c.T) + size(c, inner, wide.T),
                    c @ inner_value, size(wide, inner_value))
    return mean(x @ expand, size(x, expand), a, a_off)[1]


def mean(s, s_off, v, v_off):
    """Return softmax(s) v, and how far it moves where s and v are off; what moves all v alike moves it alike."""
    p, _ = softmax(s)
    o = p @ v
    return o, p @ v_off + np.einsum("ij,ijw->iw", p * s_off, np.abs(v - o[:, None]))


def size(*factors):
    """Return the sizes of the terms that a product of matrices is summed from."""
    return np.linalg.multi_dot([np.abs(f) for f in factors])


def grade(submission, cases):
    outputs = submission.call("low_rank", *cases)
    for (x, *weights), found in zip(cases, outputs, strict=True):
        exact, plain = (dba.attention(x[None].astype(dtype), dba.Weights(*(w.astype(dtype) for w in weights)))[0]
                        for dtype in ("float64", "float32"))
        check_outputs(found, [exact], [plain], names=["o"], letters=["TW"],
                      said=f"low_rank of x {x.shape} with {len(weights[0])} rows",
                      magnitude=float(moved(*(w.astype(np.float64) for w in (x, *weights))).max()))


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
