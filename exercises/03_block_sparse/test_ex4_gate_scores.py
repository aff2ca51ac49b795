"""Grades ex4_gate_scores on values, in a worker process."""

import numpy as np
import pytest

from minikernels.block_sparse import gate
from minikernels.grading.values import check_outputs


def grade(submission, cases):
    outputs = submission.call("gate_scores", *cases)
    for (q, k, w_query, w_key, size), found in zip(cases, outputs, strict=True):
        weights = gate.Gate(w_query[None], w_key[None])
        exact, plain = (
            gate.scores(*(x[None, None].astype(dtype) for x in (q, k)), (size, size),
                        gate.Gate(*(w.astype(dtype) for w in weights)))[0, 0] for dtype in ("float64", "float32"))
        rows, columns = (np.abs(gate.features(x[None, None], size)[0, 0]) @ np.abs(w)
                         for x, w in ((q, w_query), (k, w_key)))
        terms = (rows @ columns.T).max() * w_query.shape[1] ** -0.5  # a logit is summed from these
        check_outputs(found, [exact], [plain], names=["scores"], letters=["IJ"],
                      said=f"gate_scores of q and k {q.shape}, weights {w_query.shape}, size={size}",
                      magnitude=1.0, exponent=float(terms))


def case(rng, T, D, W, size, spread=0.3):
    q, k = (rng.standard_normal((T, D)).astype(np.float32) for _ in "qk")
    w_query, w_key = (rng.normal(0, spread, (3 * D, W)).astype(np.float32) for _ in "qk")
    return q, k, w_query, w_key, size


@pytest.mark.points(5)
def test_value(submission, rng):
    """Mean, maximum and minimum, in this order; products over the root of W; rows that add up to 1"""
    grade(submission, [case(rng, 32, 4, 4, 8), case(rng, 48, 6, 3, 16), case(rng, 12, 2, 5, 1)])


@pytest.mark.points(3)
def test_ragged(submission, rng):
    """A last block with fewer tokens; a text shorter than a block"""
    grade(submission, [case(rng, 30, 4, 3, 8), case(rng, 7, 3, 2, 16), case(rng, 17, 4, 4, 16)])


@pytest.mark.points(2)
def test_large_scores(submission, rng):
    """Scores in the hundreds do not overflow, on either side of the diagonal"""
    grade(submission, [case(rng, 32, 8, 4, 8, spread=6.0)])
