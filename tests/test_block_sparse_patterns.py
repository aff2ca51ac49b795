"""Patterns keep the blocks that their rule for cells asks for; the gate scores blocks; DBA is linear in tokens."""

import re

import numpy as np
import pytest

from minikernels.block_sparse import dba, distill, gate, lists, patterns
from minikernels.core.errors import DeviceError, DtypeError, ShapeError

over = pytest.mark.parametrize
SIZES = [(1, 1, (1, 1)), (7, 7, (2, 2)), (13, 21, (4, 3)), (21, 13, (5, 8)), (16, 16, (16, 16)), (9, 30, (2, 16))]
RULES = {  # pattern -> options, and whether query t sees key s, `distance` being t + S - T - s
    "local": ({"window": 3}, lambda distance, s: abs(distance) < 3),
    "strided": ({"window": 2, "stride": 5}, lambda distance, s: abs(distance) < 2 or distance % 5 == 0),
    "streaming": ({"sinks": 2, "window": 4}, lambda distance, s: 0 <= distance < 4 or s < 2),
}


@over("T, S, block", SIZES)
@over("name", RULES)
def test_a_pattern_keeps_the_blocks_that_hold_a_cell_of_its_rule(name, T, S, block):
    options, rule = RULES[name]
    mask = getattr(patterns, name)(T, S, block=block, **options)
    assert (mask.shape, mask.dtype) == ((1, 1, -(-T // block[0]), -(-S // block[1])), np.bool_)
    wanted = np.zeros(mask.shape[2:], bool)
    for t, s in np.ndindex(T, S):
        wanted[t // block[0], s // block[1]] |= rule(t + S - T - s, s)
    np.testing.assert_array_equal(mask[0, 0], wanted)


@over("T, S, block", SIZES)
def test_bigbird_is_window_global_and_random(T, S, block):
    without = patterns.bigbird(T, S, block=block, window=2, anchors=3, extra=0)[0, 0]
    local = patterns.local(T, S, block=block, window=2)[0, 0]
    rows, columns = -(-3 // block[0]), -(-3 // block[1])
    assert without[:rows].all() and without[:, :columns].all()
    np.testing.assert_array_equal(without[rows:, columns:], local[rows:, columns:])
    given = {"block": block, "window": 2, "anchors": 3, "extra": 2, "heads": 3, "seed": 1}
    mask = patterns.bigbird(T, S, **given)
    assert mask.shape[:2] == (1, 3)
    assert (mask | ~without).all()
    assert (mask.sum(axis=3) <= without.sum(axis=1) + 2).all()
    np.testing.assert_array_equal(mask, patterns.bigbird(T, S, **given))


@over("density, kept", [(0.0, 0), (0.01, 1), (0.25, 2), (0.5, 5), (1.0, 9)])
def test_random_keeps_its_density_in_every_row(density, kept):
    mask = patterns.random(40, 72, block=(8, 8), density=density, batch=2, heads=3)
    assert mask.shape == (2, 3, 5, 9)
    assert abs(mask.sum(axis=3) - kept).max() <= (density == 0.5)  # 4.5 rounds to 4
    if 0 < density < 1:
        assert len(np.unique(mask.reshape(6, -1), axis=0)) == 6


def test_what_is_no_pattern_is_refused():
    given = {"block": (4, 4)}
    for call, message in [
        (lambda: patterns.local(8, 8, window=-1, **given), "window is -1; it must be an integer of at least 0"),
        (lambda: patterns.local(8.0, 8, window=1, **given), "T is 8.0; it must be an integer"),
        (lambda: patterns.strided(8, 8, window=1, stride=0, **given), "stride is 0; it must be an integer of at least"),
        (lambda: patterns.local(8, 8, window=1, block=(4,)), "block is (4,); it must be (R, C)"),
        (lambda: patterns.random(8, 8, density=1.5, **given), "density is 1.5; it must be a number from 0 to 1"),
        (lambda: patterns.random(8, 8, density="all", **given), "density is 'all'; it must be a number"),
        (lambda: patterns.random(8, 8, density=0.5, heads=0, **given), "heads is 0; it must be an integer"),
    ]:
        with pytest.raises(ShapeError, match=re.escape(message)):
            call()


def layer(T=40, S=40, H=4, G=2, D=6, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in ((2, H, T, D), (2, G, S, D)))


@over("block", [(8, 8), (16, 5), (7, 9)])
@over("causal", [False, True])
@over("T, S", [(40, 40), (33, 50), (50, 33)])
def test_gate_scores_are_the_equation(T, S, causal, block):
    q, k = layer(T, S, dtype="float64")
    weights = gate.Gate(*np.random.default_rng(1).normal(0, 0.3, (2, 4, 18, 5)))
    found = gate.scores(q, k, block, weights, causal)
    for b, h in np.ndindex(2, 4):
        rows, columns = (
            [np.concatenate([p.mean(0), p.max(0), p.min(0)]) for p in np.split(x, range(size, len(x), size))]
            for x, size in ((q[b, h], block[0]), (k[b, h // 2], block[1])))
        logits = (rows @ weights.query[h]) @ (columns @ weights.key[h]).T / np.sqrt(5)
        seen, _ = lists.reach(q, T, S, block, causal)
        wanted = np.where(seen, np.exp(logits), 0)
        total = wanted.sum(1, keepdims=True)
        np.testing.assert_allclose(found[b, h], wanted / np.where(total == 0, 1, total), rtol=0, atol=1e-12)


def test_a_window_of_no_token_keeps_no_block():
    for T, S, block in [(8, 8, (2, 2)), (7, 12, (3, 2)), (9, 4, (1, 4))]:
        assert not patterns.local(T, S, block=block, window=0).any()
        assert not patterns.streaming(T, S, block=block, sinks=0, window=0).any()
        assert not patterns.bigbird(T, S, block=block, window=0, anchors=0, extra=0).any()
    np.testing.assert_array_equal(patterns.streaming(8, 8, block=(2, 2), sinks=1, window=0)[0, 0].sum(axis=1), [1] * 4)
    far = patterns.strided(8, 8, block=(1, 1), window=0, stride=3)[0, 0, 7]
    np.testing.assert_array_equal(far, [0, 1, 0, 0, 1, 0, 0, 1])


def test_a_share_that_is_a_whole_number_of_blocks_keeps_so_many():
    score = np.random.default_rng(0).random((1, 1, 100, 100))
    for density, count in [(0.07, 7), (0.14, 14), (0.28, 28), (0.55, 55), (0.071, 8), (1e-15, 1), (1.0, 100), (1, 100)]:
        kept = patterns.best(score, 100, 100, (1, 1), density=density, causal=False)
        assert set(kept.sum(axis=3).ravel()) == {count}
    assert patterns.best(score, 100, 100, (1, 1), density=0.07)[0, 0, 99].sum() == 7


def test_from_gate_keeps_the_best_blocks_and_the_diagonal():
    q, k = layer(64, 64)
    score = gate.scores(q, k, (8, 8), None, True)
    mask = patterns.from_gate(q, k, block=(8, 8), top_k=3)
    assert mask.shape == (2, 4, 8, 8)
    assert mask[..., np.arange(8), np.arange(8)].all()
    np.testing.assert_array_equal(mask.sum(axis=3), np.broadcast_to(np.minimum(3, np.arange(1, 9)), (2, 4, 8)))
    for b, h, i in np.ndindex(2, 4, 8):
        others = np.delete(np.arange(i + 1), i)
        best = others[np.argsort(-score[b, h, i, others], kind="stable")[:2]]
        assert sorted(best) == [j for j in np.flatnonzero(mask[b, h, i]) if j != i]
    half = patterns.from_gate(q, k, block=(8, 8), density=0.5)
    np.testing.assert_array_equal(half.sum(axis=3)[0, 0], [1, 1, 2, 2, 3, 3, 4, 4])
    by_share = patterns.from_gate(q, k, block=(8, 8), threshold=0.2)
    wanted = (score >= 0.2) | np.eye(8, dtype=bool)
    np.testing.assert_array_equal(by_share, wanted & np.tri(8, dtype=bool))


def test_from_gate_with_ragged_blocks_keeps_every_block_on_the_diagonal():
    q, k = layer(50, 70)
    mask = patterns.from_gate(q, k, block=(16, 10), top_k=1)
    for t in range(50):
        assert mask[:, :, t // 16, (t + 20) // 10].all()


def test_what_is_no_gate_is_refused():
    q, k = layer()
    for given, message in [({}, "give one of top_k, density and threshold"), ({"top_k": 1, "density": 0.1}, "give one"),
                           ({"top_k": -1}, "top_k is -1"), ({"threshold": 2.0}, "threshold is 2.0")]:
        with pytest.raises(ShapeError, match=message):
            patterns.from_gate(q, k, block=(8, 8), **given)
    with pytest.raises(ShapeError, match=re.escape("gate.query has shape (8, 18, 6); it must be (H, 3*D, W) with H=4")):
        patterns.from_gate(q, k, block=(8, 8), top_k=1, gate=gate.untrained(8, 6))
    narrow, wide, none = (np.zeros((4, 18, W), np.float32) for W in (3, 5, 0))
    with pytest.raises(ShapeError, match="gate.query has W=3 and gate.key W=5; they must be equal, and not 0"):
        patterns.from_gate(q, k, block=(8, 8), top_k=1, gate=gate.Gate(narrow, wide))
    with pytest.raises(ShapeError, match="gate.query has W=0 and gate.key W=0"):
        patterns.from_gate(q, k, block=(8, 8), top_k=1, gate=gate.Gate(none, none))
    with pytest.raises(ShapeError, match="G=3 must divide H=4"):
        gate.scores(q, k[:, [0, 1, 1]], (8, 8))
    class Elsewhere:
        shape, dtype = k.shape, k.dtype

    with pytest.raises(DeviceError, match="k is no NumPy array, and the gate is NumPy's alone; pass cupy"):
        gate.scores(q, Elsewhere(), (8, 8))
    with pytest.raises(DtypeError, match="q has dtype int64"):
        gate.scores(q.astype(int), k.astype(int), (8, 8))


def test_an_empty_layer_has_an_empty_mask():
    q, k = layer(0, 0)
    assert patterns.from_gate(q, k, block=(8, 8), top_k=1).shape == (2, 4, 0, 0)


def test_distilled_targets_are_pooled_attention():
    q, k = layer(24, 24, H=2, G=1)
    p = distill.probabilities(q, k, causal=True)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
    for pool, pick in (("mass", np.sum), ("max", np.max)):
        target = distill.target(p, (8, 8), pool)
        for b, h, i, j in np.ndindex(target.shape):
            pooled = [pick(p[b, h, i * 8 : i * 8 + 8, n * 8 : n * 8 + 8]) for n in range(3)]
            assert np.isclose(target[b, h, i, j], pooled[j] / sum(pooled))
    with pytest.raises(ValueError, match="pool is 'mean'; it is 'mass' or 'max'"):
        distill.target(p, (8, 8), "mean")


def test_the_gradient_is_the_difference_quotient():
    q, k = layer(24, 24, H=2, G=1, dtype="float64")
    sample = distill.Sample.of(q, k, (8, 8))
    weights = gate.Gate(*np.random.default_rng(2).standard_normal((2, 2, 18, 3)))
    _, slopes = distill.loss(weights, sample)
    for n, name in enumerate(weights._fields):
        for at in ((0, 1, 2), (1, 7, 0), (1, 17, 1)):
            moved = []
            for step in (1e-5, -1e-5):
                w = [x.copy() for x in weights]
                w[n][at] += step
                moved.append(distill.loss(gate.Gate(*w), sample)[0])
            assert np.isclose(slopes[n][at], (moved[0] - moved[1]) / 2e-5, rtol=1e-4, atol=1e-8), name


def test_training_finds_where_attention_goes():
    """Queries look for keys of two blocks in eight, which a mean does not show: their entries cancel."""
    rng = np.random.default_rng(3)
    samples = []
    for _ in range(6):
        q, k = (rng.normal(0, 0.1, (1, 2, 64, 8)) for _ in "qk")
        q[..., 0] = 3.0
        for j in rng.choice(8, 2, replace=False):
            k[:, :, 8 * j, 0], k[:, :, 8 * j + 1, 0] = 4.0, -4.0
        samples.append(distill.Sample.of(q, k, (8, 8), causal=False))
    start = gate.untrained(2, 8)
    trained, losses = distill.train(samples[:5], start, steps=60)
    assert losses[-1] < 0.5 * losses[0]
    before, after = (distill.loss(w, samples[5])[0] for w in (start, trained))
    assert after < 0.6 * before
    again, _ = distill.train(samples[:5], start, steps=60)
    np.testing.assert_array_equal(trained.query, again.query)


def test_recall_is_the_share_of_attention_in_kept_blocks():
    q, k = layer(32, 32, H=2, G=2)
    p = distill.probabilities(q, k, causal=True)
    everything = np.ones((2, 2, 4, 4), bool)
    assert np.isclose(distill.recall(p, everything, (8, 8)), 1)
    assert distill.recall(p, ~everything, (8, 8)) == 0
    diagonal = everything & np.eye(4, dtype=bool)
    own = np.mean([p[..., i : i + 8, i : i + 8].sum(-1).mean() for i in range(0, 32, 8)])
    assert np.isclose(distill.recall(p, diagonal, (8, 8)), own)


@over("T", [1, 7, 40])
def test_dba_is_three_softmaxes(T):
    x = np.random.default_rng(0).standard_normal((2, T, 12))
    w = dba.random_weights(12, L=5, N=4, W=6, dtype="float64")
    found = dba.attention(x, w)

    def softmax(s):
        return np.exp(s) / np.exp(s).sum(-1, keepdims=True)

    for b in range(2):
        c = softmax(w.rows @ w.row_query @ (x[b] @ w.key).T / 2) @ (x[b] @ w.value)
        a = softmax(c @ w.inner_query @ (c @ w.inner_key).T / 2) @ (c @ w.inner_value)
        np.testing.assert_allclose(found[b], softmax(x[b] @ w.expand) @ a, rtol=0, atol=1e-12)


def test_dba_maps_depend_on_the_input_and_have_low_rank():
    x = np.random.default_rng(0).standard_normal((2, 50, 12))
    w = dba.random_weights(12, L=5, dtype="float64")
    gather, expand = dba.maps(x, w)
    assert not np.allclose(gather[0], gather[1])
    np.testing.assert_allclose(gather.sum(-1), 1)
    np.testing.assert_allclose(expand.sum(-1), 1)
    assert np.linalg.matrix_rank(expand[0] @ gather[0]) == 5
    order = np.random.default_rng(1).permutation(50)
    np.testing.assert_allclose(dba.attention(x[:, order], w), dba.attention(x, w)[:, order], atol=1e-12)


def test_dba_work_is_linear_in_tokens_and_errors_are_told():
    small, large = (dba.work(1, T, 128) for T in (1024, 2048))
    assert 1.9 < large / small < 2
    w = dba.random_weights(12)
    assert dba.attention(np.zeros((2, 0, 12), np.float32), w).shape == (2, 0, 16)
    with pytest.raises(ShapeError, match=re.escape("x has shape (2, 3, 9) = (B, T, M); M=9 must equal M=12")):
        dba.attention(np.zeros((2, 3, 9), np.float32), w)
    with pytest.raises(DtypeError, match="x has dtype float64 and rows has float32|rows has dtype float32 and x has"):
        dba.attention(np.zeros((2, 3, 12)), w)


@pytest.mark.parametrize("name", dba.Weights._fields)
def test_dba_names_the_weights_that_do_not_fit(name):
    x, w = np.zeros((2, 3, 12), np.float32), dba.random_weights(12, L=5, N=4, W=6)
    for change in (lambda a: a[:-1], lambda a: a[:, :-1], lambda a: a[0]):
        with pytest.raises(ShapeError, match=r"(x|has shape).*\((L|M|W|B)"):
            dba.attention(x, w._replace(**{name: change(getattr(w, name))}))
