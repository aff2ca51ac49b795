"""Grades ex2_skip_blocks from the SIMT machine's counters: value, hazards, traffic."""

import numpy as np
import pytest

from minikernels.block_sparse import reference
from minikernels.grading.shapes import drawn

SIZES = [
    {"T": 64, "S": 64, "R": 32, "C": 16, "D": 8},
    {"T": 1, "S": 1, "R": 32, "C": 16, "D": 8},
    {"T": 70, "S": 41, "R": 32, "C": 16, "D": 8},  # ragged last blocks
    {"T": 130, "S": 60, "R": 64, "C": 8, "D": 16},  # two warps
    {"T": drawn(1, 100), "S": drawn(1, 70), "R": 32, "C": 16, "D": 8},
]
NAMES = ["-".join(f"{n}{v}" for n, v in s.items()) for s in SIZES]


def launch(submission, rng, sizes, strict=False):
    T, S, R, C, D = sizes.values()
    kernel = submission.kernel("skip_blocks", R=R, C=C, D=D)
    q, k, v = (rng.standard_normal((n, D)).astype(np.float32) for n in (T, S, S))
    mask = rng.random((-(-T // R), -(-S // C))) < 0.5
    mask[-1, -1] = True
    if len(mask) > 1:
        mask[0] = False  # a row of blocks that sees nothing
    return kernel.launch(len(mask), R, strict=strict, q=2 * q, k=k, v=v, mask=mask, scale=np.float32(D**-0.5),
                         o=np.full((T, D), np.nan, np.float32))


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_value(submission, rng, sizes):
    """o is right, 0 in rows that see nothing"""
    run = launch(submission, rng, sizes)
    q, k, v, mask = (run.arguments[n][None, None] for n in ("q", "k", "v", "mask"))
    given = q, k, v, mask, (sizes["R"], sizes["C"]), False, run.arguments["scale"]
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
def test_traffic(submission, rng, sizes):
    """Only kept blocks are loaded, in full sectors, with 2 barriers each"""
    run = launch(submission, rng, sizes)
    keys = np.minimum(sizes["C"], sizes["S"] - np.arange(0, sizes["S"], sizes["C"]))
    mask = run.arguments["mask"]
    kept = {"kept_blocks": int(mask.sum()), "kept_keys": int((mask * keys).sum()), "D": sizes["D"]}
    for array in "kv":
        run.within(f"{array} is read once for each kept block", "load_bytes", "kept_keys * D * 4", array, **kept)
        run.within(f"{array} is read in full sectors of 32 bytes", "load_sectors", "kept_keys * D * 4 // 32", array,
                   **kept)
    run.within("2 barriers a kept block", "barriers", "2 * kept_blocks", **kept)
    run.without_float64()
