"""Grades ex3_hillis_steele from the SIMT machine's counters: value, hazards, traffic."""

import numpy as np
import pytest

from minikernels.grading.failure import Failure
from minikernels.grading.shapes import drawn

SIZES = [{"C": 32, "E": 2}, {"C": 64, "E": 1}, {"C": 1, "E": 1}, {"C": 48, "E": 2}, {"C": 2, "E": 1},
         {"C": drawn(1, 100), "E": 2}]
NAMES = ["-".join(f"{n}{v}" for n, v in s.items()) for s in SIZES]


def launch(submission, rng, sizes, strict=False):
    C, E = sizes["C"], sizes["E"]
    kernel = submission.kernel("hillis_steele", C=C)
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
def test_traffic(submission, rng, sizes):
    """Little work, few loads and a barrier a step, no bank conflict, and decay and drive read once"""
    run = launch(submission, rng, sizes)
    C, E, steps = sizes["C"], sizes["E"], (sizes["C"] - 1).bit_length()
    letters, flop, allowed = sizes | {"STEPS": steps}, run.launch.traffic.flop, 3 * C * (steps + 1) * E
    if flop > allowed:
        raise Failure(f"{flop} FLOP; the budget is {allowed}: {steps + 1} compositions of 3 FLOP for each thread, with "
                      f"C={C}, E={E}.")
    # What one thread does for all, token by token, takes C turns and not log2 C: its loads are requests of its own.
    run.within("6 loads of shared memory a step, for each warp", "shared_load_requests", "6 * E * STEPS * ceil(C / 32)",
               **letters)
    run.within("a barrier a step, and the one that stood there", "barriers", "E * (1 + STEPS)", **letters)
    run.within("no bank conflict", "shared_load_conflicts", "0", **sizes)
    for array in ("decay", "drive"):
        run.within(f"{array} is read once", "load_bytes", "E * C * 4", array, **sizes)
    run.without_float64()
