"""Grades ex3_tile_loop from the SIMT machine's counters: value, hazards, traffic."""

import math

import numpy as np
import pytest

from minikernels.flash import reference
from minikernels.grading.shapes import drawn

SIZES = [
    {"T": 64, "S": 64, "BLOCK_T": 32, "BLOCK_S": 16, "D": 8},
    {"T": 1, "S": 1, "BLOCK_T": 32, "BLOCK_S": 16, "D": 8},
    {"T": 70, "S": 41, "BLOCK_T": 32, "BLOCK_S": 16, "D": 8},  # a ragged tile of queries and one of keys
    {"T": 65, "S": 31, "BLOCK_T": 64, "BLOCK_S": 8, "D": 24},
    {"T": drawn(1, 90), "S": drawn(1, 70), "BLOCK_T": 32, "BLOCK_S": 16, "D": 8},
]
NAMES = ["-".join(f"{n.replace('BLOCK_', 'B')}{v}" for n, v in s.items()) for s in SIZES]


def inputs(rng, T, S, D, **_):
    q, k, v = (rng.standard_normal((n, D)).astype(np.float32) for n in (T, S, S))
    return {"q": 2 * q, "k": k, "v": v, "scale": np.float32(D**-0.5), "o": np.full((T, D), np.nan, np.float32)}


def launch(submission, rng, sizes, strict=False):
    kernel = submission.kernel("tile_loop", **{n: sizes[n] for n in ("BLOCK_T", "BLOCK_S", "D")})
    grid = math.ceil(sizes["T"] / sizes["BLOCK_T"])
    return kernel.launch(grid, sizes["BLOCK_T"], strict=strict, **inputs(rng, **sizes))


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_value(submission, rng, sizes):
    """o is right, ragged tiles included"""
    run = launch(submission, rng, sizes)
    heads = [run.arguments[n][None, None] for n in "qkv"]
    exact, plain = (f(*heads, False, run.arguments["scale"])[0][0, 0] for f in (reference.attention, reference.plain))
    q, k, v = map(np.abs, heads)
    terms = q.max() * k.sum(axis=-1).max() * run.arguments["scale"]  # a score is summed from these
    run.right("o", exact, plain, letters="TD", magnitude=float(v.max()), exponent=float(terms))


@pytest.mark.points(3)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_hazards(submission, rng, sizes):
    """No race, no read of unwritten memory"""
    launch(submission, rng, sizes, strict=True)


@pytest.mark.points(3)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_traffic(submission, rng, sizes):
    """k and v are read at most ceil(T / BLOCK_T) times, in full sectors, with 2 barriers a tile"""
    run = launch(submission, rng, sizes)
    for array in "kv":
        run.within(f"{array} is read at most ceil(T / BLOCK_T) times", "load_bytes",
                   "ceil(T / BLOCK_T) * S * D * 4", array, **sizes)
        run.within(f"{array} is read in full sectors of 32 bytes", "load_sectors",
                   "ceil(T / BLOCK_T) * ceil(S * D * 4 / 32)", array, **sizes)
    run.within("2 barriers a tile", "barriers", "2 * ceil(T / BLOCK_T) * ceil(S / BLOCK_S)", **sizes)
    run.without_float64()
