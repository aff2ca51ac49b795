"""The worked variants, each against its equation: TransNormer's gradients, ABC's memory, continual attention."""

import numpy as np
import pytest

from minikernels import linear_attention as la
from minikernels.core.errors import ShapeError
from minikernels.core.numerics import softmax
from minikernels.linear_attention import bounded, continual, reference, transnormer

over = pytest.mark.parametrize


def streams(count, T, D, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal((count, T, D)).astype(dtype)


def heads(count, *shape, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def test_gradients_of_divided_weights_grow_as_scores_shrink_and_those_of_softmax_do_not():
    scores = np.random.default_rng(0).random((20, 12)) + 0.1
    by_softmax, by_division = transnormer.weight_gradients(scores)
    assert (by_softmax <= 0.25).all()
    for shrink in (1e-2, 1e-4, 1e-6):
        smaller = transnormer.weight_gradients(shrink * scores)
        assert (smaller[0] <= 0.25).all()
        np.testing.assert_allclose(smaller[1], by_division / shrink, rtol=1e-9)


def test_weight_gradients_are_derivatives():
    scores = np.random.default_rng(1).random(6) + 0.2
    for weights, found in zip((lambda s: softmax(s)[0], lambda s: s / s.sum()), transnormer.weight_gradients(scores),
                              strict=True):
        steps = 1e-6 * np.eye(6)
        slopes = np.array([(weights(scores + step) - weights(scores - step)) / 2e-6 for step in steps])
        assert abs(np.abs(slopes).max() - found) < 1e-6


def test_a_normalised_output_bounds_the_gradient_and_a_division_does_not():
    rng = np.random.default_rng(2)
    scores, v = rng.random(10) + 0.1, rng.standard_normal((10, 8))
    bound = 2 * np.abs(v).max() * np.sqrt(8 / transnormer.EPSILON)
    sizes = [transnormer.output_gradients(shrink * scores, v) for shrink in (1, 1e-4, 1e-8, 1e-12)]
    assert all(by_norm <= bound for _, by_norm in sizes)
    assert sizes[-1][1] < 2 * sizes[-2][1]  # it has stopped growing
    assert sizes[-1][0] == pytest.approx(1e12 * sizes[0][0], rel=1e-6)


def test_output_gradients_are_derivatives():
    rng = np.random.default_rng(3)
    scores, v = rng.random(5) + 0.5, rng.standard_normal((5, 4))
    forms = (lambda s: s @ v / s.sum(), lambda s: transnormer.srms_norm(s @ v))
    for form, found in zip(forms, transnormer.output_gradients(scores, v), strict=True):
        slopes = [(form(scores + step) - form(scores - step)) / 2e-6 for step in 1e-6 * np.eye(5)]
        assert abs(np.abs(slopes).max() - found) < 1e-6


def test_divided_attention_is_a_mean_and_normalised_attention_has_unit_size():
    q, k, v = heads(3, 2, 3, 30, 8)
    o = transnormer.divided(q, k, v)
    assert (o.max(axis=-1) <= v.max() + 1e-4).all() and (o.min(axis=-1) >= v.min() - 1e-4).all()
    np.testing.assert_allclose(transnormer.divided(q, k, np.ones_like(v)), 1, rtol=1e-5)
    sizes = np.sqrt(np.mean(transnormer.normalised(q, k, v, decay=np.exp(-la.slopes(3))) ** 2, axis=-1))
    np.testing.assert_allclose(sizes, 1, rtol=1e-3)


@over("block", [1, 7, 16, 100])
def test_diagonal_blocks_see_their_own_past_alone(block):
    q, k, v = heads(3, 1, 2, 45, 8)
    o = transnormer.diagonal_blocks(q, k, v, block)
    for t in (0, 6, 7, 20, 44):
        past = slice(t // block * block, t + 1)
        p = softmax(q[:, :, t, None] @ k[:, :, past].swapaxes(-1, -2) / np.sqrt(8))[0]
        np.testing.assert_allclose(o[:, :, t], (p @ v[:, :, past])[:, :, 0], rtol=0, atol=1e-6)


def test_rotary_phases_depend_on_distance_alone_and_go_into_the_state():
    q, k, v = heads(3, 1, 1, 20, 6)
    theta, decay = np.array([0.3, 0.1, 0.02]), np.array([0.9], np.float32)
    o = la.attention(transnormer.rotate(q, theta), transnormer.rotate(k, theta), v, decay=decay)
    pairs_of = [(x[0, 0, :, :3] + 1j * x[0, 0, :, 3:]).astype(complex) for x in (q, k)]
    for t in (0, 5, 19):
        s = np.arange(t + 1)
        phase = np.exp(1j * np.outer(t - s, theta))
        score = np.real(np.sum(pairs_of[0][t] * np.conj(pairs_of[1][s]) * phase, axis=1)) * 0.9 ** (t - s)
        np.testing.assert_allclose(o[0, 0, t], score @ v[0, 0, : t + 1], rtol=0, atol=1e-4)


def test_the_units_of_transnormerllm():
    q, k, v, u = heads(4, 1, 2, 9, 6)
    decay = np.exp(-la.slopes(2))
    o = transnormer.gated(q, k, v, u, decay)
    plain, _ = reference.attention(q, k, v, decay, None, 1.0)
    np.testing.assert_allclose(o, transnormer.srms_norm(plain) * u, rtol=1e-4, atol=1e-4)
    assert transnormer.gated(q, k, v, u, decay, theta=np.ones(3)).shape == o.shape
    x, w = heads(1, 5, 4)[0], heads(2, 4, 7)
    np.testing.assert_allclose(transnormer.sglu(x, w[0], w[1], w[0].T), (x @ w[0] * (x @ w[1])) @ w[0].T)


def test_abc_is_attention_over_weighted_means():
    q, k, v = streams(3, 30, 8)
    log_phi = 3 * np.random.default_rng(1).standard_normal((30, 5)).astype(np.float32)
    o = bounded.attention(q, k, v, log_phi)
    for t in (0, 1, 12, 29):
        phi = softmax(log_phi[: t + 1].T.astype(np.float64))[0]  # (M, t + 1)
        expected = softmax(q[t] @ (phi @ k[: t + 1]).T * 8**-0.5)[0] @ (phi @ v[: t + 1])
        np.testing.assert_allclose(o[t], expected, rtol=0, atol=2e-6)


def test_abc_over_no_columns_is_empty():
    q = np.zeros((3, 0), np.float32)
    assert bounded.attention(q, q, q, np.zeros((3, 2), np.float32)).shape == (3, 0)


def test_as_many_slots_as_tokens_are_softmax_attention():
    q, k, v = streams(3, 12, 4)
    o = bounded.attention(q, k, v, bounded.one_hot(range(12), 12))
    expected = [softmax(q[t] @ k[: t + 1].T / 2)[0] @ v[: t + 1] for t in range(12)]
    np.testing.assert_allclose(o, expected, rtol=0, atol=1e-6)


@over("M", [1, 4, 9])
def test_a_window_is_a_choice_of_slots(M):
    q, k, v = streams(3, 40, 8)
    o = bounded.attention(q, k, v, bounded.window(40, M))
    expected = [continual.attention(q[: t + 1], k[: t + 1], v[: t + 1], M)[-1] for t in range(40)]
    np.testing.assert_allclose(o, expected, rtol=0, atol=2e-6)


def test_large_strengths_do_not_overflow_and_an_empty_memory_gives_zero():
    q, k, v = streams(3, 6, 4)
    log_phi = np.array([[-1e4], [500], [-500], [1e4], [1e4], [0]], np.float32)
    assert np.isfinite(bounded.attention(q, k, v, log_phi)).all()
    assert not bounded.Memory(3, 4).read(q[0], 1.0).any()
    with pytest.raises(ShapeError, match=r"log_phi has shape \(5, 1\) = \(T, M\); T=5 must equal T=6 of q"):
        bounded.attention(q, k, v, log_phi[:5])


def test_bounded_memory_is_bounded():
    q, k, v = streams(3, 200, 8)
    memory, sizes = bounded.Memory(6, 8), set()
    for t in range(200):
        memory.write(k[t], v[t], np.zeros(6, np.float32))
        sizes.add(memory.nbytes)
    assert sizes == {4 * (6 + 6 + 2 * 6 * 8)}


@over("length", [1, 5, 32, 500])
def test_retroactive_outputs_are_those_of_the_whole_window(length):
    q, k, v = streams(3, 90, 8)
    moving = continual.Retroactive(length, 8)
    for t in range(90):
        o = moving.step(q[t], k[t], v[t])
        part = [x[: t + 1].astype(np.float64) for x in (q, k, v)]
        np.testing.assert_allclose(o, continual.attention(*part, length), rtol=0, atol=5e-6)


def test_float32_drifts_where_the_strongest_key_leaves_and_a_fresh_sum_mends_it():
    q, k, v = streams(3, 300, 16)
    worst = {}
    for refresh in (False, True):
        moving, errors = continual.Retroactive(40, 16, refresh=refresh), []
        for t in range(300):
            o = moving.step(4 * q[t], k[t], v[t])
            part = [x[: t + 1].astype(np.float64) for x in (4 * q, k, v)]
            errors.append(np.abs(o - continual.attention(*part, 40)).max())
        worst[refresh] = max(errors)
        assert bool(moving.anew) == refresh
    assert worst[True] < 1e-3 < worst[False]


@over("M", [2, 8])
@over("length", [1, 16, 64])
def test_nystrom_steps_are_its_equation_over_the_window(M, length):
    q, k, v = streams(3, 150, 8)
    marks = continual.landmarks(q[:64], M), continual.landmarks(k[:64], M)
    moving = continual.Nystrom(*marks, length)
    for t in range(150):
        o = moving.step(q[t], k[t], v[t])
        first = max(0, t + 1 - length)
        wide = [x[first : t + 1].astype(np.float64) for x in (q, k, v)]
        expected = continual.nystrom(*wide, *(x.astype(np.float64) for x in marks))[-1]
        np.testing.assert_allclose(o, expected, rtol=0, atol=1e-4)


def test_landmarks_can_be_moved_on_the_way():
    q, k, v = streams(3, 60, 8)
    moving = continual.Nystrom(continual.landmarks(q[:20], 4), continual.landmarks(k[:20], 4), 30)
    for t in range(50):
        moving.step(q[t], k[t], v[t])
    marks = continual.landmarks(q[20:50], 4), continual.landmarks(k[20:50], 4)
    moving.move(*marks)
    o = moving.step(q[50], k[50], v[50])
    np.testing.assert_allclose(o, continual.nystrom(q[21:51], k[21:51], v[21:51], *marks)[-1], rtol=0, atol=1e-4)


def test_as_many_landmarks_as_tokens_approximate_attention():
    q, k, v = streams(3, 10, 4, dtype="float64")
    marks = continual.landmarks(q, 10), continual.landmarks(k, 10)
    many = continual.nystrom(q, k, v, *marks)
    few = continual.nystrom(q, k, v, *(continual.landmarks(x, 2) for x in (q, k)))
    exact = continual.attention(q, k, v, 10)
    assert np.abs(many - exact).mean() < np.abs(few - exact).mean()


def test_the_pseudo_inverse_converges_to_numpys():
    a = softmax(np.random.default_rng(0).standard_normal((6, 6)))[0]
    np.testing.assert_allclose(continual.pseudo_inverse(a, steps=20), np.linalg.pinv(a), rtol=1e-6, atol=1e-8)
    errors = [np.abs(continual.pseudo_inverse(a, n) @ a - np.eye(6)).max() for n in (2, 4, 6, 8)]
    assert errors == sorted(errors, reverse=True)


@over(("call", "message"), [
    (lambda: continual.Retroactive(0, 4), "a window of 0 tokens holds nothing"),
    (lambda: continual.landmarks(np.zeros((3, 2)), 4), "M=4 landmarks of T=3 tokens; there are 1 to T"),
])
def test_what_holds_nothing_is_refused(call, message):
    with pytest.raises(ShapeError, match=message):
        call()
