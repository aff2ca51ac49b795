"""Grades ex2_folded_scores from the SIMT machine's counters: value, hazards, traffic."""

import numpy as np
import pytest

SIZES = [
    {"S": 64, "GROUP": 16, "D": 8},
    {"S": 32, "GROUP": 32, "D": 1},
    {"S": 40, "GROUP": 8, "D": 33},  # more channels than threads
    {"S": 64, "GROUP": 64, "D": 24},  # fewer channels than threads, two warps
]
NAMES = ["-".join(f"{n}{v}" for n, v in s.items()) for s in SIZES]


def launch(submission, rng, sizes, strict=False):
    S, GROUP, D = (sizes[n] for n in ("S", "GROUP", "D"))
    kernel = submission.kernel("folded_scores", D=D, GROUP=GROUP)
    q, minima = (rng.standard_normal(shape).astype(np.float32) for shape in (D, (S // GROUP, D)))
    scales = rng.uniform(0.01, 0.03, (S // GROUP, D)).astype(np.float32)
    codes = rng.integers(0, 256, (S, D), np.uint8)
    return kernel.launch(S // GROUP, GROUP, strict=strict, q=q, codes=codes, scales=scales, minima=minima,
                         s=np.full(S, np.nan, np.float32))


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_value(submission, rng, sizes):
    """The scores are right"""
    run = launch(submission, rng, sizes)
    q, codes = run.arguments["q"], run.arguments["codes"]
    scales, minima = (np.repeat(run.arguments[n], sizes["GROUP"], axis=0) for n in ("scales", "minima"))
    wide = minima.astype(np.float64) + scales.astype(np.float64) * codes
    plain = (minima + scales * codes.astype(np.float32)) @ q
    size = np.abs(minima) + scales * codes
    run.right("s", wide @ q, plain, letters="S", magnitude=float((size @ np.abs(q)).max()))


@pytest.mark.points(2)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_hazards(submission, rng, sizes):
    """No race, no read of unwritten memory"""
    launch(submission, rng, sizes, strict=True)


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_traffic(submission, rng, sizes):
    """Scales and minima are read once a group, codes once, with one barrier a group"""
    run = launch(submission, rng, sizes)
    for array in ("scales", "minima"):
        run.within(f"{array} are read once a group", "load_bytes", "S // GROUP * D * 4", array, **sizes)
        run.within(f"{array} are read by neighbouring threads", "load_requests",
                   "S // GROUP * ceil(D / min(GROUP, 32))", array, **sizes)
    run.within("a code is read once", "load_bytes", "S * D", "codes", **sizes)
    run.within("one barrier a group", "barriers", "S // GROUP", **sizes)
    run.without_float64()
