"""Grades ex2_merge on values, in a worker process."""

import numpy as np
import pytest

from minikernels.core import numerics
from minikernels.grading.values import check_outputs


def state(scores, v):
    """Return m, l and o of rows of scores (T, S) over values (S, D), in the scores' precision."""
    m = np.max(scores, axis=1, initial=-np.inf)
    p = np.exp(scores - numerics.shift(m)[:, None])
    return m, p.sum(axis=1, dtype=scores.dtype), p @ v


def halves(rng, T, S, D, gap=0.0):
    """Return the float32 states of two sets of keys whose scores lie about `gap` apart."""
    v = rng.standard_normal((2 * S, D)).astype(np.float32)
    scores = (2 * rng.standard_normal((T, 2 * S))).astype(np.float32)
    scores[:, S:] += (gap * rng.standard_normal((T, 1))).astype(np.float32)
    return state(scores[:, :S], v[:S]), state(scores[:, S:], v[S:])


def grade(submission, pairs):
    outputs = submission.call("merge", *[(*a, *b) for a, b in pairs])
    for (a, b), found in zip(pairs, outputs, strict=True):
        wide = [[np.asarray(x, np.float64) for x in side] for side in (a, b)]
        T, D = a[2].shape
        _, l, terms = numerics.merge(*((m, l, np.abs(o)) for m, l, o in wide))  # l and o are summed from these
        check_outputs(found, numerics.merge(*wide), numerics.merge(a, b), names=("m", "l", "o"),
                      letters=("T", "T", "TD"), said=f"merge of two states of T={T} rows, D={D}",
                      magnitude=float(max(l.max(), terms.max())))


@pytest.mark.points(4)
def test_value(submission, rng):
    """Two halves of the keys become one state"""
    grade(submission, [halves(rng, 1, 4, 2), halves(rng, 5, 8, 3), halves(rng, 33, 6, 4, gap=3.0)])


@pytest.mark.points(3)
def test_far_apart(submission, rng):
    """Rows whose maxima lie hundreds apart, either side larger, neither overflow nor vanish"""
    a, b = halves(rng, 16, 5, 4, gap=400.0)
    rows = (300 * rng.standard_normal(16)).astype(np.float32)  # every row at a level of its own
    grade(submission, [(a, b), (b, a), ((a[0] + rows, *a[1:]), (b[0] + rows, *b[1:]))])


@pytest.mark.points(3)
def test_unseen_rows(submission, rng):
    """A row that one side has not seen takes the other's state; one that neither has seen stays empty"""
    a, b = halves(rng, 6, 5, 3)
    for side, rows in ((a, [0, 1, 2]), (b, [1, 2, 3])):
        side[0][rows] = -np.inf
        side[1][rows] = side[2][rows] = 0
    grade(submission, [(a, b)])
