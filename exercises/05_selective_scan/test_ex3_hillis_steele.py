"""Grades ex3_hillis_steele from the SIMT machine's counters: value, hazards, traffic."""

import numpy as np
import pytest

SIZES = [{"C": 32, "E": 2}, {"C": 64, "E": 1}, {"C": 1, "E": 1}, {"C": 48, "E": 2}, {"C": 2, "E": 1}]
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
    """A barrier a step, no bank conflict, and decay and drive read once"""
    run = launch(submission, rng, sizes)
    letters = sizes | {"STEPS": (sizes["C"] - 1).bit_length()}
    run.within("a barrier a step, and the one that stood there", "barriers", "E * (1 + STEPS)", **letters)
    run.within("no bank conflict", "shared_load_conflicts", "0", **sizes)
    for array in ("decay", "drive"):
        run.within(f"{array} is read once", "load_bytes", "E * C * 4", array, **sizes)
    run.without_float64()
