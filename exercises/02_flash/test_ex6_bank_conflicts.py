"""Grades ex6_bank_conflicts from the SIMT machine's counters: value, hazards, sectors, bank conflicts."""

import math

import numpy as np
import pytest

from minikernels.grading.shapes import drawn

SIZES = [
    {"T": 4, "S": 32, "D": 32},
    {"T": 5, "S": 70, "D": 32},  # a ragged tile
    {"T": 3, "S": 33, "D": 64},
    {"T": 2, "S": 40, "D": 24},
    {"T": 2, "S": 35, "D": 33},  # rows of an odd width
    {"T": drawn(1, 6), "S": drawn(2, 90), "D": 32},
]
NAMES = ["-".join(f"{n}{v}" for n, v in s.items()) for s in SIZES]
BLOCK_S, THREADS = 32, 64


def launch(submission, rng, sizes, strict=False):
    T, S, D = (sizes[n] for n in "TSD")
    kernel = submission.kernel("scores", D=D, BLOCK_S=BLOCK_S, THREADS=THREADS)
    q, k = (rng.standard_normal((n, D)).astype(np.float32) for n in (T, S))
    return kernel.launch(math.ceil(S / BLOCK_S), THREADS, strict=strict, q=q, k=k,
                         s=np.full((T, S), np.nan, np.float32))


@pytest.mark.points(3)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_value(submission, rng, sizes):
    """The scores are right"""
    run = launch(submission, rng, sizes)
    q, k = run.arguments["q"], run.arguments["k"]
    run.right("s", q.astype(np.float64) @ k.T.astype(np.float64), q @ k.T, letters="TS",
              magnitude=float((np.abs(q) @ np.abs(k).T).max()))


@pytest.mark.points(2)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_hazards(submission, rng, sizes):
    """No race, no read of unwritten memory"""
    launch(submission, rng, sizes, strict=True)


@pytest.mark.points(2)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_sectors(submission, rng, sizes):
    """k is read once, in full sectors"""
    run = launch(submission, rng, sizes)
    run.within("k is read once, in full sectors of 32 bytes", "load_sectors", "ceil(S * D * 4 / 32)", "k", **sizes)
    run.within("k is read once", "load_bytes", "S * D * 4", "k", **sizes)


@pytest.mark.points(3)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_conflicts(submission, rng, sizes):
    """No two lanes wait for one bank when a warp reads the tile"""
    launch(submission, rng, sizes).within("no bank conflict where lanes read the tile", "shared_load_conflicts", "0",
                                          **sizes)
