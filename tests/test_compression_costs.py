"""bench.compression: its simulations are the methods they stand for, and the README's table is the recorded one."""

import json

import numpy as np
import pytest

from minikernels import kv_compression, model
from minikernels.bench import compression
from minikernels.kv_compression import reference

over = pytest.mark.parametrize


def made(T=90, H=4, G=2, D=8, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal((1, n, T, D)).astype("float16").astype("float32") for n in (H, G, G))


def causal(q, k, v):
    """Return causal attention, a query at a time."""
    o = np.empty_like(q)
    for t in range(q.shape[2]):
        seen = k[:, :, : t + 1], v[:, :, : t + 1], np.array([t + 1])
        o[:, :, t] = reference.attend(q[:, :, t], *seen, q.shape[3] ** -0.5)
    return o


@over("method", [compression.exact, compression.streaming(100), compression.heavy_hitters(50, 50),
                 compression.merging(2.0), compression.rounded(4, window=100)],
      ids=["exact", "streaming", "heavy", "merging", "rounded"])
def test_a_method_that_leaves_nothing_out_is_attention(method):
    q, k, v = made()
    np.testing.assert_allclose(method(q, k, v)[0], causal(q, k, v), atol=2e-6)


@over(("bits", "window"), [(8, 0), (4, 0), (4, 20)])
def test_a_query_sees_the_cache_as_it_stands_when_it_comes(bits, window):
    q, k, v = made()
    how = {"bits": bits, "group": 16, "window": window}
    o, size = compression.rounded(bits, group=16, window=window)(q, k, v)
    caches = [kv_compression.quantize(x[:, :, :0].astype("float16"), axis=axis, **how) for x, axis in
              ((k, "channel"), (v, "token"))]
    for t in range(q.shape[2]):
        for cache, x in zip(caches, (k, v)):
            cache.append(x[:, :, t : t + 1].astype("float16"))
        one = kv_compression.decode(q[:, :, t].astype("float16"), *caches)
        np.testing.assert_allclose(one, o[:, :, t], atol=4e-3)
    assert size == sum(cache.bytes() for cache in caches)


def test_merged_slots_are_those_of_dmc():
    paged = pytest.importorskip("minikernels.paged", reason="the pool of pages is the technique paged's")
    dmc = kv_compression.dmc
    q, k, v = made(40)
    k[:, :, 1:] += k[:, :, :-1]  # neighbours that are alike
    slots = []
    o, size = compression.merging(0.4, slots)(q, k, v)
    pool = paged.PagePool(12, compression.PAGE, 1, 8, np.float32)
    heads = dmc.allocate(pool, 1, 2)
    for t in range(40):
        last = [dmc.last_slot(pool, int(s))[0] if pool.length(int(s)) else np.zeros(8, np.float32)
                for s in heads.sequences[0]]
        alpha = compression.cosine(np.stack(last)[None], k[:, :, t]) >= 0.4
        dmc.append(pool, heads, k[:, :, t], v[:, :, t], alpha=alpha, omega=np.ones((1, 2)))
        np.testing.assert_allclose(dmc.decode(q[:, :, t], pool, heads), o[:, :, t], atol=2e-5)
    assert slots == [dmc.lengths(pool, heads)[0].tolist()]
    assert 2 < sum(slots[0]) < 80
    assert size == pool.used_pages * compression.PAGE * 2 * 8 * 2


def test_budgets_are_held():
    q, k, v = made()
    assert compression.streaming(20)(q, k, v)[1] == 24 * 2 * 2 * 8 * 2
    assert compression.heavy_hitters(8, 6)(q, k, v)[1] == 14 * 2 * 2 * 8 * 2
    assert compression.exact(q, k, v)[1] == 90 * 2 * 2 * 8 * 2


def test_the_recording_is_of_the_shipped_model_and_of_every_method():
    recorded = json.loads(compression.RECORDED.read_text("utf-8"))
    remedy = "run: python -m minikernels.bench.compression"
    assert recorded["model"]["digest"] == model.load("mha").digest, remedy
    assert [row["method"] for row in recorded["rows"]] == [method.name for method in compression.METHODS], remedy
    assert compression.README.read_text("utf-8") == compression.in_readme(), remedy


def test_fewer_bits_cost_more_and_keys_by_channel_no_more_in_fewer_bytes():
    cost = {row["method"]: row for row in compression.rows()}
    bits = {name: row["bits_per_byte"] for name, row in cost.items()}
    assert bits["float16"] - 0.001 < bits["int8, keys by channel"] < bits["int4, keys by channel"]
    assert bits["int4, keys by channel"] <= bits["int4, keys by token"]
    assert cost["int4, keys by channel"]["bytes"] < cost["int4, keys by token"]["bytes"]
    sizes = [cost[name]["bytes"] for name in ("float16", "int8, keys by channel", "int4, keys by channel")]
    assert sizes[0] / sizes[1] > 1.7 and sizes[0] / sizes[2] > 3


def test_one_short_window_measured_here_is_near_the_exact_loss():
    tiny, text = model.load("mha"), model.held_out(256)
    cost, size = compression.measure(compression.METHODS[0], tiny, text)
    assert abs(cost - tiny.loss(text)) < 5e-3
    assert size % (4 * 2 * 8 * 32 * 2) == 0
