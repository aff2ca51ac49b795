"""Grades ex5_waste on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.failure import Failure

NAMES, KINDS = ("reserving", "paging"), ("tokens", "reserved", "internal waste")


def expected(length, final, row, P):
    """Return the slots by kind, one request after another."""
    kinds = np.zeros((2, 3), np.int64)
    for n, last in zip(length, final, strict=True):
        for server, given in enumerate((row, -(-n // P) * P)):
            kinds[server] += [n, min(given, last) - n, given - min(given, last)]
    return kinds


def grade(submission, cases):
    """Call the function for every case and compare every number."""
    arrays = [(np.array(length, np.int64), np.array(final, np.int64), row, P) for length, final, row, P in cases]
    for (length, final, row, P), found in zip(cases, submission.call("waste", *arrays), strict=True):
        said = f"(waste of length={np.asarray(length).tolist()}, final={np.asarray(final).tolist()}, row={row}, P={P})"
        if len(found) != 2 or any(x.shape != (3,) or x.dtype.kind not in "iu" for x in found):
            raise Failure(f"it should return two arrays of three integers\n{said}")
        for name, right, x in zip(NAMES, expected(length, final, row, P), found, strict=True):
            for kind, n, m in zip(KINDS, right, x, strict=True):
                if n != m:
                    raise Failure(f"{name}: {m} slots of {kind}, but there are {n}\n{said}")


@pytest.mark.points(4)
def test_value(submission, rng):
    """Rows of the longest sequence there can be, pages of 16"""
    length = 16 * rng.integers(0, 20, 5) + rng.integers(1, 16, 5)
    grade(submission, [([5, 40], [20, 41], 64, 16), ([1, 17, 33], [100, 90, 80], 100, 16),
                       (length, length + rng.integers(0, 100, 5), 512, 16)])


@pytest.mark.points(3)
def test_last_page(submission, rng):
    """The last page of a request: some of it will be used, some never"""
    P, pages, ahead = (int(n) for n in rng.integers((4, 1, 1), (40, 8, 60)))
    has = P * pages - int(rng.integers(1, P))
    grade(submission, [([30], [30], 64, 16), ([17], [20], 64, 16), ([17], [40], 64, 16), ([32], [40], 64, 16),
                       ([has], [int(rng.integers(has, P * pages))], 400, P), ([has], [P * pages + ahead], 400, P),
                       ([P * pages], [P * pages + ahead], 400, P)])


@pytest.mark.points(3)
def test_any_size(submission, rng):
    """Pages of any size, many requests, and none"""
    final = rng.integers(1, 500, 40)
    length = np.minimum(final, rng.integers(0, 400, 40))
    grade(submission, [(length, final, 512, P) for P in (1, 7, 128)] + [([], [], 64, 16)])
