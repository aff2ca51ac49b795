"""Grades ex1_gather_pages on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.values import check_outputs


def grade(submission, cases):
    outputs = submission.call("gather_pages", *cases)
    for (pages, table, length), found in zip(cases, outputs, strict=True):
        P = pages.shape[1]
        right = np.array([pages[table[t // P], t % P] for t in range(length)]).reshape(length, *pages.shape[2:])
        check_outputs(found, [right], [right.astype(np.float32)], names=["tokens"], letters=["TGD"],
                      said=f"gather_pages of a pool {pages.shape}, table {table.tolist()} and length={length}")


def case(rng, pages, P, G, D, length, spare=0):
    """Return a pool of random numbers, a table of strewn pages with `spare` entries of -1, and the length."""
    pool = rng.standard_normal((pages, P, G, D)).astype(np.float32)
    used = rng.permutation(pages)[: -(-length // P)]
    return pool, np.append(used, [-1] * spare).astype(np.int64), length


@pytest.mark.points(4)
def test_value(submission, rng):
    """Every token comes from its page and slot"""
    grade(submission, [case(rng, 8, 4, 2, 3, 12), case(rng, 5, 16, 1, 8, 48), case(rng, 9, 1, 3, 2, 7)])


@pytest.mark.points(4)
def test_ragged(submission, rng):
    """A last page that is not full, and entries that are no page"""
    grade(submission, [case(rng, 8, 4, 2, 3, 13), case(rng, 6, 16, 2, 4, 33, spare=2), case(rng, 4, 128, 1, 2, 5)])


@pytest.mark.points(2)
def test_empty(submission, rng):
    """No token, whatever the table says"""
    grade(submission, [case(rng, 4, 4, 2, 3, 0, spare=3), case(rng, 4, 4, 2, 3, 0)])
