"""Grades ex5_stage_chunk from the SIMT machine's counters: value, hazards, traffic."""

import numpy as np
import pytest

from minikernels.linear_attention import reference

SIZES = [
    {"H": 2, "T": 16, "D": 32, "CHUNK": 8},
    {"H": 1, "T": 1, "D": 64, "CHUNK": 8},
    {"H": 3, "T": 27, "D": 64, "CHUNK": 8},  # a ragged chunk; two warps
    {"H": 2, "T": 9, "D": 16, "CHUNK": 4},
]
NAMES = ["-".join(f"{n.replace('CHUNK', 'C')}{v}" for n, v in s.items()) for s in SIZES]


def launch(submission, rng, sizes, strict=False):
    H, T, D = (sizes[n] for n in "HTD")
    kernel = submission.kernel("stage_chunk", **{n: sizes[n] for n in ("D", "CHUNK")})
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
    """q, k and v are read once, in full sectors, with 2 barriers a chunk"""
    run = launch(submission, rng, sizes)
    for array in "qkv":
        run.within(f"{array} is read once by the whole block", "load_bytes", "H * T * D * 4", array, **sizes)
        run.within(f"{array} is read in full sectors of 32 bytes", "load_sectors", "H * T * D * 4 // 32", array,
                   **sizes)
    run.within("o is written once", "store_bytes", "H * T * D * 4", "o", **sizes)
    run.within("2 barriers a chunk", "barriers", "2 * H * ceil(T / CHUNK)", **sizes)
    run.without_float64()
