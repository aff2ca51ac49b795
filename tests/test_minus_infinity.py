"""A score of -inf has weight 0 in every rung, as it has in NumPy, wherever among the keys it stands."""

import numpy as np
import pytest

from minikernels import block_sparse, flash, gqa, kv_compression, paged
from minikernels.block_sparse import api as block_sparse_api
from minikernels.flash import api as flash_api
from minikernels.gqa import api as gqa_api
from minikernels.kv_compression import api as kv_compression_api
from minikernels.kv_compression import dmc
from minikernels.paged import api as paged_api

S, MANY = 80, 1120  # tokens; more than paged's first rungs hold scores of at once
FAR = np.float32(1e20)  # its square is infinite in float32


def prefill(function, q, k, v, rung):
    """Return o (H, D) of one query position of a function of (B, H, T, D) arrays."""
    return function(q[None, :, None], k[None, None], v[None, None], rung=rung)[0, :, 0]


def through_gqa(q, k, v, rung):
    return gqa.decode(q[None], k[None, None], v[None, None], rung=rung)[0]


def through_pages(q, k, v, rung):
    pages = [x.reshape(-1, 10, 1, x.shape[1]) for x in (k, v)]
    table = np.arange(len(pages[0]), dtype=np.int32)[None]
    return paged.decode(q[None], *pages, table, np.array([len(k)], np.int32), rung=rung)[0]


def through_codes(q, k, v, rung):
    window = 0 if np.isfinite(k).all() else len(k)  # what is not finite cannot be rounded
    caches = [kv_compression.quantize(x[None, None], bits=8, axis=axis, group=8, window=window)
              for x, axis in ((k, "channel"), (v, "token"))]
    return kv_compression.decode(q[None], *caches, rung=rung)[0]


def through_slots(q, k, v, rung):
    pool = paged.PagePool(-(-len(k) // 16), 16, 1, k.shape[1], "float32")
    heads = dmc.allocate(pool, 1, 1)
    pool.append(int(heads.sequences[0, 0]), k[:, None], v[:, None])
    return dmc.decode(q[None], pool, heads, rung=rung)[0]


def blocks(q, k, v, *, rung):
    mask = np.ones((1, 1, 1, -(-k.shape[2] // 16)), bool)
    return block_sparse.attention(q, k, v, mask, block=(16, 16), rung=rung)


WAYS = {
    "gqa": (through_gqa, gqa_api.DECODE), "paged": (through_pages, paged_api.DECODE),
    "kv_compression": (through_codes, kv_compression_api.DECODE), "dmc": (through_slots, dmc.DECODE),
    "flash": (lambda *given: prefill(flash.attention, *given), flash_api.FORWARD),
    "prefill": (lambda *given: prefill(gqa.attention, *given), gqa_api.PREFILL),
    "block_sparse": (lambda *given: prefill(blocks, *given), block_sparse_api.ATTENTION),
}
RUNGS = [pytest.param(way, rung, id=f"{name}-{rung}")
         for name, (way, ladder) in WAYS.items() for rung in ladder.of_kind("numpy", "numba")]


@pytest.mark.parametrize("count", [S, MANY])
@pytest.mark.parametrize(("way", "rung"), RUNGS)
def test_keys_with_a_score_of_minus_infinity_do_not_count(way, rung, count):
    q, k = np.full((2, 1), FAR), np.zeros((count, 1), np.float32)
    k[: count // 2] = -FAR
    v = np.arange(count, dtype=np.float32)[:, None]
    with np.errstate(over="ignore"):
        o = way(q, k, v, rung)
    np.testing.assert_allclose(o, v[count // 2 :].mean(), rtol=5e-6)


@pytest.mark.parametrize(("way", "rung"), RUNGS)
def test_where_all_scores_are_minus_infinity_nothing_is_seen(way, rung):
    q, k = np.ones((2, 1), np.float32), np.full((S, 1), -np.inf, np.float32)
    o = way(q, k, np.ones((S, 1), np.float32), rung)
    np.testing.assert_array_equal(o, np.zeros((2, 1)))
