"""Grades ex5_stream_k on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.failure import Failure

NAMES = "start", "row", "tile"


def expected(tiles, places):
    """Return start, row and tile, one tile of the list after another."""
    line = [(row, tile) for row, count in enumerate(tiles) for tile in range(count)]
    share = -(-len(line) // places)
    starts = [min(i * share, len(line)) for i in range(places + 1)]
    found = [line[i] if i < len(line) else (len(tiles), 0) for i in starts]
    return np.array(starts), *np.array(found).T


def grade(submission, cases):
    """Call the function for every (tiles, places) and compare every number."""
    outputs = submission.call("run_starts", *[(np.array(tiles, np.int64), places) for tiles, places in cases])
    for (tiles, places), found in zip(cases, outputs, strict=True):
        said = f"(run_starts of tiles={tiles}, places={places})"
        if len(found) != len(NAMES):
            raise Failure(f"it returned {len(found)} values; it should return ({', '.join(NAMES)})\n{said}")
        for name, right, x in zip(NAMES, expected(tiles, places), found, strict=True):
            if x.shape != right.shape or x.dtype.kind not in "iu":
                raise Failure(f"{name} has shape {x.shape}, {x.dtype}; it should be {right.shape} integers\n{said}")
            wrong = np.flatnonzero(x != right)
            if len(wrong):
                i = wrong[0]
                raise Failure(f"{name}[{i}] is {x[i]} but should be {right[i]}\n{said}")


@pytest.mark.points(4)
def test_value(submission, rng):
    """Runs of equal length, and the row and tile they start at"""
    grade(submission, [([4, 1], 2), ([3, 3, 3], 3), ([6, 2, 4], 4), (rng.integers(1, 50, 12).tolist(), 5)])


@pytest.mark.points(3)
def test_short_runs(submission, rng):
    """A list that does not divide evenly: the last runs are short, or empty"""
    grade(submission, [([5, 2], 3), ([1, 1], 7), ([2], 1), (rng.integers(1, 9, 5).tolist(), 30)])


@pytest.mark.points(3)
def test_empty_rows(submission, rng):
    """Rows without tiles are passed over, and so is a batch of nothing else"""
    some = rng.integers(1, 6, (3, 10)) * (rng.random((3, 10)) < 0.5)
    grade(submission, [([0, 3, 0, 0, 3], 2), ([4, 0], 2), ([0, 0, 5, 0, 1, 0], 3), ([0, 0], 2),
                       *((tiles.tolist(), int(rng.integers(2, 6))) for tiles in some)])
