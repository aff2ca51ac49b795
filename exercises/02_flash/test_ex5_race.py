"""Grades ex5_race from the SIMT machine's findings and counters."""

import math

import numpy as np
import pytest

from minikernels.grading import Failure
from minikernels.grading.shapes import drawn

SIZES = [
    {"T": 64, "S": 16, "BLOCK_T": 64, "BLOCK_S": 16, "D": 8},
    {"T": 64, "S": 48, "BLOCK_T": 64, "BLOCK_S": 16, "D": 8},
    {"T": 100, "S": 45, "BLOCK_T": 96, "BLOCK_S": 8, "D": 16},  # ragged on both sides
    {"T": drawn(1, 150), "S": drawn(17, 60), "BLOCK_T": 64, "BLOCK_S": 16, "D": 8},
]
NAMES = ["-".join(f"{n.replace('BLOCK_', 'B')}{v}" for n, v in s.items()) for s in SIZES]


def launch(submission, rng, sizes, strict=False):
    T, S, D = (sizes[n] for n in "TSD")
    kernel = submission.kernel("largest_scores", **{n: sizes[n] for n in ("BLOCK_T", "BLOCK_S", "D")})
    blocks = math.ceil(T / sizes["BLOCK_T"])
    q, k = (rng.standard_normal((n, D)).astype(np.float32) for n in (T, S))
    return kernel.launch(blocks, sizes["BLOCK_T"], strict=strict, q=q, k=k, row_max=np.full(T, np.nan, np.float32),
                         block_max=np.full(blocks, np.nan, np.float32))


@pytest.mark.points(2)
def test_diagnosis(submission):
    """The array that the threads race on is named"""
    named = submission.constant("RACES_ON")
    if named != "k_smem":
        raise Failure(f"RACES_ON is {named!r}, which is not where two threads meet: follow each shared array from "
                      "write to read to the next write")


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_hazards(submission, rng, sizes):
    """No race is left, and every thread of a block reaches the same barriers"""
    launch(submission, rng, sizes, strict=True)


@pytest.mark.points(2)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_value(submission, rng, sizes):
    """The maxima are still right"""
    run = launch(submission, rng, sizes)
    q, k = run.arguments["q"], run.arguments["k"]
    exact, plain = (q.astype(np.float64) @ k.T.astype(np.float64)).max(1), (q @ k.T).max(1)
    terms = float((np.abs(q) @ np.abs(k).T).max())
    run.right("row_max", exact, plain, letters="T", magnitude=terms)
    starts = np.arange(0, len(q), sizes["BLOCK_T"])
    run.right("block_max", np.maximum.reduceat(exact, starts), np.maximum.reduceat(plain, starts), letters="I",
              magnitude=terms)


@pytest.mark.points(2)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_barriers(submission, rng, sizes):
    """2 barriers a tile and 1 at the end, no more"""
    launch(submission, rng, sizes).within("2 barriers a tile and 1 at the end", "barriers",
                                          "ceil(T / BLOCK_T) * (2 * ceil(S / BLOCK_S) + 1)", **sizes)
