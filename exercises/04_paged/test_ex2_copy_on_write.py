"""Grades ex2_copy_on_write on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.failure import Failure

NAMES = "table", "references", "copied", "written"


def expected(table, length, references, P):
    """Return what one more token does, step by step."""
    table, references, at = list(table), list(references), length // P
    shared = length % P != 0 and references[table[at]] > 1
    if length % P and not shared:
        return table, references, -1, table[at]
    if 0 not in references:
        return table, references, -1, -1
    old, new = table[at], references.index(0)
    table[at] = new
    references[new] = 1
    if shared:
        references[old] -= 1
    return table, references, old if shared else -1, new


def grade(submission, cases):
    """Call the function for every case and compare every number."""
    arrays = [(np.array(table, np.int64), length, np.array(references, np.int64), P)
              for table, length, references, P in cases]
    for case, found in zip(cases, submission.call("append_token", *arrays), strict=True):
        said = "(append_token of table={}, length={}, references={}, P={})".format(*case)
        if len(found) != len(NAMES):
            raise Failure(f"it returned {len(found)} values; it should return ({', '.join(NAMES)})\n{said}")
        for name, right, x in zip(NAMES, expected(*case), found, strict=True):
            if x.shape != np.shape(right) or x.dtype.kind not in "iu" or not np.array_equal(x, right):
                raise Failure(f"{name} is {x.tolist()} but should be {right}\n{said}")


def state(rng, shared=False, full=False, free=True):
    """Return a table, length, references and P of any size, whose last page is shared or full or neither."""
    P, used, others = (int(n) for n in rng.integers((2, 1, 2), (9, 5, 7)))
    pages = rng.permutation(used + others)
    references = rng.integers(1, 5, len(pages))
    references[pages[used - 1]] = rng.integers(2, 5) if shared else 1
    if free:
        references[pages[used : used + rng.integers(1, others + 1)]] = 0
    length = used * P if full else (used - 1) * P + int(rng.integers(1, P))
    return [*pages[:used].tolist(), *[-1] * int(rng.integers(1, 3))], length, references.tolist(), P


@pytest.mark.points(3)
def test_value(submission, rng):
    """An own page with room is written to; a full one is followed by the first free page"""
    grade(submission, [([2, -1], 3, [0, 0, 1], 4), ([2, -1], 1, [0, 0, 1], 4), ([2, -1], 4, [0, 1, 1], 4),
                       ([-1, -1], 0, [1, 2, 0, 0], 4), ([3, 1, -1], 2, [0, 1, 0, 1], 1),
                       *(state(rng, full=full) for full in (False, True) * 3)])


@pytest.mark.points(4)
def test_copy_on_write(submission, rng):
    """A page that others share is copied first, and loses a reference"""
    grade(submission, [([0, 1, -1], 6, [2, 2, 0, 0], 4), ([3, -1], 1, [0, 5, 1, 3], 2),
                       ([1, 0, -1], 5, [2, 3, 1, 0], 3), *(state(rng, shared=True) for _ in range(4))])


@pytest.mark.points(1)
def test_full_shared_page(submission, rng):
    """A full page stays shared, whoever else has it"""
    grade(submission, [([0, 1, -1], 8, [2, 2, 0, 1], 4), ([2, -1], 1, [0, 1, 4], 1),
                       *(state(rng, shared=True, full=True) for _ in range(3))])


@pytest.mark.points(2)
def test_no_page_left(submission, rng):
    """Where no page is free nothing changes, and a token that needs none still has its place"""
    grade(submission, [([0, 1, -1], 6, [2, 2, 1], 4), ([0, -1], 4, [1, 1], 4), ([1, -1], 3, [1, 1], 4),
                       *(state(rng, *kind, free=False) for kind in ((True,), (False, True), (False,)) * 2)])
