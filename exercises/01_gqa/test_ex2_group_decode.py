"""Grades ex2_group_decode on values, in a worker process."""

import numpy as np
import pytest

from minikernels.gqa import reference
from minikernels.grading.values import check_outputs


def grade(submission, cases):
    outputs = submission.call("group_decode", *cases)
    for (q, k, v, length), found in zip(cases, outputs, strict=True):
        part = q[None], k[None], v[None], np.array([length]), q.shape[1] ** -0.5
        exact, plain = (f(*part)[0] for f in (reference.decode, reference.plain))
        keys, values = np.abs(k[:, :length]), np.abs(v[:, :length])
        terms = np.abs(q).max() * keys.sum(axis=2).max(initial=0) * part[-1]  # a score is summed from these
        check_outputs(found, [exact], [plain], names=["o"], letters=["HD"],
                      said=f"group_decode of q {q.shape} and a cache {k.shape} that holds length={length}",
                      magnitude=float(values.max(initial=0)), exponent=float(terms))


def case(rng, H, G, S, D, length, spread=1.0):
    """Return q, k, v and length; what stands past the length is NaN."""
    q, k, v = (rng.standard_normal(shape).astype(np.float32) for shape in ((H, D), (G, S, D), (G, S, D)))
    k[:, length:] = v[:, length:] = np.nan
    return q * np.float32(spread), k, v, length


@pytest.mark.points(4)
def test_value(submission, rng):
    """Every query head attends to the keys of its own group"""
    grade(submission, [case(rng, 8, 2, 20, 16, 20), case(rng, 6, 3, 9, 5, 9), case(rng, 4, 1, 33, 8, 33),
                       case(rng, 5, 5, 7, 4, 7)])


@pytest.mark.points(3)
def test_ragged(submission, rng):
    """What stands past the length is not looked at; no token gives zeros"""
    grade(submission, [case(rng, 8, 2, 20, 16, 13), case(rng, 4, 2, 9, 4, 1), case(rng, 4, 2, 9, 4, 0)])


@pytest.mark.points(3)
def test_large_scores(submission, rng):
    """Scores in the hundreds do not overflow"""
    grade(submission, [case(rng, 4, 2, 30, 8, 30, spread=150.0)])
