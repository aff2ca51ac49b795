"""Grades ex4_warp_dot from the SIMT machine's counters: value, hazards, sectors, barriers."""

import numpy as np
import pytest

from minikernels.grading.shapes import drawn

SIZES = [
    {"S": 24, "D": 64, "blocks": 2},
    {"S": 1, "D": 32, "blocks": 1},  # three of four warps have no key
    {"S": 37, "D": 40, "blocks": 3},  # the last lanes have one column less
    {"S": 10, "D": 8, "blocks": 1},  # fewer columns than lanes
    {"S": drawn(2, 50), "D": 48, "blocks": 2},
]
NAMES = ["-".join(f"{n}{v}" for n, v in s.items()) for s in SIZES]
WARPS = 4


def launch(submission, rng, sizes, strict=False):
    S, D = sizes["S"], sizes["D"]
    kernel = submission.kernel("warp_scores", D=D, WARPS=WARPS)
    q, k = rng.standard_normal(D).astype(np.float32), rng.standard_normal((S, D)).astype(np.float32)
    return kernel.launch(sizes["blocks"], 32 * WARPS, strict=strict, q=q, k=k, s=np.full(S, np.nan, np.float32))


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_value(submission, rng, sizes):
    """The scores are right"""
    run = launch(submission, rng, sizes)
    q, k = run.arguments["q"], run.arguments["k"]
    run.right("s", k.astype(np.float64) @ q.astype(np.float64), k @ q, letters="S",
              magnitude=float((np.abs(k) @ np.abs(q)).max()))


@pytest.mark.points(2)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_hazards(submission, rng, sizes):
    """No race, and no shuffle from a lane that is not there"""
    launch(submission, rng, sizes, strict=True)


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_traffic(submission, rng, sizes):
    """k is read once, in full sectors, with one request for 32 columns, and nobody waits at a barrier"""
    run = launch(submission, rng, sizes)
    run.within("k is read once", "load_bytes", "S * D * 4", "k", **sizes)
    run.within("k is read in full sectors of 32 bytes", "load_sectors", "S * D * 4 // 32", "k", **sizes)
    run.within("a request a warp for 32 columns", "load_requests", "S * ceil(D / 32)", "k", **sizes)
    run.within("no barrier", "barriers", "0", **sizes)
    run.within("no shared memory", "shared_store_requests", "0", **sizes)
    run.without_float64()
