"""Grades ex1_round on values, in a worker process."""

import numpy as np
import pytest

from minikernels.grading.failure import Failure

NAMES = ("codes", "uint8"), ("scale", "float32"), ("minimum", "float32")


def grade(submission, cases):
    """Call the function for every (x, bits), and hold what comes back against x."""
    outputs = submission.call("to_codes", *cases)
    for (x, bits), found in zip(cases, outputs, strict=True):
        said = f"(to_codes of x {x.shape} with bits={bits})"
        if len(found) != 3:
            raise Failure(f"it returned {len(found)} values; it should return codes, scale, minimum\n{said}")
        for (name, kind), array in zip(NAMES, found, strict=True):
            shape = x.shape if name == "codes" else x.shape[:1]
            if array.shape != shape or array.dtype != kind:
                raise Failure(f"{name} has shape {array.shape}, {array.dtype}; it should be {shape} {kind}\n{said}")
        examine(x, bits, *found, said)


def examine(x, bits, codes, scale, minimum, said):
    """Fail on the first group that is not rounded as it should be."""
    low, high = x.min(axis=1).astype(np.float64), x.max(axis=1).astype(np.float64)
    right = (high - low) / (2**bits - 1)
    back = minimum[:, None].astype(np.float64) + scale[:, None].astype(np.float64) * codes
    off = np.abs(back - x).max(axis=1)
    for n in range(len(x)):
        if not abs(minimum[n] - low[n]) <= 1e-6 * abs(low[n]):
            raise Failure(f"minimum[{n}] is {minimum[n]:.6g} but should be {low[n]:.6g}\n{said}")
        if not abs(scale[n] - right[n]) <= 1e-5 * right[n]:
            raise Failure(f"scale[{n}] is {scale[n]:.6g} but should be {right[n]:.6g}\n{said}")
        if not off[n] <= 0.5001 * right[n] + 1e-6 * max(abs(low[n]), abs(high[n])):
            raise Failure(f"a number of group {n} comes back {off[n]:.3g} off; it may be half a scale off, "
                          f"{right[n] / 2:.3g}\n{said}")
        if right[n] and (codes[n].min(), codes[n].max()) != (0, 2**bits - 1):
            raise Failure(f"the codes of group {n} go from {codes[n].min()} to {codes[n].max()}; they should reach "
                          f"0 and {2**bits - 1}\n{said}")


@pytest.mark.points(5)
def test_value(submission, rng):
    """Every number comes back within half a scale, and a group uses all its levels"""
    grade(submission, [((3 * rng.standard_normal((6, 64)) + 2).astype(np.float32), bits) for bits in (8, 4)]
          + [((rng.random((4, 33)) * [[1e-3], [1], [50], [1e4]]).astype(np.float32), 4)])


@pytest.mark.points(3)
def test_equal_numbers(submission, rng):
    """Groups of equal numbers have the scale 0 and come back as they were"""
    x = rng.standard_normal((5, 8)).astype(np.float32)
    x[1], x[3] = 0, -7.25
    grade(submission, [(x, 8), (x, 4), (np.full((1, 1), 3, np.float32), 4)])


@pytest.mark.points(2)
def test_one_sided(submission, rng):
    """Groups that are far from zero, or all of one sign"""
    x = (100 + rng.random((3, 40))).astype(np.float32)
    grade(submission, [(x, 8), (-x, 4), (np.abs(rng.standard_normal((3, 16))).astype(np.float32), 4)])
