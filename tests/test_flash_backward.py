"""flash.attention_backward: every rung against the float64 formula, finite differences and an independent library."""

import re

import numpy as np
import pytest

from minikernels import flash
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from minikernels.flash import api, reference, tiled_backward
from tests.flash_cases import CASES, label, made, right

RUNGS = api.BACKWARD.of_kind("numpy", "numba")
over = pytest.mark.parametrize


def gradients(case, dtype="float32", rung=None, **options):
    """Return q, k, v, do, and the gradients of a rung from the forward pass of the default rung."""
    q, k, v, do = made(case, dtype)
    o, lse = flash.attention(q, k, v, causal=case[-1], return_lse=True, **options)
    return (q, k, v, do), flash.attention_backward(q, k, v, o, lse, do, causal=case[-1], rung=rung, **options)


@over("case", CASES, ids=label)
@over("rung", RUNGS)
def test_rung_is_right_in_float32(rung, case):
    (q, k, v, do), found = gradients(case, rung=rung)
    assert all(x.dtype == np.float32 for x in found)
    right(reference.judge_backward(*found, q, k, v, do, case[-1], case[5] ** -0.5))


@over("case", CASES[1::3], ids=label)
@over("rung", RUNGS)
def test_rung_is_right_in_float16(rung, case):
    (q, k, v, do), found = gradients(case, "float16", rung=rung)
    assert all(x.dtype == np.float16 for x in found)
    right(reference.judge_backward(*found, q, k, v, do, case[-1], case[5] ** -0.5))


@over("case", [(1, 2, 1, 6, 9, 5, True), (2, 2, 2, 7, 4, 3, True), (1, 4, 2, 5, 8, 6, False)], ids=label)
@over("rung", ["reference", "tiled"])
def test_gradients_equal_finite_differences(rung, case):
    """The directional derivative along a random direction, by central differences of the float64 forward pass."""
    (q, k, v, do), found = gradients(case, "float64", rung=rung, scale=0.6)
    directions = [np.random.default_rng(9).standard_normal(x.shape) for x in (q, k, v)]
    step = 1e-5

    def loss(sign, which):
        moved = [x + sign * step * d * (i == which) for i, (x, d) in enumerate(zip((q, k, v), directions))]
        return np.sum(do * flash.attention(*moved, causal=case[-1], scale=0.6, rung=rung))

    for which, (gradient, direction) in enumerate(zip(found, directions)):
        numeric = (loss(1, which) - loss(-1, which)) / (2 * step)
        np.testing.assert_allclose(np.sum(gradient * direction), numeric, rtol=1e-8, atol=1e-8)


@over("case", [(2, 2, 2, 33, 40, 16, False), (1, 2, 2, 40, 40, 8, True)], ids=label)
@over("rung", RUNGS)
def test_gradients_equal_autograd_of_an_independent_library(rung, case):
    torch = pytest.importorskip("torch", reason="PyTorch, the independent autograd, is not installed")
    (q, k, v, do), found = gradients(case, rung=rung)
    leaves = [torch.from_numpy(x.astype(np.float64)).requires_grad_() for x in (q, k, v)]
    o = torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=case[-1])
    o.backward(torch.from_numpy(do).double())
    for x, leaf in zip(found, leaves):
        np.testing.assert_allclose(x, leaf.grad.numpy(), rtol=0, atol=1e-5)


@over("blocks", [(1, 1), (7, 3), (64, 32), (500, 500)], ids=lambda blocks: f"{blocks[0]}x{blocks[1]}")
def test_tile_sizes_do_not_change_the_result(blocks):
    q, k, v, do = made((2, 4, 2, 37, 53, 16, True))
    o, lse = reference.plain(q, k, v, True, 0.25)
    found = tiled_backward.attention_backward(q, k, v, o, lse, do, True, 0.25, *blocks)
    right(reference.judge_backward(*found, q, k, v, do, True, 0.25))


@over("rung", RUNGS)
def test_a_group_sums_over_the_heads_that_share_it(rung):
    q, k, v, do = made((1, 6, 2, 20, 24, 8, True))

    def run(k, v):
        o, lse = flash.attention(q, k, v, causal=True, return_lse=True)
        return flash.attention_backward(q, k, v, o, lse, do, causal=True, rung=rung)

    dq, dk, dv = run(k, v)
    alone = run(np.repeat(k, 3, axis=1), np.repeat(v, 3, axis=1))
    np.testing.assert_allclose(dq, alone[0], rtol=0, atol=1e-5)
    for x, y in zip((dk, dv), alone[1:]):
        np.testing.assert_allclose(x, y.reshape(1, 2, 3, 24, 8).sum(axis=2), rtol=0, atol=1e-5)


@over("rung", RUNGS)
def test_rows_that_see_no_key_have_no_gradient(rung):
    _, (dq, dk, dv) = gradients((1, 2, 1, 9, 4, 5, True), rung=rung)
    assert not dq[:, :, :5].any()
    assert all(np.isfinite(x).all() for x in (dq, dk, dv))


@over("case", [(0, 2, 1, 3, 4, 5), (2, 0, 3, 3, 4, 5), (1, 2, 1, 0, 4, 5), (1, 2, 1, 3, 0, 5), (1, 2, 1, 3, 4, 0)],
      ids=lambda case: label((*case, True)))
@over("rung", [None, *RUNGS])
def test_an_empty_axis_gives_zeros(rung, case):
    (q, k, v, _), found = gradients((*case, True), rung=rung)
    for x, gradient in zip((q, k, v), found):
        assert gradient.shape == x.shape
        assert not gradient.any()


def test_the_kernels_give_the_same_bits_every_time():
    case = (1, 4, 2, 70, 65, 12, True)
    first, second = (gradients(case, rung="v3_split_rows")[1] for _ in range(2))
    for x, y in zip(first, second):
        np.testing.assert_array_equal(x, y)


def test_wrong_inputs_are_clear_errors():
    q, k, v, do = made((1, 4, 2, 5, 6, 8, True))
    o, lse = flash.attention(q, k, v, return_lse=True)
    with pytest.raises(ShapeError, match=re.escape("lse has shape (1, 4, 4) = (B, H, T); T=4 must equal T=5 of q")):
        flash.attention_backward(q, k, v, o, lse[:, :, 1:], do)
    with pytest.raises(ShapeError, match=re.escape("do has shape (1, 4, 5, 7) = (B, H, T, D); D=7 must equal D=8")):
        flash.attention_backward(q, k, v, o, lse, do[..., 1:])
    with pytest.raises(DtypeError, match="lse has dtype float64; it must be float32"):
        flash.attention_backward(q, k, v, o, lse.astype("float64"), do)
    with pytest.raises(DtypeError, match="do has dtype float16 and q has float32"):
        flash.attention_backward(q, k, v, o, lse, do.astype("float16"))
    with pytest.raises(ValueError, match="no rung 'v2_tiled' here; the rungs are reference, tiled, v3_split_rows"):
        flash.attention_backward(q, k, v, o, lse, do, rung="v2_tiled")
    with pytest.raises(DtypeError, match="rung v3_split_rows takes float16 and float32"):
        flash.attention_backward(*(x.astype("float64") for x in (q, k, v, o, lse, do)), rung="v3_split_rows")
    with pytest.raises((DeviceError, DtypeError), match="o is of type list"):
        flash.attention_backward(q, k, v, o.tolist(), lse, do)
