"""Grades ex4_page_softmax from the SIMT machine's counters: value, hazards, traffic."""

import numpy as np
import pytest

from minikernels.grading.shapes import drawn
from minikernels.paged import reference

SIZES = [
    {"P": 8, "lengths": (24, 16)},
    {"P": 8, "lengths": (1, 8, 9)},
    {"P": 16, "lengths": (37, 50)},
    {"P": 1, "lengths": (5, 12)},
    {"P": 32, "lengths": (31,)},
    {"P": 8, "lengths": (drawn(1, 40), drawn(1, 40))},
]
NAMES = [f"P{s['P']}-{','.join(map(str, s['lengths']))}" for s in SIZES]


def launch(submission, rng, sizes, spread=1.0, strict=False):
    P, lengths = sizes["P"], np.array(sizes["lengths"], np.int32)
    B, counts = len(lengths), -(-lengths // P)
    kernel = submission.kernel("page_softmax", P=P)
    strewn = rng.permutation(int(counts.sum()) + 1)
    table = np.full((B, int(counts.max())), -1, np.int32)
    k_pages, v_pages = (np.full((len(strewn), P, 32), np.nan, np.float32) for _ in "kv")
    for b, n in enumerate(lengths):
        table[b, : counts[b]], strewn = strewn[: counts[b]], strewn[counts[b] :]
        token = np.arange(n)
        for pages in (k_pages, v_pages):
            pages[table[b, token // P], token % P] = rng.standard_normal((n, 32))
    q = (spread * rng.standard_normal((B, 32))).astype(np.float32)
    return kernel.launch(B, 32, strict=strict, q=q, k_pages=k_pages, v_pages=v_pages, table=table, lengths=lengths,
                         scale=np.float32(32**-0.5), o=np.full((B, 32), np.nan, np.float32))


def right(run):
    """Fail unless o is the attention of q over the pages."""
    q, k, v, table, lengths = (run.arguments[n] for n in ("q", "k_pages", "v_pages", "table", "lengths"))
    part = q[:, None], k[:, :, None], v[:, :, None], table, lengths, run.arguments["scale"]
    exact, plain = (f(*part)[:, 0] for f in (reference.decode, reference.plain))
    terms = np.abs(q).max() * np.nanmax(np.abs(k).sum(axis=-1)) * run.arguments["scale"]  # a score is summed from these
    run.right("o", exact, plain, letters="BD", magnitude=float(np.nanmax(np.abs(v))), exponent=float(terms))


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_value(submission, rng, sizes):
    """o is right for every sequence, a last page that is not full included"""
    right(launch(submission, rng, sizes))


@pytest.mark.points(1)
def test_large_scores(submission, rng):
    """Scores in the hundreds do not overflow"""
    right(launch(submission, rng, SIZES[2], spread=150.0))


@pytest.mark.points(1)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_hazards(submission, rng, sizes):
    """No read outside the pool, and no shuffle from a lane that is not there"""
    launch(submission, rng, sizes, strict=True)


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_traffic(submission, rng, sizes):
    """Pages are read once, in full sectors, and looked up once each; no barrier, no shared memory"""
    run = launch(submission, rng, sizes)
    keys, pages = sum(sizes["lengths"]), sum(-(-n // sizes["P"]) for n in sizes["lengths"])
    for array in ("k_pages", "v_pages"):
        run.within(f"{array} is read once", "load_bytes", "keys * 32 * 4", array, keys=keys)
        run.within(f"{array} is read in full sectors of 32 bytes", "load_sectors", "keys * 4", array, keys=keys)
    run.within("a request for a page", "load_requests", "pages", "table", pages=pages)
    run.within("no barrier", "barriers", "0")
    run.within("no shared memory", "shared_store_requests", "0")
    run.without_float64()
