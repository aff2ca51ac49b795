import numpy as np
import pytest

from minikernels.core import numerics

SIZES = [(1, 1), (3, 3), (2, 5), (5, 2), (4, 0), (0, 4), (7, 1)]
ids = [f"T{T}-S{S}" for T, S in SIZES]


@pytest.mark.parametrize(("T", "S"), SIZES, ids=ids)
def test_causal_mask_is_aligned_bottom_right(T, S):
    mask = numerics.causal_mask(np.arange(T), np.arange(S), T, S)
    assert mask.tolist() == [[s <= t + S - T for s in range(S)] for t in range(T)]


@pytest.mark.parametrize(("T", "S"), SIZES, ids=ids)
def test_keys_seen_counts_the_mask(T, S):
    mask = numerics.causal_mask(np.arange(T), np.arange(S), T, S)
    assert numerics.keys_seen(T, S, True).tolist() == mask.sum(axis=1).tolist()
    assert numerics.keys_seen(T, S, False).tolist() == [S] * T


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_softmax_keeps_the_dtype_and_sums_to_one(dtype):
    scores = np.random.default_rng(0).standard_normal((3, 50)).astype(dtype) * 20
    p, lse = numerics.softmax(scores)
    assert p.dtype == lse.dtype == dtype
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(p.sum(axis=-1, dtype=np.float64), 1, rtol=8 * eps)
    exact = np.log(np.sum(np.exp(scores.astype(np.float64)), axis=-1))
    np.testing.assert_allclose(lse.astype(np.float64), exact, rtol=4 * eps)


def test_softmax_of_large_scores_does_not_overflow():
    p, lse = numerics.softmax(np.array([1e4, 1e4], np.float32))
    assert p.tolist() == [0.5, 0.5]
    assert lse == np.float32(1e4 + np.log(2))


@pytest.mark.parametrize("S", [0, 3])
def test_a_row_that_sees_nothing_gives_zeros_and_minus_infinity(S):
    p, lse = numerics.softmax(np.full((2, S), -np.inf, np.float32))
    assert not p.any()
    assert np.all(lse == -np.inf)


def test_nan_and_plus_infinity_come_out_as_numpy_would_give_them():
    with np.errstate(invalid="ignore"):
        assert np.isnan(numerics.softmax(np.array([1.0, np.nan]))[0]).all()
        assert np.isnan(numerics.softmax(np.array([1.0, np.inf]))[0][1])


def test_merging_parts_of_the_keys_equals_the_whole():
    rng = np.random.default_rng(1)
    scores, v = rng.standard_normal((4, 9)), rng.standard_normal((9, 5))

    def part(keys):
        m = scores[:, keys].max(axis=-1, initial=-np.inf)
        p = np.exp(scores[:, keys] - numerics.shift(m)[:, None])
        return m, p.sum(axis=-1), p @ v[keys]

    whole = numerics.finish(*part(slice(0, 9)))
    parts = [part(slice(0, 2)), part(slice(2, 2)), part(slice(2, 9))]  # one of them empty
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        a, b, c = (parts[i] for i in order)
        for merged in (numerics.merge(numerics.merge(a, b), c), numerics.merge(a, numerics.merge(b, c))):
            for x, expected in zip(numerics.finish(*merged), whole):
                np.testing.assert_allclose(x, expected, rtol=1e-13)


def test_accumulators_are_float32_or_wider():
    assert [numerics.accumulator(np.dtype(d)).name for d in ("float16", "float32", "float64")] == [
        "float32", "float32", "float64"]
    assert np.exp2(numerics.LOG2E) == pytest.approx(np.e, rel=1e-15)
    assert numerics.LN2 * numerics.LOG2E == pytest.approx(1, rel=1e-15)
