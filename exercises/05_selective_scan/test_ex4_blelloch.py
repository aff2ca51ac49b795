"""Grades ex4_blelloch from the SIMT machine's counters: value, hazards, work and depth."""

import numpy as np
import pytest

from minikernels.grading.failure import Failure
from minikernels.grading.shapes import drawn

SIZES = [{"C": 32, "E": 2}, {"C": 128, "E": 1}, {"C": 1, "E": 1}, {"C": 2, "E": 3}, {"C": 8, "E": 1},
         {"C": 64, "E": drawn(1, 4)}]
NAMES = ["-".join(f"{n}{v}" for n, v in s.items()) for s in SIZES]


def launch(submission, rng, sizes, strict=False):
    C, E = sizes["C"], sizes["E"]
    kernel = submission.kernel("blelloch", C=C)
    decay, drive = rng.uniform(0.2, 1.0, (E, C)).astype(np.float32), rng.standard_normal((E, C)).astype(np.float32)
    decay[:, C // 2] = 0  # a token that forgets all before it
    return kernel.launch(E, C, strict=strict, decay=decay, drive=drive, h=np.full((E, C), np.nan, np.float32))


def states(decay, drive):
    """Return the states one after another, and the size of what they are summed from."""
    h, size, found, largest = 0 * drive[:, 0], 0 * drive[:, 0], [], 0.0
    for t in range(drive.shape[1]):
        h, size = decay[:, t] * h + drive[:, t], decay[:, t] * size + np.abs(drive[:, t])
        largest = max(largest, float(size.max()))
        found.append(h)
    return np.stack(found, axis=1), largest


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_value(submission, rng, sizes):
    """The state after every token is right"""
    run = launch(submission, rng, sizes)
    decay, drive = run.arguments["decay"], run.arguments["drive"]
    exact, magnitude = states(decay.astype(np.float64), drive.astype(np.float64))
    run.right("h", exact, states(decay, drive)[0], letters="EC", magnitude=magnitude)


@pytest.mark.points(3)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_hazards(submission, rng, sizes):
    """No race, no read outside the chunk"""
    launch(submission, rng, sizes, strict=True)


@pytest.mark.points(3)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_work_and_depth(submission, rng, sizes):
    """Fewer than 2 C compositions, few loads and a barrier a level, and decay and drive read once"""
    run = launch(submission, rng, sizes)
    C, E = sizes["C"], sizes["E"]
    levels = C.bit_length() - 1
    compositions, flop = 2 * C - 2 - levels, run.launch.traffic.flop
    if flop > 3 * compositions * E:
        raise Failure(f"{flop} FLOP; the budget is {3 * compositions * E}: {compositions} compositions of 3 FLOP for "
                      f"each channel, with C={C}, E={E}.")
    letters = sizes | {"LEVELS": max(0, 2 * levels - 1)}
    run.within("a barrier a level, and the one that stood there", "barriers", "E * (1 + LEVELS)", **letters)
    # What one thread does for all, token by token, takes C turns and not log2 C: its loads are requests of its own.
    run.within("6 loads of shared memory a level, for each warp, and the one that stood there", "shared_load_requests",
               "E * ceil(C / 32) * (6 * LEVELS + 1)", **letters)
    for array in ("decay", "drive"):
        run.within(f"{array} is read once", "load_bytes", "E * C * 4", array, **sizes)
    run.without_float64()
