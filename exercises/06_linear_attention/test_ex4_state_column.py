"""Grades ex4_state_column from the SIMT machine's counters: value, hazards, traffic."""

import numpy as np
import pytest

from minikernels.linear_attention import reference

SIZES = [
    {"H": 2, "T": 12, "D": 32},
    {"H": 1, "T": 1, "D": 8},
    {"H": 3, "T": 25, "D": 16},
    {"H": 1, "T": 6, "D": 64},  # two warps
]
NAMES = ["-".join(f"{n.replace('CHUNK', 'C')}{v}" for n, v in s.items()) for s in SIZES]


def launch(submission, rng, sizes, strict=False):
    H, T, D = (sizes[n] for n in "HTD")
    kernel = submission.kernel("state_column", **{n: sizes[n] for n in ("D",)})
    q, k, v = rng.standard_normal((3, H, T, D)).astype(np.float32)
    return kernel.launch(H, D, strict=strict, q=q, k=k, v=v, decay=np.linspace(0.6, 1, H).astype(np.float32),
                         o=np.full((H, T, D), np.nan, np.float32))


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_value(submission, rng, sizes):
    """o is right, token by token"""
    run = launch(submission, rng, sizes)
    inputs = *(run.arguments[n][None] for n in "qkv"), run.arguments["decay"], None, 1.0
    exact, plain = (f(*inputs)[0][0] for f in (reference.attention, reference.plain))
    run.right("o", exact, plain, letters="HTD", magnitude=reference.terms(*inputs)[0])


@pytest.mark.points(2)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_hazards(submission, rng, sizes):
    """No race, no read of unwritten memory"""
    launch(submission, rng, sizes, strict=True)


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_traffic(submission, rng, sizes):
    """v is read once, o written once, q and k once a warp; no barrier, and the state never leaves the thread"""
    run = launch(submission, rng, sizes)
    run.within("v is read once", "load_bytes", "H * T * D * 4", "v", **sizes)
    run.within("o is written once", "store_bytes", "H * T * D * 4", "o", **sizes)
    for array in "qk":
        run.within(f"{array} is read once a warp, an element a request", "load_requests", "H * T * D * ceil(D / 32)",
                   array, **sizes)
    run.within("no barrier", "barriers", "0", **sizes)
    run.within("no shared memory", "shared_store_requests", "0", **sizes)
    run.without_float64()
