"""The numba rungs of attention on a GPU: what runs on the SIMT machine, unchanged, against the same oracle."""

import numpy as np
import pytest

from minikernels import flash, launch
from minikernels.flash import reference
from minikernels.flash.api import BACKWARD, FORWARD
from tests.gpu.conftest import CASES, identity, inputs

pytestmark = pytest.mark.gpu
NUMBA = FORWARD.of_kind("numba")
NUMBA_BACKWARD = BACKWARD.of_kind("numba")
KERNELS = FORWARD.of_kind("numba", "raw")
over = pytest.mark.parametrize


@over("case", CASES, ids=identity)
@over("dtype", ["float32", "float16"])
@over("rung", NUMBA)
def test_numba_rung_is_within_the_error_budget(cp, rung, dtype, case):
    arrays, causal = inputs(case, dtype), case[6]
    there = [cp.asarray(x) for x in arrays]
    o, lse = flash.attention(*there, causal=causal, return_lse=True, rung=rung)
    assert isinstance(o, cp.ndarray)
    for verdict in reference.judge(cp.asnumpy(o), cp.asnumpy(lse), *arrays, causal, case[5] ** -0.5).values():
        assert verdict, verdict.message


@over("case", CASES, ids=identity)
@over("dtype", ["float32", "float16"])
@over("rung", NUMBA_BACKWARD)
def test_backward_is_within_the_error_budget(cp, rung, dtype, case):
    (q, k, v), causal = inputs(case, dtype), case[6]
    do = np.random.default_rng(2).standard_normal(q.shape).astype(dtype)
    o, lse = reference.plain(q, k, v, causal, case[5] ** -0.5)
    there = [cp.asarray(x) for x in (q, k, v, o, lse, do)]
    gradients = [cp.asnumpy(x) for x in flash.attention_backward(*there, causal=causal, rung=rung)]
    for verdict in reference.judge_backward(*gradients, q, k, v, do, causal, case[5] ** -0.5).values():
        assert verdict, verdict.message


@over("rung", [*KERNELS, None])
def test_torch_tensors_in_give_torch_tensors_out(cp, rung):
    torch = pytest.importorskip("torch")
    arrays = inputs((1, 4, 2, 70, 90, 64, True), "float16")
    q, k, v = (torch.from_numpy(x).cuda() for x in arrays)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):  # torch's own stream: DLPack makes each library wait for the other
        o, lse = flash.attention(q * 1, k * 1, v * 1, causal=True, return_lse=True, rung=rung)
        doubled = o * 2
    stream.synchronize()
    assert o.is_cuda and o.dtype == torch.float16 and lse.dtype == torch.float32
    verdicts = reference.judge(o.cpu().numpy(), lse.cpu().numpy(), *arrays, True, 0.125)
    assert verdicts["o"] and verdicts["lse"]
    assert torch.equal(doubled, o * 2)


def test_the_default_on_a_gpu_is_the_fastest_rung_that_takes_the_inputs(cp):
    half = "v7_wgmma" if launch.architecture() == (9, 0) else "v6_async"
    for dtype, rung in (("float16", half), ("float32", "v4_register_tiles")):
        arrays = [cp.asarray(x) for x in inputs((1, 2, 1, 33, 33, 64, True), dtype)]
        expected = flash.attention(*arrays, causal=True, rung=rung)
        np.testing.assert_array_equal(cp.asnumpy(flash.attention(*arrays, causal=True)), cp.asnumpy(expected))


def test_numba_equals_the_simt_machine(cp):
    arrays = inputs((1, 2, 1, 40, 50, 16, True), "float32")
    for rung in NUMBA:
        here = flash.attention(*arrays, causal=True, rung=rung)
        there = flash.attention(*(launch.to_gpu(x) for x in arrays), causal=True, rung=rung)
        np.testing.assert_allclose(cp.asnumpy(there), here, rtol=0, atol=2e-6)
