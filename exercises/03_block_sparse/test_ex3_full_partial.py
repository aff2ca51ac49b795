"""Grades ex3_full_partial from the SIMT machine's counters: value, hazards, branches."""

import numpy as np
import pytest

from minikernels.block_sparse import block_lists, reference
from minikernels.grading.shapes import drawn

SIZES = [
    {"T": 64, "S": 64, "R": 32, "C": 16, "D": 8},
    {"T": 32, "S": 16, "R": 32, "C": 16, "D": 8},  # the first 16 queries see no key
    {"T": 64, "S": 96, "R": 64, "C": 8, "D": 8},  # every query sees 32 keys more; two warps
    {"T": 96, "S": 80, "R": 16, "C": 16, "D": 16},  # the first row of blocks sees nothing
    {"T": drawn(32, 96, 32), "S": drawn(16, 96, 16), "R": 32, "C": 16, "D": 8},
]
NAMES = ["-".join(f"{n}{v}" for n, v in s.items()) for s in SIZES]


def launch(submission, rng, sizes, strict=False):
    """Return a launch on a random mask's lists, and how many blocks it visits, how many of them partial."""
    T, S, R, C, D = sizes.values()
    kernel = submission.kernel("full_partial", R=R, C=C, D=D)
    q, k, v = (rng.standard_normal((n, D)).astype(np.float32) for n in (T, S, S))
    mask = rng.random((1, 1, T // R, S // C)) < 0.7
    mask[..., 0] = True
    starts, full, columns = block_lists(mask, T, S, (R, C), causal=True)
    run = kernel.launch(T // R, R, strict=strict, q=2 * q, k=k, v=v, starts=starts, partial=starts[:-1] + full,
                        columns=columns, scale=np.float32(D**-0.5), o=np.full((T, D), np.nan, np.float32))
    return run, mask, {"warps": -(-R // 32), "blocks": len(columns), "partial_blocks": len(columns) - int(full.sum())}


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_value(submission, rng, sizes):
    """o is right on and beside the diagonal, with T < S and T > S too"""
    run, mask, _ = launch(submission, rng, sizes)
    q, k, v = (run.arguments[n][None, None] for n in "qkv")
    given = q, k, v, mask, (sizes["R"], sizes["C"]), True, run.arguments["scale"]
    exact, plain = (f(*given)[0][0, 0] for f in (reference.attention, reference.plain))
    terms = np.abs(q).max() * np.abs(k).sum(axis=-1).max() * given[-1]  # a score is summed from these
    run.right("o", exact, plain, letters="TD", magnitude=float(np.abs(v).max()), exponent=float(terms))


@pytest.mark.points(2)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_hazards(submission, rng, sizes):
    """No race, and every thread of a block reaches the same barriers"""
    launch(submission, rng, sizes, strict=True)


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_branches(submission, rng, sizes):
    """No cell of a full block is asked about"""
    run, _, counts = launch(submission, rng, sizes)
    run.within("a branch a block, and one for each key of a partial one", "branches",
               "warps * (blocks + partial_blocks * C)", **counts, C=sizes["C"])
    run.within("2 barriers a block", "barriers", "2 * blocks", **counts)
    run.without_float64()
