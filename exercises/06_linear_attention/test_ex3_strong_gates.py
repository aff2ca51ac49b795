"""Grades ex3_strong_gates on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.values import check_outputs


def scores(q, k, g):
    """Return the scores pair by pair, in q's precision; every sum starts at s + 1, so none loses digits."""
    C = len(q)
    score = np.zeros((C, C), q.dtype)
    for t in range(C):
        for s in range(t + 1):
            score[t, s] = np.sum(q[t] * k[s] * np.exp(np.sum(g[s + 1 : t + 1], axis=0)))
    return score


def grade(submission, cases):
    outputs = submission.call("gated_scores", *cases)
    for (q, k, g), found in zip(cases, outputs, strict=True):
        exact = scores(*(x.astype(np.float64) for x in (q, k, g)))
        check_outputs(found, [exact], [scores(q, k, g)], names=["score"], letters=["TS"],
                      said=f"gated_scores of C={len(q)} tokens, D={q.shape[1]}, gates from {g.min():g} to {g.max():g}",
                      magnitude=float(scores(np.abs(q), np.abs(k), g).max()))


def case(rng, C, D, gate):
    q, k = rng.standard_normal((2, C, D)).astype(np.float32)
    return q, k, gate(rng, (C, D)).astype(np.float32)


@pytest.mark.points(4)
def test_value(submission, rng):
    """Mild gates, and none at all"""
    grade(submission, [case(rng, 8, 4, lambda r, shape: -0.1 * r.random(shape)),
                       case(rng, 16, 8, lambda r, shape: -r.random(shape)),
                       case(rng, 5, 3, lambda r, shape: np.zeros(shape)),
                       case(rng, 1, 2, lambda r, shape: -r.random(shape))])


@pytest.mark.points(3)
def test_strong_gates(submission, rng):
    """Gates of -20 and of -200 with every token"""
    grade(submission, [case(rng, 16, 8, lambda r, shape: np.full(shape, -20.0)),
                       case(rng, 12, 4, lambda r, shape: np.full(shape, -200.0))])


@pytest.mark.points(3)
def test_mixed_gates(submission, rng):
    """Strong gates, and after them weak ones, whose digits must not be lost"""
    def mixed(r, shape):
        gate = -0.1 * r.random(shape)
        gate[:3] = -300.0  # a sum of all gates would leave the later ones few digits
        return gate
    grade(submission, [case(rng, 16, 4, mixed),
                       case(rng, 16, 8, lambda r, shape: np.where(r.random(shape) < 0.5, -20.0, 0.0))])
