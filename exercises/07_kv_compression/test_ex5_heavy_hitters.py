"""Grades ex5_heavy_hitters on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.failure import Failure


def expected(mass, keep, recent):
    """Return the kept tokens of each head, one after another."""
    rows = []
    for row in mass:
        newest = list(range(len(row)))[max(0, len(row) - recent) :]
        others = [s for s in range(len(row)) if s not in newest]
        rows.append(sorted(sorted(others, key=lambda s: -row[s])[:keep]) + newest)
    return np.array(rows, np.int64).reshape(len(mass), min(mass.shape[1], keep + recent))


def grade(submission, cases):
    """Call the function for every (mass, keep, recent) and compare every number."""
    outputs = submission.call("kept_tokens", *cases)
    for (mass, keep, recent), found in zip(cases, outputs, strict=True):
        said = f"(kept_tokens of mass {mass.shape} with keep={keep}, recent={recent})"
        if len(found) != 1:
            raise Failure(f"it returned {len(found)} values; it should return one array, kept\n{said}")
        right, (kept,) = expected(mass, keep, recent), found
        if kept.shape != right.shape or kept.dtype.kind not in "iu":
            raise Failure(f"kept has shape {kept.shape}, {kept.dtype}; it should be {right.shape} integers\n{said}")
        wrong = np.argwhere(kept != right)
        if len(wrong):
            g, w = wrong[0]
            raise Failure(f"kept[{g}, {w}] is {kept[g, w]} but should be {right[g, w]}\n{said}")


def masses(rng, G, S):
    """Return masses of which no two are equal."""
    return (rng.permuted(np.tile(np.arange(S), (G, 1)), axis=1) + 0.5).astype(np.float32)


@pytest.mark.points(5)
def test_value(submission, rng):
    """The newest, and the heaviest of the others, each head its own, in their order"""
    grade(submission, [(masses(rng, 3, 12), 3, 2), (masses(rng, 1, 30), 10, 5), (masses(rng, 4, 9), 1, 4)])


@pytest.mark.points(3)
def test_few_tokens(submission, rng):
    """Fewer tokens than places: all stay"""
    grade(submission, [(masses(rng, 2, 5), 3, 4), (masses(rng, 2, 3), 8, 0), (masses(rng, 2, 3), 1, 7),
                       (masses(rng, 2, 3), 0, 7)])


@pytest.mark.points(2)
def test_one_kind_alone(submission, rng):
    """No newest tokens, or no heavy ones"""
    grade(submission, [(masses(rng, 2, 10), 4, 0), (masses(rng, 2, 10), 0, 4)])
