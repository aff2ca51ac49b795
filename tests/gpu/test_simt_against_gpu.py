"""What the SIMT machine computes is what a GPU computes, kernel by kernel."""

import numpy as np
import pytest

from minikernels import simt
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
