"""The solutions' kernels run on a GPU as they stand, and give what they give on the SIMT machine."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

SOLUTIONS = Path(__file__).resolve().parents[2] / "solutions/02_flash"


def solution(name):
    spec = importlib.util.spec_from_file_location(name, SOLUTIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def both(kernel, grid, block, inputs, outputs):
    """Run a kernel here and on the GPU and compare the outputs."""
    import cupy

    here = [np.full(shape, np.nan, np.float32) for shape in outputs]
    there = [cupy.asarray(x) for x in here]
    kernel[grid, block](*inputs, *here)
    kernel[grid, block](*[cupy.asarray(x) if x.ndim else x for x in inputs], *there)
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(b.get(), a, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name, kernel", [("ex3_tile_loop", "tile_loop"), ("ex4_causal_skip", "causal_attention")])
def test_attention_kernels(name, kernel):
    module, rng = solution(name), np.random.default_rng(0)
    T, S = 70, 41
    q, k, v = (rng.standard_normal((n, module.D)).astype(np.float32) for n in (T, S, S))
    both(getattr(module, kernel), math.ceil(T / module.BLOCK_T), module.BLOCK_T,
         (q, k, v, np.float32(module.D**-0.5)), [q.shape])


def test_largest_scores():
    module, rng = solution("ex5_race"), np.random.default_rng(0)
    q, k = (rng.standard_normal((n, module.D)).astype(np.float32) for n in (100, 45))
    blocks = math.ceil(100 / module.BLOCK_T)
    both(module.largest_scores, blocks, module.BLOCK_T, (q, k), [(100,), (blocks,)])


def test_scores():
    module, rng = solution("ex6_bank_conflicts"), np.random.default_rng(0)
    q, k = (rng.standard_normal((n, module.D)).astype(np.float32) for n in (5, 70))
    both(module.scores, math.ceil(70 / module.BLOCK_S), module.THREADS, (q, k), [(5, 70)])
