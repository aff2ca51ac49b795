"""Grades ex1_state on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.values import check_outputs


def walked(q, k, v, decay, state):
    """Return o and the last state, in q's precision."""
    o = np.empty_like(v)
    for t in range(len(q)):
        state = q.dtype.type(decay) * state + k[t][:, None] * v[t]
        o[t] = q[t] @ state
    return o, state


def grade(submission, cases):
    outputs = submission.call("recurrent", *cases)
    for (q, k, v, decay, state), found in zip(cases, outputs, strict=True):
        wide = [x.astype(np.float64) for x in (q, k, v)]
        exact = walked(*wide, np.float64(np.float32(decay)), state.astype(np.float64))
        plain = walked(q, k, v, decay, state)
        # What o and the state are summed from; the state from less, so it is held to its own size.
        terms = [float(x.max(initial=0)) for x in walked(*map(np.abs, (q, k, v)), decay, np.abs(state))]
        said = f"recurrent of T={len(q)} tokens, D={q.shape[1]}, decay={decay}"
        check_outputs(found, exact, plain, names=("o", "state"), letters=("TD", "DE"), said=said,
                      magnitude=(max(terms), terms[1]))


def case(rng, T, D, decay, begun=False):
    q, k, v = rng.standard_normal((3, T, D)).astype(np.float32)
    state = rng.standard_normal((D, D)) if begun else np.zeros((D, D))
    return q, k, v, decay, state.astype(np.float32)


@pytest.mark.points(5)
def test_value(submission, rng):
    """Outputs and last state, for several decays"""
    grade(submission, [case(rng, 7, 4, 0.5), case(rng, 40, 8, 0.97), case(rng, 25, 3, 1.0)])


@pytest.mark.points(3)
def test_given_state(submission, rng):
    """A state from before is faded and used"""
    grade(submission, [case(rng, 5, 4, 0.8, True), case(rng, 1, 6, 0.3, True)])


@pytest.mark.points(2)
def test_no_token(submission, rng):
    """Without a token the state stays what it was"""
    grade(submission, [case(rng, 0, 4, 0.8, True)])
