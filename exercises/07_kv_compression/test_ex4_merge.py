"""Grades ex4_merge on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.values import check_outputs


def averages(x, alpha, omega):
    """Return the weighted mean of each run of merged tokens, in x's precision."""
    runs = np.cumsum(np.append(True, ~alpha[1:])) - 1
    return np.stack([(omega[runs == n, None] * x[runs == n]).sum(axis=0) / omega[runs == n].sum()
                     for n in range(runs[-1] + 1)]).astype(x.dtype)


def step_by_step(x, alpha, omega):
    """Return the same by the recurrence, in float32."""
    slots, z = [], np.float32(0)
    for token, merged, weight in zip(x, alpha, omega):
        if slots and merged:
            slots[-1] = (z * slots[-1] + weight * token) / (z + weight)
            z = z + weight
        else:
            slots, z = [*slots, token], weight
    return np.array(slots, np.float32)


def grade(submission, cases):
    outputs = submission.call("merge", *cases)
    for (x, alpha, omega), found in zip(cases, outputs, strict=True):
        exact = averages(x.astype(np.float64), alpha, omega.astype(np.float64))
        check_outputs(found, [exact], [step_by_step(x, alpha, omega)], names=["slots"], letters=["SD"],
                      said=f"merge of x {x.shape} with alpha={''.join(map(str, alpha.astype(int)))}",
                      magnitude=float(averages(np.abs(x), alpha, omega).max()))


def case(rng, S, D, share, first=False, equal=False):
    alpha, omega = rng.random(S) < share, rng.uniform(0.1, 3, S).astype(np.float32)
    alpha[0] = first
    return rng.standard_normal((S, D)).astype(np.float32), alpha, np.ones_like(omega) if equal else omega


@pytest.mark.points(3)
def test_equal_weights(submission, rng):
    """Tokens of equal weight: a slot is the mean of what went into it"""
    grade(submission, [case(rng, 12, 4, 0.5, equal=True), case(rng, 7, 3, 0.9, equal=True)])


@pytest.mark.points(4)
def test_weights(submission, rng):
    """Tokens of unequal weight, in runs of any length"""
    grade(submission, [case(rng, 20, 5, 0.5), case(rng, 15, 2, 0.95), case(rng, 6, 4, 0.0)])


@pytest.mark.points(3)
def test_first_token(submission, rng):
    """The first token opens a slot, though it says merge"""
    grade(submission, [case(rng, 5, 3, 0.5, first=True), case(rng, 1, 2, 0.0, first=True),
                       case(rng, 9, 2, 1.0, first=True)])
