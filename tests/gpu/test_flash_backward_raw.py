"""The CUDA C++ rungs of attention's backward pass against the float64 formula, and what they refuse."""

import numpy as np
import pytest

from minikernels import flash, launch
from minikernels.core.errors import DtypeError, ShapeError
from minikernels.flash import raw_backward, reference
from minikernels.flash.api import BACKWARD
from tests.gpu.conftest import CASES, identity, inputs

pytestmark = pytest.mark.gpu
MORE = [
    (1, 2, 1, 70, 90, 8, True),
    (1, 4, 2, 300, 517, 64, False),  # several tiles of keys and of queries, none whole
    (1, 6, 2, 257, 260, 96, True),
    (1, 4, 1, 400, 129, 120, True),  # the first 271 rows see no key
]
SEVERAL_KEYS = [case for case in CASES if case[4] != 1]  # one key alone: the test below
NARROW = 99 * 1024  # bytes of shared memory a block of an RTX GPU may have
over = pytest.mark.parametrize


@pytest.fixture(params=BACKWARD.of_kind("raw"))
def rung(request):
    """Each rung that this GPU runs."""
    if request.param in ("v5_wgmma", "v6_roles") and launch.architecture() != (9, 0):
        pytest.skip("wgmma runs on compute capability 9.0 alone")
    return request.param


def made(case, seed=2):
    """Return q, k, v, o, lse and do in float16."""
    q, k, v = inputs(case, "float16")
    do = np.random.default_rng(seed).standard_normal(q.shape).astype(np.float16)
    return (q, k, v, *reference.plain(q, k, v, case[6], case[5] ** -0.5), do)


def run(cp, rung, arrays, causal, scale=None):
    """Return dq, dk and dv as NumPy arrays."""
    there = [cp.asarray(x) for x in arrays]
    return [cp.asnumpy(x) for x in flash.attention_backward(*there, causal=causal, scale=scale, rung=rung)]


def narrowed(rung, D):
    """Skip where the rung does not take so wide a head."""
    if rung == "v6_roles" and D > raw_backward.ROLES_WIDTH:
        pytest.skip(f"{rung} takes D up to {raw_backward.ROLES_WIDTH}")


def judge(gradients, arrays, causal, scale):
    q, k, v, _, _, do = arrays
    for verdict in reference.judge_backward(*gradients, q, k, v, do, causal, scale).values():
        assert verdict, verdict.message


@over("case", SEVERAL_KEYS + MORE, ids=identity)
def test_gradients_are_within_the_error_budget(cp, rung, case):
    narrowed(rung, case[5])
    arrays = made(case)
    judge(run(cp, rung, arrays, case[6]), arrays, case[6], case[5] ** -0.5)


def test_one_key_leaves_dq_and_dk_nothing_but_the_rounding_of_float32(cp, rung):
    """P is 1 and dS = dO V^T - delta is 0: two equal sums, which tensor cores add up in another order."""
    q, k, v, _, _, do = arrays = made((1, 1, 1, 1, 1, 64, False))
    dq, dk, dv = run(cp, rung, arrays, False)
    terms = 0.125 * float(np.sum(np.abs(do.astype(np.float32) * v)))
    half_step = 2.0**-25  # half of the smallest float16, to which a result is rounded
    for gradient, factor in ((dq, k), (dk, q)):
        allowed = 4 * np.finfo(np.float32).eps * terms * float(np.abs(factor).max()) + half_step
        assert np.abs(gradient.astype(np.float64)).max() <= allowed
    np.testing.assert_array_equal(dv, do)


@over("scale", [-0.3, 0.0])
def test_any_scale_is_right(cp, rung, scale):
    q, k, v, _, _, do = made((1, 2, 1, 100, 130, 64, True))
    arrays = (q, k, v, *reference.plain(q, k, v, True, scale), do)
    judge(run(cp, rung, arrays, True, scale), arrays, True, scale)


def test_rows_that_see_no_key_give_and_get_nothing(cp, rung):
    dq, dk, dv = run(cp, rung, made((1, 2, 1, 200, 64, 64, True)), True)
    assert not dq[:, :, :136].any()
    assert all(np.isfinite(x).all() for x in (dq, dk, dv))


def test_keys_past_the_last_are_not_summed(cp, rung):
    """Far below 0, lse makes exp(0 - lse) overflow where a key that does not exist is not masked."""
    q, k, v, _, _, do = made((1, 2, 2, 70, 70, 64, False))
    q[...], k[...] = 16, -4  # scores of -512
    arrays = (q, k, v, *reference.plain(q, k, v, False, 0.125), do)
    judge(run(cp, rung, arrays, False), arrays, False, 0.125)


def test_nan_stays_in_its_head(cp, rung):
    arrays = made((1, 2, 2, 100, 64, 64, False))
    arrays[0][0, 0, 17, 3] = np.nan
    for gradient in run(cp, rung, arrays, False):
        assert np.isfinite(gradient[:, 1]).all()


def test_keys_gradients_are_the_same_on_every_run(cp, rung):
    arrays = made((1, 4, 2, 300, 517, 64 if rung == "v6_roles" else 128, True))
    first, second = (run(cp, rung, arrays, True) for _ in range(2))
    for a, b in zip(first[1:], second[1:], strict=True):
        np.testing.assert_array_equal(a, b)


def test_views_that_are_not_contiguous(cp, rung):
    arrays = made((2, 3, 3, 65, 65, 64, True))
    views = [cp.ascontiguousarray(cp.asarray(x).swapaxes(1, 2)).swapaxes(1, 2) for x in arrays]
    found = [cp.asnumpy(x) for x in flash.attention_backward(*views, causal=True, rung=rung)]
    judge(found, arrays, True, 0.125)


def test_v4_is_right_with_the_smaller_tiles_of_other_gpus(cp, monkeypatch):
    monkeypatch.setattr(raw_backward, "shared_limit", lambda: NARROW)
    arrays = made((1, 4, 2, 150, 170, 128, True))
    judge(run(cp, "v4_mma", arrays, True), arrays, True, 128**-0.5)


def test_default_is_the_fastest_that_takes_the_inputs(cp):
    half, single = (cp.zeros((1, 1, 8, 64), dtype) for dtype in ("float16", "float32"))
    odd = cp.zeros((1, 1, 8, 12), "float16")
    wide = cp.zeros((1, 1, 8, 72), "float16")
    hopper = launch.architecture() == (9, 0)
    assert raw_backward.fastest(half, half, half) == ("v6_roles" if hopper else "v4_mma")
    assert raw_backward.fastest(wide, wide, wide) == ("v5_wgmma" if hopper else "v4_mma")
    assert raw_backward.fastest(single, single, single) is None
    assert raw_backward.fastest(odd, odd, odd) is None


def test_what_these_rungs_do_not_take_is_refused_in_letters(cp, rung):
    def attempt(D, dtype="float16"):
        x, lse = cp.zeros((1, 2, 8, D), dtype), cp.zeros((1, 2, 8), "float32")
        flash.attention_backward(x, x, x, x, lse, x, rung=rung)

    with pytest.raises(ShapeError, match=r"D=136 must be at most (128|64)"):
        attempt(136)
    with pytest.raises(ShapeError, match=r"D=12 must be a multiple of 8"):
        attempt(12)
    with pytest.raises(DtypeError, match="q has dtype float32; it must be float16"):
        attempt(64, "float32")
