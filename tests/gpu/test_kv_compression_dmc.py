"""DMC and eviction on a GPU: the pool's pages, the merging, the decode and the policies, against the CPU's."""

import numpy as np
import pytest

from minikernels.core.errors import DeviceError
from minikernels.kv_compression import dmc, evict, reference_dmc
from tests.kv_compression_cases import right

paged = pytest.importorskip("minikernels.paged", reason="the pool of pages is the technique paged's")
pytestmark = pytest.mark.gpu
over = pytest.mark.parametrize


def made(cp, case, dtype, seed=0):
    """Return q and heads in a pool on the GPU, and the same in one of NumPy's."""
    B, H, G, D, P, tokens, share = case
    rng = np.random.default_rng(seed)
    pages = B * G * (tokens // P + 1)
    pools = [paged.PagePool(pages, P, 1, D, dtype, like=like) for like in (np.zeros(1), cp.zeros(1))]
    heads = [dmc.allocate(pool, B, G) for pool in pools]
    for _ in range(tokens):
        k, v = (rng.standard_normal((B, G, D)).astype(dtype) for _ in "kv")
        how = {"alpha": rng.random((B, G)) < share, "omega": rng.uniform(0.1, 2, (B, G)).astype(np.float32)}
        dmc.append(pools[0], heads[0], k, v, **how)
        dmc.append(pools[1], heads[1], *map(cp.asarray, (k, v)), **{n: cp.asarray(x) for n, x in how.items()})
    return rng.standard_normal((B, H, D)).astype(dtype), pools, heads


@over(("case", "dtype"), [((2, 8, 2, 64, 16, 30, 0.5), "float16"), ((1, 12, 1, 33, 4, 21, 0.3), "float32"),
                          ((1, 32, 1, 32, 8, 20, 0.7), "float32"), ((1, 1, 1, 128, 1, 3, 0), "float16")], ids=str)
def test_merging_and_decoding(cp, case, dtype):
    q, pools, heads = made(cp, case, dtype)
    np.testing.assert_array_equal(dmc.lengths(pools[1], heads[1]), dmc.lengths(pools[0], heads[0]))
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(cp.asnumpy(pools[1].k_pages), pools[0].k_pages, rtol=0, atol=16 * eps)
    pages = [cp.asnumpy(x) for x in (pools[1].k_pages, pools[1].v_pages)]
    table = [cp.asnumpy(x) for x in pools[1].table([int(s) for s in heads[1].sequences.ravel()])]
    for rung in (None, "v1_ragged_heads"):
        o = dmc.decode(cp.asarray(q), pools[1], heads[1], rung=rung)
        assert isinstance(o, cp.ndarray)
        right(reference_dmc.judge(cp.asnumpy(o), q, *pages, *table, case[3] ** -0.5))


def test_heads_without_slots_give_zero_and_numpy_rungs_say_where_they_run(cp):
    pool = paged.PagePool(4, 2, 1, 8, np.float16, like=cp.zeros(1))
    heads, q = dmc.allocate(pool, 1, 2), cp.ones((1, 4, 8), cp.float16)
    assert not dmc.decode(q, pool, heads).any()
    with pytest.raises(DeviceError, match="rung tiled is NumPy's and the arrays live on the GPU"):
        dmc.decode(q, pool, heads, rung="tiled")


def test_policies_keep_the_same_tokens_as_on_the_cpu(cp):
    rng = np.random.default_rng(0)
    q, k = (rng.standard_normal((2, n, 50, 16)).astype(np.float32) for n in (4, 2))
    mass = evict.attention_mass(q, k)
    there = evict.attention_mass(cp.asarray(q), cp.asarray(k))
    np.testing.assert_allclose(cp.asnumpy(there), mass, rtol=1e-4)
    kept = evict.heavy_hitters(cp.asarray(mass), keep=7, recent=5)
    np.testing.assert_array_equal(cp.asnumpy(kept), evict.heavy_hitters(mass, keep=7, recent=5))
    for x in (k, mass):
        np.testing.assert_array_equal(cp.asnumpy(evict.take(cp.asarray(x), kept)), evict.take(x, cp.asnumpy(kept)))
        first = evict.streaming(50, sinks=2, recent=9)
        np.testing.assert_array_equal(cp.asnumpy(evict.take(cp.asarray(x), first)), evict.take(x, first))


def test_decisions_are_those_of_the_cpu(cp):
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 4, 8)).astype(np.float16), 6 * rng.standard_normal((2, 2, 8)).astype(np.float16)
    for here, there in zip(dmc.decisions(q, k), dmc.decisions(cp.asarray(q), cp.asarray(k))):
        np.testing.assert_allclose(cp.asnumpy(there), here, rtol=1e-5)
