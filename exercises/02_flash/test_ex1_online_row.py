"""Grades ex1_online_row on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.values import check_outputs


def exact(scores, v):
    """Return m, l and o in float64, the scores' maximum known beforehand."""
    scores, v = scores.astype(np.float64), v.astype(np.float64)
    m = np.max(scores, initial=-np.inf)
    p = np.exp(scores - m) if np.isfinite(m) else np.zeros(len(scores))
    return m, p.sum(), p @ v


def plain(scores, v):
    """Return them in float32, summed key by key as a stream has to be."""
    m = np.max(scores, initial=np.float32(-np.inf))
    p = np.exp(scores - m) if np.isfinite(m) else np.zeros(len(scores), np.float32)
    terms = np.concatenate([np.zeros((1, 1 + v.shape[1]), np.float32), np.c_[p, p[:, None] * v]])
    return m, np.cumsum(terms[:, 0])[-1], np.cumsum(terms[:, 1:], axis=0)[-1]


def grade(submission, rows):
    """Call the row's function for every (scores, v) and judge m, l and o."""
    outputs = submission.call("online_row", *rows)
    for (scores, v), found in zip(rows, outputs, strict=True):
        _, l, terms = exact(scores, np.abs(v))  # l and o are summed from these
        check_outputs(found, exact(scores, v), plain(scores, v), names=("m", "l", "o"), letters=("", "", "D"),
                      said=f"online_row on {len(scores)} scores {np.array2string(scores[:4], precision=3)}"
                           f"{'...' if len(scores) > 4 else ''} and values with D = {v.shape[1]}",
                      magnitude=float(max(l, terms.max())))


def row(rng, S, D, spread=2.0):
    return (spread * rng.standard_normal(S)).astype(np.float32), rng.standard_normal((S, D)).astype(np.float32)


@pytest.mark.points(4)
def test_value(submission, rng):
    """The state is right for scores in any order"""
    rising, v = row(rng, 9, 3)
    grade(submission, [row(rng, 1, 4), (np.sort(rising)[::-1].copy(), v), (np.sort(rising), v), row(rng, 65, 8)])


@pytest.mark.points(3)
def test_large_scores(submission, rng):
    """Scores in the hundreds neither overflow nor vanish"""
    up, v = row(rng, 20, 4, spread=200.0)
    grade(submission, [(up + np.float32(300), v), (up - np.float32(900), v), (np.sort(up), v)])


@pytest.mark.points(3)
def test_unseen_keys(submission, rng):
    """A key with the score -inf counts for nothing, even if it comes first or if there is no other"""
    scores, v = row(rng, 12, 5)
    first, between = scores.copy(), scores.copy()
    first[:3] = between[4:7] = -np.inf
    grade(submission, [(between, v), (first, v), (np.full(4, -np.inf, np.float32), v[:4])])
