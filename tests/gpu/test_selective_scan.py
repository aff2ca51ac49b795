"""selective_scan on a GPU: every rung against the float64 oracle, which one is the default, what is refused."""

import importlib.util

import numpy as np
import pytest

from minikernels import launch
from minikernels.core.errors import DeviceError, ShapeError
from minikernels.selective_scan import api, raw, reference, scan
from tests.selective_scan_cases import CASES, label, made, right

pytestmark = pytest.mark.gpu
over = pytest.mark.parametrize
NUMBA, RAW = api.SCAN.of_kind("numba"), api.SCAN.of_kind("raw")
LARGE = [  # B, T, E, N, what is left out
    (1, 1, 1, 1, ""),
    (2, 37, 70, 16, ""),  # E is no multiple of 4: one channel a load
    (2, 100, 7, 5, "d"),
    (1, 33, 130, 3, "z"),
    (1, 65, 12, 100, "softplus"),
    (1, 64, 20, 128, "initial_state"),
    (2, 130, 8, 64, "d z delta_bias"),
    (2, 97, 36, 8, "delta_bias initial_state"),
    (1, 50, 40, 24, "softplus d"),
    (3, 31, 256, 16, "z d initial_state"),
    (1, 1000, 300, 16, ""),
    (1, 2049, 64, 16, ""),
    (64, 40, 16, 2, "z"),
]


def run(cp, rung, given, **options):
    """Return o and the last state as NumPy arrays; cells that no thread wrote are NaN."""
    there = {name: cp.asarray(x) if isinstance(x, np.ndarray) else x for name, x in given.items()}
    o, state = scan(**there, return_state=True, rung=rung, **options)
    assert isinstance(o, cp.ndarray) and isinstance(state, cp.ndarray)
    return cp.asnumpy(o), cp.asnumpy(state)


@over("case", LARGE, ids=label)
@over("dtype", ["float32", "float16"])
@over("rung", RAW)
def test_raw_rung_is_within_the_error_budget(cp, rung, dtype, case):
    given = made(case, dtype)
    o, state = run(cp, rung, given)
    assert (o.dtype, state.dtype) == (given["u"].dtype, np.float32)
    right(reference.judge(o, state, **given))


@over("case", CASES, ids=label)
@over("rung", NUMBA)
def test_numba_rung_is_within_the_error_budget(cp, rung, case):
    given = made(case, ("float32", "float16")[CASES.index(case) % 2])  # a kernel is compiled for each case
    right(reference.judge(*run(cp, rung, given), **given))


@over("count", [1, 2, 3, 7, 40])
@over("case", [(2, 1000, 40, 16, ""), (1, 161, 7, 5, "z d"), (1, 700, 12, 100, "initial_state")], ids=label)
@over("dtype", ["float32", "float16"])
@over("rung", ["v6_three_phase", "v7_channel_pairs", "v8_staging_warps"])
def test_any_number_of_chunks_is_right(cp, rung, count, case, dtype):
    given = made(case, dtype)
    there = {name: cp.asarray(x) if isinstance(x, np.ndarray) else x for name, x in given.items()}
    o, state = getattr(raw, f"launch_{rung}")(**there, count=count)
    right(reference.judge(cp.asnumpy(o), cp.asnumpy(state), **given))


@over("rung", [*NUMBA, *RAW])
@over("cut", [1, 31, 32, 50])
def test_a_split_sequence_with_its_state_carried_is_the_whole(cp, rung, cut):
    given = made((2, 70, 9, 5, ""))
    o, state = run(cp, rung, given)
    parts = {name: (given[name][:, :cut], given[name][:, cut:]) for name in ("u", "delta", "b", "c", "z")}
    o1, carried = run(cp, rung, given | {name: first for name, (first, _) in parts.items()})
    rest = given | {name: rest for name, (_, rest) in parts.items()} | {"initial_state": carried}
    o2, last = run(cp, rung, rest)
    for found, whole in ((np.concatenate((o1, o2), axis=1), o), (last, state)):
        np.testing.assert_allclose(found, whole, rtol=0, atol=4e-6 * np.abs(whole).max())


@over("rung", [*NUMBA, *RAW])
@over("dtype", ["float16", "float32"])
def test_softplus_is_its_argument_above_20_and_nothing_overflows(cp, rung, dtype):
    given = made((1, 8, 4, 3, "delta_bias"), dtype)
    given["delta"][0] = np.array([-1000, -100, -30, 19.9, 20, 20.1, 100, 60000])[:, None]
    o, state = run(cp, rung, given)
    right(reference.judge(o, state, **given))
    assert np.isfinite(state).all()


@over("rung", [*NUMBA, *RAW])
def test_small_steps_keep_their_relative_error(cp, rung):
    given = made((1, 40, 8, 4, "d z initial_state"))
    given["delta_bias"] = np.full(8, -12, np.float32)
    right(reference.judge(*run(cp, rung, given), **given))


