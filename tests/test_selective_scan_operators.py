"""One operator, three uses: prefix scans, attention as an RNN, the merging of split keys; and SPADE's toy."""

import numpy as np
import pytest

from minikernels import gqa
from minikernels.core.errors import ShapeError
from minikernels.core.numerics import finish, softmax
from minikernels.selective_scan import aaren, operators, reference, spade
from tests.selective_scan_cases import made

LENGTHS = [0, 1, 2, 3, 5, 8, 13, 32, 33, 100]
over = pytest.mark.parametrize


def pairs(n, rng):
    return rng.random((n, 3)), rng.standard_normal((n, 3))


def states(n, rng):
    return rng.standard_normal((n, 2)) * 30, np.ones((n, 2)), rng.standard_normal((n, 2, 4))


@over("leaves", [pairs, states])
@over("operator", ["hillis_steele", "blelloch"])
@over("n", LENGTHS)
def test_every_scan_gives_the_prefixes(operator, leaves, n):
    rng = np.random.default_rng(n)
    combine = operators.affine if leaves is pairs else operators.softmax
    given = leaves(n, rng)
    before = [x.copy() for x in given]
    expected, _ = operators.sequential(combine, given)
    found, cost = operators.SCANS[operator](combine, given)
    for x, y, kept, old in zip(found, expected, given, before, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(kept, old)
        assert not np.shares_memory(x, kept) or x.size == 0
    if n:
        total, tree = operators.reduce_tree(combine, given)
        for x, y in zip(total, expected, strict=True):
            np.testing.assert_allclose(x, y[-1], rtol=1e-12, atol=1e-12)
        assert tree == (n - 1, (n - 1).bit_length())
        assert cost.depth <= max(0, 2 * (n - 1).bit_length() - 1)


@over("n", [2, 4, 32, 256])
def test_work_and_depth_are_the_textbooks(n):
    leaves, log = pairs(n, np.random.default_rng(0)), n.bit_length() - 1
    assert operators.sequential(operators.affine, leaves)[1] == (n - 1, n - 1)
    assert operators.hillis_steele(operators.affine, leaves)[1] == (n * log - n + 1, log)
    assert operators.blelloch(operators.affine, leaves)[1] == (2 * n - 2 - log, 2 * log - 1)


@over("combine", [operators.affine, operators.softmax])
def test_the_operators_are_associative(combine):
    make = pairs if combine is operators.affine else states
    one, two, three = (tuple(x[i] for x in make(3, np.random.default_rng(1))) for i in range(3))
    left, right = combine(combine(one, two), three), combine(one, combine(two, three))
    for x, y in zip(left, right, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-13)


def test_nothing_to_combine_is_an_error():
    with pytest.raises(ValueError, match="there are no leaves"):
        operators.reduce_tree(operators.affine, (np.zeros(0), np.zeros(0)))


@over("method", operators.SCANS)
def test_the_maps_of_the_tokens_give_the_states_of_the_scan(method):
    given = made((1, 19, 5, 3, "softplus d z delta_bias"))
    step = given["delta"][0].astype("float64")
    decay = np.exp(step[..., None] * given["a"])
    drive = (step * given["u"][0])[..., None] * given["b"][0][:, None]
    (decays, drives), _ = operators.SCANS[method](operators.affine, (decay, drive))
    state = decays[-1] * given["initial_state"][0] + drives[-1]
    np.testing.assert_allclose(state, reference.scan(**given)[1][0], rtol=1e-12)


def attention_over_prefixes(q, k, v):
    """Return softmax attention of q over every prefix, row by row."""
    T, D = k.shape[2:]
    score = np.einsum("hd,bhtd->bht", q, k)[:, :, None] * D**-0.5
    p, _ = softmax(np.where(np.tri(T, dtype=bool), score, -np.inf))
    return p @ v


@over("method", operators.SCANS)
@over("shape", [(1, 1, 1, 1), (2, 3, 17, 8), (1, 2, 64, 4)], ids=str)
def test_a_prefix_scan_is_attention_over_every_prefix(method, shape):
    rng = np.random.default_rng(0)
    B, H, T, D = shape
    q, k, v = 9 * rng.standard_normal((H, D)), rng.standard_normal(shape), rng.standard_normal(shape)
    o, cost = aaren.attention(q, k, v, method=method)
    np.testing.assert_allclose(o, attention_over_prefixes(q, k, v), rtol=0, atol=1e-12)
    assert cost == operators.SCANS[method](operators.affine, (np.ones(T), np.ones(T)))[1]


def test_a_stream_gives_the_same_in_memory_that_does_not_grow():
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal(x).astype("float32") for x in ((3, 4), (2, 3, 30, 4), (2, 3, 30, 4)))
    expected, _ = aaren.attention(q, k, v)
    stream = aaren.Stream(q, B=2)
    held = stream.nbytes
    for t in range(30):
        o = stream.push(k[:, :, t], v[:, :, t])
        assert o.dtype == np.float32
        np.testing.assert_allclose(o, expected[:, :, t], rtol=0, atol=1e-6)
    assert stream.nbytes == held == 2 * 3 * (4 + 2) * 4


def test_split_keys_merge_to_the_whole():
    """What the splits of gqa's decoding leave is put together by a tree of the same operator."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal(x) for x in ((1, 2, 8), (1, 2, 70, 8), (1, 2, 70, 8)))
    leaves = aaren.leaves(q[0], k, v)
    cuts = [0, 20, 21, 50, 70]
    parts = [tuple(x[i:j] for x in leaves) for i, j in zip(cuts, cuts[1:])]
    splits = [operators.reduce_tree(operators.softmax, part)[0] for part in parts]
    stacked = tuple(np.stack(x) for x in zip(*splits, strict=True))
    (m, l, o), cost = operators.reduce_tree(operators.softmax, stacked)
    np.testing.assert_allclose(finish(m, l, o)[0], gqa.decode(q, k, v), rtol=0, atol=1e-13)
    assert cost == (3, 2)


def test_what_is_no_scan_or_no_shape_is_refused():
    q, k = np.ones((2, 4)), np.ones((1, 2, 3, 4))
    with pytest.raises(ValueError, match="there is no scan 'tree'; there are sequential, hillis_steele, blelloch"):
        aaren.attention(q, k, k, method="tree")
    with pytest.raises(ShapeError, match=r"k has shape \(1, 3, 3, 4\) = \(B, H, T, D\); H=3 must equal H=2 of q"):
        aaren.attention(q, np.ones((1, 3, 3, 4)), k)


def test_the_long_convolution_is_the_recurrence():
    x, decay = spade.copy_from_far(40, 3), spade.decays(7, 0.1)
    np.testing.assert_allclose(spade.convolve(x, decay), spade.recur(x, decay), atol=1e-12)
    assert spade.convolve(x[:0], decay).shape == spade.recur(x[:0], decay).shape == (0, 3, 7)


def test_only_the_state_space_layer_copies_from_far():
    far = spade.compare(distance=100, window=32, T=800)
    assert far["state-space layer"] == far["both"] == 1.0
    assert far["local attention"] < 0.25  # one in eight is a guess
    assert spade.compare(distance=20, window=32, T=800)["local attention"] == 1.0
