"""Grades ex5_carry on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.values import check_outputs


def carried(ends, steps, a, h):
    """Return the states before each chunk, and after the last, in the precision of what is given."""
    before = []
    for end, step in zip(ends, steps, strict=True):
        before.append(h)
        h = np.exp(a * step[:, None]) * h + end
    return np.stack(before), h


def grade(submission, cases):
    outputs = submission.call("carry", *cases, frozen=True)
    for given, found in zip(cases, outputs, strict=True):
        exact, plain = carried(*(x.astype(np.float64) for x in given)), carried(*given)
        ends, steps, a, h = given
        terms = carried(np.abs(ends), steps, a, np.abs(h))  # the states are summed from these
        check_outputs(found, exact, plain, names=["before", "h"], letters=["KEN", "EN"],
                      said=f"carry of ends {given[0].shape}", magnitude=max(float(x.max()) for x in terms))


def case(rng, K, E, N, longest=0.5, start=1.0):
    ends, a = rng.standard_normal((K, E, N)), -np.exp(rng.uniform(-1, 1, (E, N)))
    steps, h = rng.uniform(0.05, longest, (K, E)), start * rng.standard_normal((E, N))
    return tuple(x.astype(np.float32) for x in (ends, steps, a, h))


@pytest.mark.points(5)
def test_value(submission, rng):
    """Each chunk starts where the one before it really ended"""
    grade(submission, [case(rng, 5, 3, 4), case(rng, 2, 1, 6), case(rng, 9, 2, 2)])


@pytest.mark.points(2)
def test_one_chunk(submission, rng):
    """One chunk starts from the state handed in; without states handed in, from 0"""
    grade(submission, [case(rng, 1, 4, 3), case(rng, 3, 2, 2, start=0.0)])


@pytest.mark.points(3)
def test_long_chunks(submission, rng):
    """Long chunks forget: a decay of 0 is not divided by"""
    grade(submission, [case(rng, 4, 3, 4, longest=3000.0)])
