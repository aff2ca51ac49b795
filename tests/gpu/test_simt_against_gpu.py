"""What the SIMT machine computes is what a GPU computes, kernel by kernel."""

import numpy as np
import pytest

from minikernels import simt
from tests import test_simt_corners as corners
from tests.counters.cases import CASES
from tests.counters.profile import on_device

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_simt_results_equal_the_gpu(case, monkeypatch):
    from numba import cuda
    from numba.cuda.core import config

    monkeypatch.setattr(config, "CUDA_LOW_OCCUPANCY_WARNINGS", 0)  # a case's grid is small on purpose
    here, there = case.arguments(), case.arguments()
    devices = [on_device(cuda, a) for a in there]
    cuda.jit(case.kernel)[case.grid, case.block](*devices)
    simt.run(case.kernel, case.grid, case.block, *here)
    for mine, theirs in zip(here, devices):
        np.testing.assert_allclose(mine, theirs.copy_to_host(), rtol=2e-6, atol=1e-6)


def given(kernel, x, cells):
    return kernel, lambda: (np.array([x]), np.zeros(cells, np.int64))


CORNERS = [given(corners.signs, x, 2) for x, _ in corners.SIGNS]
CORNERS += [given(corners.counted_bits, x, 3) for x, _ in corners.BITS]
CORNERS += [(kernel, lambda: (np.zeros(5, np.int64),)) for kernel in (corners.masks, corners.sign_of_a_constant)]


@pytest.mark.parametrize(("kernel", "arguments"), CORNERS, ids=lambda x: getattr(x, "__name__", ""))
def test_types_at_their_edges_are_the_gpus(kernel, arguments, monkeypatch):
    from numba import cuda
    from numba.cuda.core import config

    monkeypatch.setattr(config, "CUDA_LOW_OCCUPANCY_WARNINGS", 0)
    here = arguments()
    devices = [cuda.to_device(a) for a in here]
    cuda.jit(kernel)[1, 32](*devices)
    simt.run(kernel, 1, 32, *here)
    for mine, theirs in zip(here, devices, strict=True):
        np.testing.assert_array_equal(mine, theirs.copy_to_host())


def test_atomic_maximum_and_minimum_leave_a_nan_out(monkeypatch):
    from numba import cuda
    from numba.cuda.core import config

    monkeypatch.setattr(config, "CUDA_LOW_OCCUPANCY_WARNINGS", 0)
    x, here = np.array([np.nan, 5, 0], np.float32), np.array([1, np.nan, 2, 1, np.nan, 2], np.float32)
    there = cuda.to_device(here)
    cuda.jit(corners.extremes)[1, 3](cuda.to_device(x), there)
    simt.run(corners.extremes, 1, 3, x, here)
    np.testing.assert_array_equal(here, there.copy_to_host())
