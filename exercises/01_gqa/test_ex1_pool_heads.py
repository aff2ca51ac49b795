"""Grades ex1_pool_heads on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.values import check_outputs


def pooled(w, heads, groups):
    """Return the pooled projection in w's precision."""
    D = len(w) // heads
    share = heads // groups
    rows = [[w[h * D : (h + 1) * D] for h in range(g * share, (g + 1) * share)] for g in range(groups)]
    return np.concatenate([np.mean(group, axis=0, dtype=w.dtype) for group in rows])


def grade(submission, cases):
    outputs = submission.call("pool_heads", *cases)
    for (w, heads, groups), found in zip(cases, outputs, strict=True):
        exact, plain = pooled(w.astype(np.float64), heads, groups), pooled(w, heads, groups)
        check_outputs(found, [exact], [plain], names=["pooled"], letters=["GM"],
                      said=f"pool_heads of w {w.shape} with heads={heads}, groups={groups}",
                      magnitude=float(pooled(np.abs(w), heads, groups).max()))


def projection(rng, H, D, M):
    return rng.standard_normal((H * D, M)).astype(np.float32)


@pytest.mark.points(6)
def test_value(submission, rng):
    """Every group's head is the mean of the heads next to each other that it replaces"""
    grade(submission, [(projection(rng, 8, 4, 5), 8, G) for G in (2, 4)] + [(projection(rng, 12, 3, 7), 12, 3)])


@pytest.mark.points(2)
def test_one_group(submission, rng):
    """One group: multi-query attention"""
    grade(submission, [(projection(rng, 6, 4, 3), 6, 1)])


@pytest.mark.points(2)
def test_all_groups(submission, rng):
    """As many groups as heads: nothing changes, whatever D and M are"""
    grade(submission, [(projection(rng, 5, 3, 2), 5, 5), (projection(rng, 1, 1, 1), 1, 1)])
