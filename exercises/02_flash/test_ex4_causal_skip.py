"""Grades ex4_causal_skip from the SIMT machine's counters: value, hazards, traffic."""

import math

import numpy as np
import pytest

from minikernels.flash import reference
from minikernels.grading.shapes import drawn

SIZES = [
    {"T": 64, "S": 64, "BLOCK_T": 32, "BLOCK_S": 16, "D": 8},
    {"T": 33, "S": 33, "BLOCK_T": 32, "BLOCK_S": 16, "D": 8},
    {"T": 40, "S": 75, "BLOCK_T": 32, "BLOCK_S": 16, "D": 8},  # every query sees 35 keys more
    {"T": 70, "S": 21, "BLOCK_T": 16, "BLOCK_S": 8, "D": 8},  # the first 49 queries see none
    {"T": 65, "S": 65, "BLOCK_T": 64, "BLOCK_S": 8, "D": 16},
    {"T": drawn(1, 80), "S": drawn(1, 80), "BLOCK_T": 32, "BLOCK_S": 16, "D": 8},
]
NAMES = ["-".join(f"{n.replace('BLOCK_', 'B')}{v}" for n, v in s.items()) for s in SIZES]
TILES = "sum(ceil(max(0, min(S, (i + 1) * BLOCK_T + S - T)) / BLOCK_S) for i in range(ceil(T / BLOCK_T)))"
KEYS = f"{TILES.replace('sum(ceil(', 'sum(min(S, BLOCK_S * ceil(', 1).replace(') for i', ')) for i', 1)} * D * 4"


def launch(submission, rng, sizes, strict=False):
    T, S, D = (sizes[n] for n in "TSD")
    kernel = submission.kernel("causal_attention", **{n: sizes[n] for n in ("BLOCK_T", "BLOCK_S", "D")})
    q, k, v = (rng.standard_normal((n, D)).astype(np.float32) for n in (T, S, S))
    return kernel.launch(math.ceil(T / sizes["BLOCK_T"]), sizes["BLOCK_T"], strict=strict, q=2 * q, k=k, v=v,
                         scale=np.float32(D**-0.5), o=np.full((T, D), np.nan, np.float32))


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_value(submission, rng, sizes):
    """o is right on and beside the diagonal, with T < S and T > S too"""
    run = launch(submission, rng, sizes)
    heads = [run.arguments[n][None, None] for n in "qkv"]
    exact, plain = (f(*heads, True, run.arguments["scale"])[0][0, 0] for f in (reference.attention, reference.plain))
    q, k, v = map(np.abs, heads)
    terms = q.max() * k.sum(axis=-1).max() * run.arguments["scale"]  # a score is summed from these
    run.right("o", exact, plain, letters="TD", magnitude=float(v.max()), exponent=float(terms))


@pytest.mark.points(2)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_hazards(submission, rng, sizes):
    """No race, and every thread of a block reaches the same barriers"""
    launch(submission, rng, sizes, strict=True)


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_traffic(submission, rng, sizes):
    """A tile of keys that no row of a block sees is not loaded"""
    run = launch(submission, rng, sizes)
    for array in "kv":
        run.within(f"block i reads {array} only as far as the tile of its last row's last key", "load_bytes", KEYS,
                   array, **sizes)
    run.within("2 barriers a tile that the block sees", "barriers", f"2 * {TILES}", **sizes)
