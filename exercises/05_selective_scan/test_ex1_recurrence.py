"""Grades ex1_recurrence on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.values import check_outputs
from minikernels.selective_scan import reference


def moved(u, delta, a, b, c, h):
    """Return how far y and h move where sums are off by a unit of their terms, and steps by one of 1 + exp(delta)."""
    step = np.logaddexp(0, delta.astype(np.float64))
    u, b, c, h = (np.abs(x).astype(np.float64) for x in (u, b, c, h))
    y, h_off = np.zeros(u.shape), np.zeros(h.shape)
    for t in range(len(u)):
        decay, drive = np.exp(step[t][:, None] * a), u[t][:, None] * b[t]
        step_off = (1 + step[t])[:, None]  # log(1 + exp(delta)) is rounded where 1 is added
        h_off = decay * (h_off + step_off * -a * h) + step_off * drive
        h = decay * h + step[t][:, None] * drive
        y[t] = (h + h_off) @ c[t]
    return float(y.max(initial=0)), float((h + h_off).max())


def grade(submission, cases):
    outputs = submission.call("selective_scan", *cases, frozen=True)
    for (u, delta, a, b, c, h), found in zip(cases, outputs, strict=True):
        given = u[None], delta[None], a, b[None], c[None], None, None, None, True, h[None]
        exact, plain = ([x[0] for x in f(*given)] for f in (reference.scan, reference.plain))
        terms, said = moved(u, delta, a, b, c, h), f"selective_scan of u {u.shape} and a {a.shape}"
        # States are summed from less than outputs: they are held to their own size.
        check_outputs(found, exact, plain, names=["y", "h"], letters=["TE", "EN"], said=said,
                      magnitude=(max(terms), terms[1]))


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
