"""The CUDA C++ rungs of attention against the float64 oracle, and what they refuse."""

import numpy as np
import pytest

from minikernels.core.errors import DtypeError, ShapeError
from minikernels.flash import raw, reference
from minikernels.launch import architecture
from tests.gpu.conftest import CASES, ODD_WIDTHS, identity, inputs

pytestmark = pytest.mark.gpu
V4, V5, V6, V7 = (getattr(raw, f"launch_{rung}") for rung in ("v4_register_tiles", "v5_mma", "v6_async", "v7_wgmma"))
EDGES = [(1, 2, 1, 70, 90, 8, True), (1, 1, 1, 64, 64, 120, False)]  # of what the tensor-core rungs take
MANY_TILES = [(1, 3, 1, 1100, 1400, 64, True), (2, 80, 8, 300, 200, 128, True), (1, 1, 1, 385, 2000, 72, False)]
RUNS = [(V4, case, dtype) for case in CASES + ODD_WIDTHS for dtype in ("float32", "float16")]
RUNS += [(launch, case, "float16") for launch in (V5, V6, V7) for case in CASES + EDGES]
RUNS += [(launch, case, "float16") for launch in (V6, V7) for case in MANY_TILES]  # several items a block too
LAUNCHES = [(V4, "float32"), (V4, "float16"), (V5, "float16"), (V6, "float16"), (V7, "float16")]
over = pytest.mark.parametrize


def name(value):
    if callable(value):
        return value.__name__.removeprefix("launch_")
    return identity(value) if isinstance(value, tuple) else None


@pytest.fixture(autouse=True)
def hopper(request):
    """Skip v7_wgmma where its instructions are missing."""
    launch = getattr(request.node, "callspec", None) and request.node.callspec.params.get("launch")
    if launch is V7 and architecture() != (9, 0):
        pytest.skip("wgmma is an instruction of compute capability 9.0 alone")


def run(cp, launch, arrays, causal, scale):
    """Return o and lse as NumPy arrays."""
    o, lse = launch(*(cp.asarray(x) for x in arrays), causal, scale)
    return cp.asnumpy(o), cp.asnumpy(lse)


def judge(o, lse, arrays, causal, scale):
    for verdict in reference.judge(o, lse, *arrays, causal, scale).values():
        assert verdict, verdict.message


@over(("launch", "case", "dtype"), RUNS, ids=name)
def test_raw_rung_is_within_the_error_budget(cp, launch, case, dtype):
    arrays, causal = inputs(case, dtype), case[6]
    scale = case[5] ** -0.5
    judge(*run(cp, launch, arrays, causal, scale), arrays, causal, scale)


@over(("launch", "dtype"), LAUNCHES, ids=name)
@over("scale", [-0.3, 0.0, 2.0])
def test_any_scale_is_right(cp, launch, dtype, scale):
    arrays = inputs((1, 2, 1, 100, 130, 64, True), dtype)
    judge(*run(cp, launch, arrays, True, scale), arrays, True, scale)


@over(("launch", "dtype"), LAUNCHES, ids=name)
def test_views_that_are_not_contiguous_or_not_aligned(cp, launch, dtype):
    arrays = inputs((2, 3, 3, 65, 65, 64, True), dtype)
    swapped = [cp.ascontiguousarray(cp.asarray(x).swapaxes(1, 2)).swapaxes(1, 2) for x in arrays]
    odd = []
    for x in arrays:
        room = cp.empty(x.size + 1, x.dtype)
        room[1:] = cp.asarray(x).ravel()
        odd.append(room[1:].reshape(x.shape))
    expected, _ = run(cp, launch, arrays, True, 0.125)
    for views in (swapped, odd):
        np.testing.assert_array_equal(cp.asnumpy(launch(*views, True, 0.125)[0]), expected)


@over(("launch", "dtype"), LAUNCHES, ids=name)
def test_large_scores_do_not_overflow(cp, launch, dtype):
    q, k, v = inputs((1, 1, 1, 64, 64, 64, False), dtype)
    arrays = (q * q.dtype.type(20), k * k.dtype.type(20), v)
    judge(*run(cp, launch, arrays, False, 0.125), arrays, False, 0.125)


@over(("launch", "dtype"), LAUNCHES, ids=name)
def test_nan_stays_in_its_row(cp, launch, dtype):
    q, k, v = inputs((1, 1, 1, 100, 64, 64, False), dtype)
    q[0, 0, 17, 3] = np.nan
    o, _ = run(cp, launch, (q, k, v), False, 0.125)
    assert np.isnan(o[0, 0, 17]).all()
    assert np.isfinite(np.delete(o, 17, axis=2)).all()


@over("limit", [99 * 1024, 163 * 1024])
@over("D", [64, 128])
def test_v4_is_right_with_the_smaller_tiles_of_other_gpus(cp, monkeypatch, limit, D):
    monkeypatch.setattr(raw, "shared_limit", lambda: limit)
    arrays = inputs((1, 4, 2, 150, 170, D, True), "float32")
    judge(*run(cp, V4, arrays, True, 0.1), arrays, True, 0.1)


@over("causal", [False, True])
@over("launch", [V4, V5, V6])
def test_heads_may_be_more_than_a_grid_has_rows(cp, launch, causal):
    arrays = inputs((1, 65_537, 65_537, 1, 2, 8, causal), "float16")
    judge(*run(cp, launch, arrays, causal, 0.1), arrays, causal, 0.1)
    arrays = inputs((65_537, 2, 1, 2, 2, 8, causal), "float16")
    judge(*run(cp, launch, arrays, causal, 0.1), arrays, causal, 0.1)


@over("launch", [V4, V5, V6])
def test_queries_may_be_as_many_as_a_grid_has_rows(cp, launch):
    q = cp.empty((1, 1, 2**24, 8), "float16")
    with pytest.raises(ShapeError, match="T=16777216 must be at most"):
        launch(q, q[:, :, :1], q[:, :, :1], False, 0.1)


def test_what_no_raw_rung_takes_is_refused_in_letters(cp):
    def attempt(launch, dtype, **changed):
        sizes = {"B": 1, "H": 4, "G": 2, "T": 8, "S": 8, "D": 64} | changed
        run(cp, launch, inputs((*sizes.values(), False), dtype), False, 0.1)

    with pytest.raises(ShapeError, match=r"G=3 must divide H=4"):
        attempt(V4, "float32", G=3)
    with pytest.raises(ShapeError, match=r"D=129 must be at most 128"):
        attempt(V4, "float32", D=129)
    with pytest.raises(ShapeError, match=r"D=12 must be a multiple of 8"):
        attempt(V5, "float16", D=12)
    with pytest.raises(DtypeError, match="q has dtype float32; it must be float16"):
        attempt(V5, "float32")
    with pytest.raises(DtypeError, match="q has dtype float64"):
        attempt(V4, "float64")
