"""Grades ex6_carry on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.values import check_outputs

NAMES, LETTERS = ("before", "after", "whole_left", "whole_local"), ("NDE", "DE", "D", "DE")


def carried(left, local, state):
    """Return the four answers, in the inputs' precision."""
    before, zero = [], np.zeros_like(state)
    whole_left, after = np.ones_like(left[0]), state
    for a, b in zip(left, local, strict=True):
        before.append(after)
        whole_left, after, zero = whole_left * a, a[:, None] * after + b, a[:, None] * zero + b
    return np.stack(before), after, whole_left, zero


def grade(submission, cases):
    outputs = submission.call("carry", *cases)
    for given, found in zip(cases, outputs, strict=True):
        exact, plain = carried(*(x.astype(np.float64) for x in given)), carried(*given)
        terms = max(float(x.max()) for x in carried(*map(np.abs, given)))  # the states are summed from these
        said = f"carry of n={len(given[0])} segments, D={given[0].shape[1]}"
        # whole_left is a product of numbers below 1: it is held to its own size.
        check_outputs(found, exact, plain, names=NAMES, letters=LETTERS, said=said,
                      magnitude=[None if name == "whole_left" else terms for name in NAMES])


def case(rng, n, D, begun=True):
    left, local = rng.random((n, D)), rng.standard_normal((n, D, D))
    return tuple(x.astype(np.float32) for x in (left, local, begun * rng.standard_normal((D, D))))


@pytest.mark.points(6)
def test_value(submission, rng):
    """The states between segments, from a state that was there before"""
    grade(submission, [case(rng, 2, 3), case(rng, 5, 4), case(rng, 1, 6)])


@pytest.mark.points(2)
def test_from_nothing(submission, rng):
    """From zeros, the last state is what the whole map adds"""
    grade(submission, [case(rng, 4, 5, begun=False)])


@pytest.mark.points(2)
def test_forgets(submission, rng):
    """A segment that leaves nothing of some rows cuts them off from what came before"""
    left, local, state = case(rng, 4, 6)
    left[2, ::2] = 0
    grade(submission, [(left, local, state)])
