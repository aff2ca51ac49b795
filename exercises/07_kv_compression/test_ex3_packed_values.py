"""Grades ex3_packed_values from the SIMT machine's counters: value, hazards, traffic."""

import numpy as np
import pytest

from minikernels.grading.shapes import drawn

SIZES = [
    {"S": 20, "D": 64},
    {"S": 1, "D": 2},
    {"S": 33, "D": 128},  # two warps
    {"S": 17, "D": 90},  # the last lanes have nothing
    {"S": drawn(1, 40), "D": drawn(2, 120, 2)},
]
NAMES = ["-".join(f"{n}{v}" for n, v in s.items()) for s in SIZES]


def launch(submission, rng, sizes, strict=False):
    S, D = sizes["S"], sizes["D"]
    kernel = submission.kernel("packed_values", D=D)
    p, scales = rng.random(S).astype(np.float32), rng.uniform(0.1, 0.5, S).astype(np.float32)
    minima, codes = rng.standard_normal(S).astype(np.float32), rng.integers(0, 256, (S, D // 2), np.uint8)
    return kernel.launch(1, D // 2, strict=strict, p=p, codes=codes, scales=scales, minima=minima,
                         o=np.full(D, np.nan, np.float32))


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_value(submission, rng, sizes):
    """Every channel is the weighted sum of its own codes"""
    run = launch(submission, rng, sizes)
    p, packed, scales, minima = (run.arguments[n] for n in ("p", "codes", "scales", "minima"))
    codes = np.stack((packed & 15, packed >> 4), axis=-1).reshape(len(p), -1)
    exact = p.astype(np.float64) @ (minima[:, None].astype(np.float64) + scales[:, None].astype(np.float64) * codes)
    plain = p @ (minima[:, None] + scales[:, None] * codes.astype(np.float32))
    size = p @ (np.abs(minima)[:, None] + scales[:, None] * codes)
    run.right("o", exact, plain, letters="D", magnitude=float(size.max()))


@pytest.mark.points(2)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_hazards(submission, rng, sizes):
    """No race, nothing out of bounds"""
    launch(submission, rng, sizes, strict=True)


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_traffic(submission, rng, sizes):
    """Every byte is read once, what a token shares with one request a warp; no barrier, no shared memory"""
    run = launch(submission, rng, sizes)
    run.within("a byte of codes is read once, for both its channels", "load_bytes", "S * D // 2", "codes", **sizes)
    run.within("a request a token for 64 channels", "load_requests", "S * ceil(D / 64)", "codes", **sizes)
    for array in ("p", "scales", "minima"):
        run.within(f"{array} is read once a token and warp", "load_requests", "S * ceil(D / 64)", array, **sizes)
    run.within("no barrier", "barriers", "0", **sizes)
    run.within("no shared memory", "shared_store_requests", "0", **sizes)
    run.without_float64()
