"""Grades ex2_chunk on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.values import check_outputs


def walked(q, k, v, decay, state):
    """Return o and the last state token by token, in q's precision."""
    o = np.empty_like(v)
    for t in range(len(q)):
        state = q.dtype.type(decay) * state + k[t][:, None] * v[t]
        o[t] = q[t] @ state
    return o, state


def grade(submission, cases):
    outputs = submission.call("chunk", *cases)
    for (q, k, v, decay, state), found in zip(cases, outputs, strict=True):
        wide = [x.astype(np.float64) for x in (q, k, v)]
        exact = walked(*wide, np.float64(np.float32(decay)), state.astype(np.float64))
        plain = walked(q, k, v, decay, state)
        # What o and the state are summed from; the state from less, so it is held to its own size.
        terms = [float(x.max(initial=0)) for x in walked(*map(np.abs, (q, k, v)), decay, np.abs(state))]
        said = f"chunk of C={len(q)} tokens, D={q.shape[1]}, decay={decay}"
        check_outputs(found, exact, plain, names=("o", "state"), letters=("TD", "DE"), said=said,
                      magnitude=(max(terms), terms[1]))


def case(rng, C, D, decay, begun=True):
    q, k, v = rng.standard_normal((3, C, D)).astype(np.float32)
    state = rng.standard_normal((D, D)) if begun else np.zeros((D, D))
    return q, k, v, decay, state.astype(np.float32)


@pytest.mark.points(4)
def test_first_chunk(submission, rng):
    """A chunk with nothing before it: pairs alone"""
    grade(submission, [case(rng, 8, 4, 0.5, False), case(rng, 16, 8, 0.9, False), case(rng, 5, 6, 1.0, False)])


@pytest.mark.points(4)
def test_value(submission, rng):
    """A chunk after others, for several decays and lengths"""
    grade(submission, [case(rng, 8, 4, 0.5), case(rng, 16, 8, 0.97), case(rng, 3, 5, 1.0)])


@pytest.mark.points(2)
def test_single_token(submission, rng):
    """A chunk of one token is a step of the recurrence"""
    grade(submission, [case(rng, 1, 4, 0.7)])
