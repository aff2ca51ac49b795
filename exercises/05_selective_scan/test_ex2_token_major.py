"""Grades ex2_token_major from the SIMT machine's counters: value, hazards, traffic."""

import numpy as np
import pytest

from minikernels.grading.shapes import drawn
from minikernels.selective_scan import reference

SIZES = [
    {"T": 12, "E": 64, "N": 4, "threads": 32},
    {"T": 5, "E": 40, "N": 3, "threads": 32},  # a warp of 8 channels
    {"T": 1, "E": 1, "N": 1, "threads": 64},
    {"T": 9, "E": 136, "N": 16, "threads": 128},
    {"T": drawn(1, 12), "E": drawn(8, 136, 8), "N": 4, "threads": 64},
]
NAMES = ["-".join(f"{n}{v}" for n, v in s.items()) for s in SIZES]


def launch(submission, rng, sizes, strict=False):
    T, E, N = (sizes[n] for n in "TEN")
    kernel = submission.kernel("token_major", N=N)
    u, b, c = (rng.standard_normal(shape).astype(np.float32) for shape in ((T, E), (T, N), (T, N)))
    step = np.exp(rng.uniform(-4, 0, (T, E))).astype(np.float32)
    a = -np.exp(rng.uniform(-1, 2, (E, N))).astype(np.float32)
    return kernel.launch(-(-E // sizes["threads"]), sizes["threads"], strict=strict, u=u, step=step, a=a, b=b, c=c,
                         y=np.full((T, E), np.nan, np.float32))


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_value(submission, rng, sizes):
    """y is right in every channel"""
    run = launch(submission, rng, sizes)
    u, step, b, c = (run.arguments[n][None] for n in ("u", "step", "b", "c"))
    given = u, step, run.arguments["a"], b, c
    exact, plain = (f(*given)[0][0] for f in (reference.scan, reference.plain))
    y_terms, _ = reference.terms(*given, None, None, None, False, None)
    run.right("y", exact, plain, letters="TE", magnitude=y_terms)


@pytest.mark.points(2)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_hazards(submission, rng, sizes):
    """No read outside the arrays or of unwritten memory"""
    launch(submission, rng, sizes, strict=True)


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_traffic(submission, rng, sizes):
    """u and step are read once, in full sectors; b and c with a request a state and token for each warp"""
    run = launch(submission, rng, sizes)
    for array in ("u", "step"):
        run.within(f"{array} is read once", "load_bytes", "T * E * 4", array, **sizes)
        run.within(f"{array} is read in full sectors of 32 bytes", "load_sectors", "T * ceil(E / 8)", array, **sizes)
    for array in "bc":
        run.within(f"a request for {array} a state and token, for each warp", "load_requests", "T * N * ceil(E / 32)",
                   array, **sizes)
    run.within("y is written once", "store_bytes", "T * E * 4", "y", **sizes)
    run.within("no shared memory", "shared_store_requests", "0", **sizes)
    run.without_float64()
