"""Grades ex6_stream on values, in a worker process."""

import numpy as np
import pytest

from minikernels.core.numerics import softmax
from minikernels.grading.values import check_outputs


def attended(score, v):
    """Return attention over every prefix, each computed for itself."""
    T = len(score)
    p, _ = softmax(np.where(np.tri(T, dtype=bool), score, -np.inf))
    return p @ v


def grade(submission, cases):
    outputs = submission.call("stream", *cases)
    for (score, v), found in zip(cases, outputs, strict=True):
        exact, plain = attended(score.astype(np.float64), v.astype(np.float64)), attended(score, v)
        check_outputs(found, [exact], [plain], names=["out"], letters=["TD"],
                      said=f"stream of {len(score)} tokens with v {v.shape}", magnitude=float(np.abs(v).max()))


def case(rng, T, D, spread=1.0, masked=()):
    score = (spread * rng.standard_normal(T)).astype(np.float32)
    score[list(masked)] = -np.inf
    return score, rng.standard_normal((T, D)).astype(np.float32)


@pytest.mark.points(4)
def test_value(submission, rng):
    """Every row is attention over the tokens up to it"""
    grade(submission, [case(rng, 12, 4), case(rng, 1, 3), case(rng, 40, 2, spread=3.0)])


@pytest.mark.points(3)
def test_large_scores(submission, rng):
    """Scores in the hundreds do not overflow, in whatever order they come"""
    score, v = case(rng, 20, 3, spread=200.0)
    grade(submission, [(score, v), (np.sort(score), v), (np.sort(score)[::-1].copy(), v)])


@pytest.mark.points(3)
def test_masked(submission, rng):
    """Masked tokens count for nothing; while all are masked, the output is 0"""
    masks = (8, (0, 1, 5)), (3, (0, 1, 2)), (5, (4,))
    grade(submission, [case(rng, T, 3, masked=masked) for T, masked in masks])
