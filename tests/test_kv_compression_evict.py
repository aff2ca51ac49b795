"""Eviction: which tokens stay, and that decoding over them is attention with the others masked."""

import re

import numpy as np
import pytest

from minikernels import kv_compression
from minikernels.core.errors import DtypeError, ShapeError
from minikernels.kv_compression import evict

over = pytest.mark.parametrize


def probabilities(q, k, causal):
    """Return softmax attention (B, H, T, S) in float64; rows that see no key are 0."""
    k = np.repeat(k, q.shape[1] // k.shape[1], axis=1).astype(np.float64)
    T, S = q.shape[2], k.shape[2]
    seen = np.arange(S) <= np.arange(T)[:, None] + S - T if causal else np.ones((T, S), bool)
    p = np.where(seen, np.exp(q.astype(np.float64) @ k.swapaxes(-1, -2) * q.shape[3] ** -0.5), 0)
    total = p.sum(axis=-1, keepdims=True)
    return p / np.where(total == 0, 1, total)


@over(("S", "sinks", "recent", "kept"), [
    (10, 2, 3, [0, 1, 7, 8, 9]), (10, 4, 6, range(10)), (10, 4, 7, range(10)), (3, 4, 2, range(3)), (0, 4, 2, []),
    (10, 0, 2, [8, 9]), (10, 3, 0, [0, 1, 2]), (5, 2, 100, range(5)), (1, 0, 0, []),
])
def test_streaming_keeps_the_first_and_the_newest(S, sinks, recent, kept):
    found = evict.streaming(S, sinks=sinks, recent=recent)
    assert found.dtype == np.int64
    assert found.tolist() == list(kept)


@over(("S", "keep", "recent"), [(10, 3, 2), (10, 0, 4), (10, 4, 0), (10, 10, 10), (7, 2, 9), (0, 2, 2), (9, 30, 2)])
def test_heavy_hitters_keep_the_newest_and_the_heaviest_of_the_others(S, keep, recent):
    mass = np.random.default_rng(0).random((2, 3, S)).astype(np.float32)
    kept = evict.heavy_hitters(mass, keep=keep, recent=recent)
    assert kept.shape == (2, 3, min(S, keep + recent))
    for b, g in np.ndindex(2, 3):
        old = max(0, S - recent)
        heaviest = sorted(range(old), key=lambda s: -mass[b, g, s])[:keep]
        assert kept[b, g].tolist() == sorted(heaviest) + list(range(old, S))


def test_of_equally_heavy_tokens_the_older_stay():
    assert evict.heavy_hitters(np.ones((1, 1, 6)), keep=2, recent=1).tolist() == [[[0, 1, 5]]]


@over("dtype", ["float16", "float32", "float64"])
@over(("B", "H", "G", "T", "S", "D", "causal"), [
    (1, 4, 2, 300, 300, 8, True), (2, 3, 3, 5, 9, 4, True), (1, 4, 1, 9, 5, 4, True), (1, 2, 1, 270, 7, 3, False),
])
def test_attention_mass_is_the_sum_of_probabilities(B, H, G, T, S, D, causal, dtype):
    rng = np.random.default_rng(1)
    q, k = rng.standard_normal((B, H, T, D)).astype(dtype), rng.standard_normal((B, G, S, D)).astype(dtype)
    mass = evict.attention_mass(q, k, causal=causal)
    assert mass.dtype == np.result_type(dtype, np.float32)
    expected = probabilities(q, k, causal).reshape(B, G, H // G, T, S).sum(axis=(2, 3))
    np.testing.assert_allclose(mass, expected, rtol=1e-4)
    seeing = H * min(T, S) if causal else H * T
    np.testing.assert_allclose(mass.sum(axis=(1, 2)), seeing, rtol=1e-5)


@over("policy", ["streaming", "heavy_hitters"])
def test_decoding_over_what_was_kept_is_attention_with_the_rest_masked(policy):
    rng = np.random.default_rng(2)
    q, k, v = (rng.standard_normal((2, n, 40, 8)).astype(np.float32) for n in (4, 2, 2))
    if policy == "streaming":
        kept = evict.streaming(40, sinks=4, recent=9)
    else:
        kept = evict.heavy_hitters(evict.attention_mass(q, k), keep=6, recent=5)
    caches = (kv_compression.quantize(evict.take(x, kept), bits=8, axis="token", group=64) for x in (k, v))
    o = kv_compression.decode(np.ascontiguousarray(q[:, :, -1]), *caches)  # fewer than 64 tokens: as they came
    for b, h in np.ndindex(2, 4):
        own = kept if kept.ndim == 1 else kept[b, h // 2]
        score = k[b, h // 2, own] @ q[b, h, -1] * 8**-0.5
        p = np.exp(score - score.max())
        np.testing.assert_allclose(o[b, h], p / p.sum() @ v[b, h // 2, own], atol=1e-5)


def test_a_budget_is_held_when_a_token_is_dropped_after_each_step():
    rng = np.random.default_rng(3)
    q, k = rng.standard_normal((1, 2, 30, 4)), rng.standard_normal((1, 1, 30, 4))
    held, mass = k[:, :, :0], np.zeros((1, 1, 0))
    for t in range(30):
        held = np.concatenate((held, k[:, :, t : t + 1]), axis=2)
        mass = np.append(mass, np.zeros((1, 1, 1)), axis=2)
        mass += evict.attention_mass(q[:, :, t : t + 1], held)
        kept = evict.heavy_hitters(mass, keep=5, recent=3)
        held, mass = evict.take(held, kept), evict.take(mass, kept)
        assert held.shape[2] == min(t + 1, 8)
    np.testing.assert_array_equal(held[:, :, -3:], k[:, :, -3:])


def test_take_cuts_keys_values_and_masses():
    x = np.arange(24).reshape(1, 2, 4, 3).astype(np.float32)
    np.testing.assert_array_equal(evict.take(x, np.array([0, 3])), x[:, :, [0, 3]])
    each = np.array([[[0, 2], [1, 3]]])
    np.testing.assert_array_equal(evict.take(x, each)[0, 1], x[0, 1, [1, 3]])
    np.testing.assert_array_equal(evict.take(x[..., 0], each)[0, 1], x[0, 1, [1, 3], 0])
    assert evict.take(x, np.zeros((1, 2, 0), np.int64)).shape == (1, 2, 0, 3)


@over(("call", "error", "message"), [
    (lambda: evict.streaming(-1, recent=2), ShapeError, "S is -1; it must be at least 0"),
    (lambda: evict.streaming(5, recent=-2), ShapeError, "recent is -2; it must be at least 0"),
    (lambda: evict.streaming(5, recent=2.5), DtypeError, "recent is 2.5; it must be a whole number"),
    (lambda: evict.heavy_hitters(np.ones((2, 3)), keep=1, recent=1), ShapeError, "mass has shape (2, 3), 2 axes"),
    (lambda: evict.heavy_hitters(np.ones((1, 1, 3), int), keep=1, recent=1), DtypeError, "mass has dtype int64"),
    (lambda: evict.heavy_hitters(np.ones((1, 1, 3)), keep=-1, recent=1), ShapeError, "keep is -1"),
    (lambda: evict.take(np.ones((1, 1, 3, 2)), np.array([3])), ShapeError, "token 3; there are 0 to S - 1 = 2"),
    (lambda: evict.take(np.ones((1, 1, 3, 2)), np.array([[[-1]]])), ShapeError, "kept names token -1"),
    (lambda: evict.take(np.ones((1, 1, 3, 2)), np.array([0.5])), DtypeError, "kept has dtype float64"),
    (lambda: evict.take(np.ones((1, 2, 3, 2)), np.array([[[1]]])), ShapeError, "G=1 must equal G=2"),
    (lambda: evict.attention_mass(np.ones((1, 3, 2, 2)), np.ones((1, 2, 2, 2))), ShapeError, "G=2 must divide H=3"),
])
def test_what_cannot_be_is_refused(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
