"""Grades ex3_shared_group from the SIMT machine's counters: value, hazards, traffic."""

import numpy as np
import pytest

from minikernels.gqa import reference
from minikernels.grading.shapes import drawn

SIZES = [
    {"G": 2, "R": 4, "S": 32, "BLOCK_S": 16, "D": 8},
    {"G": 1, "R": 1, "S": 1, "BLOCK_S": 16, "D": 8},
    {"G": 3, "R": 8, "S": 41, "BLOCK_S": 16, "D": 16},  # a ragged tile; four warps
    {"G": 2, "R": 3, "S": 30, "BLOCK_S": 8, "D": 24},
    {"G": 2, "R": 4, "S": drawn(1, 60), "BLOCK_S": 16, "D": 8},
]
NAMES = ["-".join(f"{n.replace('BLOCK_', 'B')}{v}" for n, v in s.items()) for s in SIZES]


def launch(submission, rng, sizes, strict=False):
    G, R, S, D = (sizes[n] for n in "GRSD")
    kernel = submission.kernel("shared_group", **{n: sizes[n] for n in ("D", "R", "BLOCK_S")})
    q, k, v = (rng.standard_normal(shape).astype(np.float32) for shape in ((G * R, D), (G, S, D), (G, S, D)))
    return kernel.launch(G, R * D, strict=strict, q=2 * q, k=k, v=v, scale=np.float32(D**-0.5),
                         o=np.full((G * R, D), np.nan, np.float32))


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_value(submission, rng, sizes):
    """o is right for every query head, a ragged tile included"""
    run = launch(submission, rng, sizes)
    q, k, v = (run.arguments[n][None] for n in "qkv")
    part = q, k, v, np.array([sizes["S"]]), run.arguments["scale"]
    exact, plain = (f(*part)[0] for f in (reference.decode, reference.plain))
    terms = np.abs(q).max() * np.abs(k).sum(axis=-1).max() * part[-1]  # a score is summed from these
    run.right("o", exact, plain, letters="HD", magnitude=float(np.abs(v).max()), exponent=float(terms))


@pytest.mark.points(2)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_hazards(submission, rng, sizes):
    """No race, no read of unwritten memory"""
    launch(submission, rng, sizes, strict=True)


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_traffic(submission, rng, sizes):
    """k and v are read once, in full sectors, with 3 barriers a tile"""
    run = launch(submission, rng, sizes)
    for array in "kv":
        run.within(f"{array} is read once for all R query heads", "load_bytes", "G * S * D * 4", array, **sizes)
        run.within(f"{array} is read in full sectors of 32 bytes", "load_sectors", "G * ceil(S * D * 4 / 32)", array,
                   **sizes)
    run.within("3 barriers a tile", "barriers", "3 * G * ceil(S / BLOCK_S)", **sizes)
    run.without_float64()
