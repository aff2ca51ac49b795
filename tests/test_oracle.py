"""The oracle itself: what it lets pass, what it refuses, and in which words."""

import numpy as np
import pytest

from minikernels.core.oracle import check, rounding_band, unwritten

rng = np.random.default_rng(3)
exact = rng.standard_normal((2, 3, 5))
plain = exact.astype(np.float32)
over = pytest.mark.parametrize


def judged(change, dtype="float32", **options):
    """Return the verdict on `exact`, rounded to `dtype` and then changed in place."""
    out = exact.astype(dtype)
    change(out)
    return check(out, exact, exact.astype(dtype), letters="BTD", **options)


def put(value, index=(1, 2, 3)):
    return lambda out: out.__setitem__(index, value)


@over("dtype", ["float16", "float32", "float64"])
def test_a_rounding_passes_and_a_real_error_does_not(dtype):
    eps = float(np.finfo(dtype).eps)
    assert judged(lambda out: None, dtype)
    assert judged(put(exact[1, 2, 3] * (1 + eps)), dtype)
    verdict = judged(put(exact[1, 2, 3] + 20 * eps * np.abs(exact).max()), dtype)
    assert not verdict
    assert verdict.worst == (1, 2, 3)
    assert verdict.error > verdict.budget > 2 * verdict.plain_error


def test_the_budget_is_twice_the_plain_error_plus_the_band():
    rough = (exact + rng.uniform(-1, 1, exact.shape) * 1e-3).astype(np.float32)
    error = np.abs(rough - exact).max()
    verdict = check(rough, exact, rough)
    assert verdict.plain_error == verdict.error == pytest.approx(error)
    assert verdict.budget == pytest.approx(2 * error + 5 * np.finfo(np.float32).eps * np.abs(exact).max())
    assert check((exact + 1.9 * error).astype(np.float32), exact, rough)
    assert not check((exact + 2.2 * error).astype(np.float32), exact, rough)


def test_the_band_counts_the_terms_that_cancelled_and_the_exponent():
    tiny, wide = np.array([1e-6]), np.array([1e-6 + 1e-7], np.float32)
    assert not check(wide, tiny, tiny.astype(np.float32))
    assert check(wide, tiny, tiny.astype(np.float32), magnitude=1.0)
    assert check(wide, tiny, tiny.astype(np.float32), magnitude=0.01, exponent=100)
    assert rounding_band("float16", 3, 2, 0) == pytest.approx(2 * 2.0**-10 + 3 * 4 * 2.0**-23)
    assert rounding_band("float32", 3, 3, 100) == pytest.approx(3 * 105 * 2.0**-23)


def test_the_band_may_differ_from_cell_to_cell():
    exact, out = np.array([100.0, 0.01]), np.array([100.05, 0.01], np.float16)
    assert not check(np.array([100, 0.06], np.float16), exact, exact.astype(np.float16), rounded=np.abs(exact))
    assert check(np.array([100, 0.06], np.float16), exact, exact.astype(np.float16))
    verdict = check(out, exact, exact.astype(np.float16), rounded=np.abs(exact))
    assert verdict.worst == (0,)
    assert verdict


@over("value", [np.nan, np.inf, -np.inf])
def test_no_budget_forgives_a_nan_or_an_infinity(value):
    verdict = judged(put(value), magnitude=1e30)
    assert not verdict
    assert verdict.worst == (1, 2, 3)
    assert np.isnan(verdict.error)


def test_an_unwritten_output_fails_and_says_so():
    out = unwritten((2, 3, 5), np.float32)
    out[:, :2] = plain[:, :2]
    verdict = check(out, exact, plain, letters="BTD")
    assert verdict.message.startswith("o[b=0, t=2, d=0] is NaN but should be ")
    assert "no thread wrote it, or it was computed from a NaN" in verdict.message
    assert verdict.message.endswith("10 of 30 cells are wrong, the first is o[b=0, t=2, d=0].")


def test_infinities_and_nans_of_the_reference_must_be_met():
    lse = np.array([-np.inf, 1.0, np.nan])
    right = lse.astype(np.float32)
    assert check(right, lse, right)
    for wrong in ([np.inf, 1, np.nan], [-1e30, 1, np.nan], [np.nan, 1, np.nan], [-np.inf, 1, 3]):
        assert not check(np.array(wrong, np.float32), lse, right)


def test_the_message_names_the_worst_cell_and_the_first():
    out = plain.copy()
    out[0, 1, 4] += 0.25
    out[1, 2, 0] += 4
    message = check(out, exact, plain, name="dq", letters="BTD").message
    assert message.startswith(f"dq[b=1, t=2, d=0] is {out[1, 2, 0]:.6g} but should be {exact[1, 2, 0]:.6g}: off by 4, ")
    assert "is allowed (plain NumPy in float32 is off by " in message
    assert message.endswith("2 of 30 cells are wrong, the first is dq[b=0, t=1, d=4].")
    assert check(out, exact, plain).message.startswith("o[1, 2, 0] is ")


def test_another_shape_or_dtype_fails():
    assert check(plain[:1], exact, plain).message == "o has shape (1, 3, 5); it should be (2, 3, 5)."
    assert check(plain.astype("float64"), exact, plain).message == "o has dtype float64; it should be float32."
    assert not check(plain[:1], exact, plain)


def test_an_empty_output_is_right():
    nothing = np.zeros((0, 4))
    verdict = check(nothing.astype("float32"), nothing, nothing.astype("float32"))
    assert verdict
    assert verdict.worst is None
