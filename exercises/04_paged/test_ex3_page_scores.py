"""Grades ex3_page_scores from the SIMT machine's counters: value, hazards, traffic."""

import numpy as np
import pytest

from minikernels.grading.shapes import drawn

SIZES = [
    {"S": 64, "P": 8, "D": 16},
    {"S": 1, "P": 8, "D": 16},
    {"S": 150, "P": 7, "D": 8},  # three blocks; pages that no warp ends with
    {"S": 70, "P": 1, "D": 24},
    {"S": 33, "P": 128, "D": 4},
    {"S": drawn(1, 160), "P": drawn(1, 16), "D": 8},
]
NAMES = ["-".join(f"{n}{v}" for n, v in s.items()) for s in SIZES]
THREADS = 64


def launch(submission, rng, sizes, strict=False):
    S, P, D = (sizes[n] for n in "SPD")
    kernel = submission.kernel("page_scores", D=D, P=P, THREADS=THREADS)
    count = -(-S // P)
    table = np.append(rng.permutation(count + 2)[:count], -1).astype(np.int32)
    k_pages = np.full((count + 2, P, D), np.nan, np.float32)
    token = np.arange(S)
    k_pages[table[token // P], token % P] = rng.standard_normal((S, D))
    blocks = -(-len(table) * P // THREADS)
    return kernel.launch(blocks, THREADS, strict=strict, q=rng.standard_normal(D).astype(np.float32), k_pages=k_pages,
                         table=table, length=np.array([S], np.int32), s=np.full(len(table) * P, -7, np.float32))


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_value(submission, rng, sizes):
    """The scores are right, and what is past the length stays as it is"""
    run = launch(submission, rng, sizes)
    (S, P), (q, k_pages, table) = (sizes[n] for n in "SP"), (run.arguments[n] for n in ("q", "k_pages", "table"))
    token = np.arange(S)
    k = k_pages[table[token // P], token % P]
    rest = np.full(len(table) * P - S, -7, np.float32)
    run.right("s", np.append(k.astype(np.float64) @ q.astype(np.float64), rest), np.append(k @ q, rest), letters="S",
              magnitude=float((np.abs(k) @ np.abs(q)).max()))


@pytest.mark.points(2)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_hazards(submission, rng, sizes):
    """No read outside the pool or the table"""
    launch(submission, rng, sizes, strict=True)


@pytest.mark.points(4)
@pytest.mark.parametrize("sizes", SIZES, ids=NAMES)
def test_traffic(submission, rng, sizes):
    """k_pages is read once, and the table once a key, with no barrier but the one that stood there"""
    run = launch(submission, rng, sizes)
    run.within("k is read once", "load_bytes", "S * D * 4", "k_pages", **sizes)
    run.within("the page is looked up once a key", "load_bytes", "S * 4", "table", **sizes)
    run.within("a score is written once", "store_bytes", "S * 4", "s", **sizes)
    run.within("no barrier but the one that stood there", "barriers", "ceil((ceil(S / P) + 1) * P / THREADS)", **sizes,
               THREADS=THREADS)
    run.without_float64()