@over("rung", [*NUMBA, *RAW])
def test_a_huge_step_forgets_and_gives_no_nan(cp, rung):
    given = made((1, 400, 4, 16, "delta_bias softplus z d"))
    given["delta"][0, 20], given["u"][0, 20] = 1e30, 0
    o, state = run(cp, rung, given)
    assert np.isfinite(o).all()
    right(reference.judge(o, state, **given))


@over("rung", [*NUMBA, *RAW])
def test_large_gates_neither_overflow_nor_pass(cp, rung):
    given = made((1, 5, 6, 2, ""))
    given["z"][0] = np.array([-10000, -90, 0, 90, 10000])[:, None]
    o, state = run(cp, rung, given)
    right(reference.judge(o, state, **given))


@over("rung", [*NUMBA, *RAW])
def test_a_nan_stays_in_its_channel_and_after_its_token(cp, rung):
    given = made((2, 400, 10, 4, ""))
    given["u"][1, 170, 3] = np.nan
    o, state = run(cp, rung, given)
    assert np.isnan(o[1, 170:, 3]).all() and np.isnan(state[1, 3]).all()
    o[1, 170:, 3], state[1, 3] = 0, 0
    assert np.isfinite(o).all() and np.isfinite(state).all()


@over("rung", RAW)
@over("dtype", ["float32", "float16"])
def test_views_that_are_not_contiguous_or_not_aligned(cp, rung, dtype):
    given = made((2, 70, 16, 4, ""), dtype)
    there = {name: cp.asarray(x) if isinstance(x, np.ndarray) else x for name, x in given.items()}
    expected = scan(**there, rung=rung)
    swapped, odd = dict(there), dict(there)
    for name, x in there.items():
        if isinstance(x, cp.ndarray):
            swapped[name] = cp.ascontiguousarray(x.T).T
            room = cp.empty(x.size + 1, x.dtype)
            room[1:] = x.ravel()
            odd[name] = room[1:].reshape(x.shape)
    for views in (swapped, odd):
        cp.testing.assert_array_equal(scan(**views, rung=rung), expected)


@over(("N", "rung"), [(16, "v8_staging_warps"), (128, "v8_staging_warps"), (129, "v2_token_major")])
def test_the_default_is_the_fastest_rung_that_takes_the_inputs(cp, N, rung):
    if launch.architecture() < api.RAW_NEEDS:
        pytest.skip(f"the raw rungs need compute capability {api.RAW_NEEDS}")
    given = made((1, 50, 12, N, ""))
    assert api.fastest_on_gpu(N) == rung
    for found, expected in zip(run(cp, None, given), run(cp, rung, given), strict=True):
        np.testing.assert_array_equal(found, expected)


@over("rung", [None, *NUMBA, *RAW])
@over("case", [(0, 3, 4, 2), (2, 0, 4, 2), (2, 3, 0, 2), (2, 3, 4, 0)], ids=str)
def test_an_empty_axis_gives_an_empty_result(cp, rung, case):
    given = made((*case, ""))
    o, state = run(cp, rung, given)
    right(reference.judge(o, state, **given))


@over("name", ["hillis_steele", "blelloch"])
def test_the_solutions_scans_run_on_a_gpu_as_they_stand(cp, root, name):
    (path,) = (root / "solutions/05_selective_scan").glob(f"ex?_{name}.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rng, shape = np.random.default_rng(0), (3, module.C)
    decay, drive = rng.random(shape, np.float32), rng.standard_normal(shape, np.float32)
    here, there = np.full(shape, np.nan, np.float32), cp.full(shape, cp.nan, np.float32)
    getattr(module, name)[3, module.C](decay, drive, here)
    getattr(module, name)[3, module.C](cp.asarray(decay), cp.asarray(drive), there)
    np.testing.assert_allclose(cp.asnumpy(there), here, rtol=1e-5, atol=1e-6)


def test_torch_tensors_come_back_as_torch_tensors(cp):
    torch = pytest.importorskip("torch", reason="PyTorch, whose tensors come through DLPack, is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    given = made((2, 90, 24, 16, ""), "float16")
    there = {name: torch.from_numpy(x).cuda() if isinstance(x, np.ndarray) else x for name, x in given.items()}
    o, state = scan(**there, return_state=True)
    assert isinstance(o, torch.Tensor) and isinstance(state, torch.Tensor)
    assert (o.dtype, state.dtype, o.is_cuda) == (torch.float16, torch.float32, True)
    right(reference.judge(o.cpu().numpy(), state.cpu().numpy(), **given))


def test_what_cannot_run_is_refused(cp):
    given = made((1, 6, 8, 4, ""))
    with pytest.raises(DeviceError, match="arrays live in different places"):
        scan(**given | {"u": cp.asarray(given["u"])})
    there = {name: cp.asarray(x) if isinstance(x, np.ndarray) else x for name, x in given.items()}
    with pytest.raises(DeviceError, match="rung tiled is NumPy's and the arrays live on the GPU"):
        scan(**there, rung="tiled")
    wide = made((1, 2, 3, 129, ""))
    with pytest.raises(ShapeError, match="N=129 must be at most 128 for rung v5_registers; rung v2_token_major takes"):
        run(cp, "v5_registers", wide)
