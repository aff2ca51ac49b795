"""Grades ex1_recurrence on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.values import check_outputs
from minikernels.selective_scan import reference


def grade(submission, cases):
    outputs = submission.call("selective_scan", *cases)
    for (u, delta, a, b, c, h), found in zip(cases, outputs, strict=True):
        given = u[None], delta[None], a, b[None], c[None], None, None, None, True, h[None]
        exact, plain = ([x[0] for x in f(*given)] for f in (reference.scan, reference.plain))
        check_outputs(found, exact, plain, names=["y", "h"], letters=["TE", "EN"],
                      said=f"selective_scan of u {u.shape} and a {a.shape}")


def case(rng, T, E, N, delta=None, start=0.0):
    """Return u, delta, a, b, c and h; the states start at 0 unless `start` says how large they are."""
    u, b, c = (rng.standard_normal(shape).astype(np.float32) for shape in ((T, E), (T, N), (T, N)))
    delta = rng.standard_normal((T, E)) - 2 if delta is None else np.broadcast_to(np.asarray(delta)[:, None], (T, E))
    h = start * rng.standard_normal((E, N))
    a = -np.exp(rng.uniform(-1, 2, (E, N)))
    return u, delta.astype(np.float32), a.astype(np.float32), b, c, h.astype(np.float32)


@pytest.mark.points(4)
def test_value(submission, rng):
    """Every token takes every state one step further, from 0"""
    grade(submission, [case(rng, 20, 3, 4), case(rng, 9, 5, 1), case(rng, 1, 2, 8)])


@pytest.mark.points(3)
def test_carried(submission, rng):
    """States that are handed in count, and those handed out are the last"""
    grade(submission, [case(rng, 12, 4, 3, start=2.0), case(rng, 0, 2, 3, start=1.0)])


@pytest.mark.points(3)
def test_large_steps(submission, rng):
    """Raw step sizes of any size: nothing overflows, and a long step forgets"""
    grade(submission, [case(rng, 6, 3, 2, delta=[-900, -30, 19.9, 20.1, 95, 3000], start=1.0)])
