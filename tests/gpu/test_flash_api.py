"""flash's public functions on a GPU: which rung runs, what kind comes back, what is refused."""

import numpy as np
import pytest

from minikernels import flash, launch
from minikernels.core.errors import DeviceError
from minikernels.flash import api, reference
from tests.flash_cases import made, right

pytestmark = pytest.mark.gpu
over = pytest.mark.parametrize
KERNELS = api.FORWARD.of_kind("numba", "raw")


@over(("dtype", "D", "rung"), [("float16", 64, "v7_wgmma"), ("float16", 60, "v4_register_tiles"),
                               ("float32", 64, "v4_register_tiles"), ("float32", 130, "v3_split_rows"),
                               ("float32", 300, "v1_three_pass")])
def test_the_default_is_the_fastest_rung_that_takes_the_inputs(cp, dtype, D, rung):
    needed, found = api.RAW_NEEDS.get(rung, (0, 0)), launch.architecture()
    if found < needed or (rung in api.EXACT and found != needed):
        pytest.skip(f"{rung} needs compute capability {needed}")
    q, k, v = (cp.asarray(x) for x in made((1, 2, 1, 70, 90, D, True), dtype)[:3])
    assert api.fastest_on_gpu(q, k, v) == rung
    o, lse = flash.attention(q, k, v, causal=True, return_lse=True)
    by_name = flash.attention(q, k, v, causal=True, return_lse=True, rung=rung)
    for x, y in zip((o, lse), by_name):
        np.testing.assert_array_equal(cp.asnumpy(x), cp.asnumpy(y))
    here = [cp.asnumpy(x) for x in (o, lse, q, k, v)]
    right(reference.judge(*here, True, D**-0.5))


@over("rung", [None, *KERNELS])
@over("case", [(1, 2, 1, 3, 0, 8), (0, 2, 1, 3, 4, 8), (1, 2, 1, 0, 4, 8), (1, 2, 1, 3, 4, 0)], ids=str)
def test_an_empty_axis_gives_an_empty_result(cp, rung, case):
    arrays = made((*case, True), "float16")[:3]
    o, lse = flash.attention(*(cp.asarray(x) for x in arrays), causal=True, return_lse=True, rung=rung)
    expected = reference.attention(*arrays, True, 1.0)
    assert isinstance(o, cp.ndarray)
    assert isinstance(lse, cp.ndarray)
    np.testing.assert_array_equal(cp.asnumpy(o), expected[0])
    np.testing.assert_array_equal(cp.asnumpy(lse), expected[1].astype(np.float32))


def test_torch_tensors_come_back_as_torch_tensors(cp):
    torch = pytest.importorskip("torch", reason="PyTorch, whose tensors come through DLPack, is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    arrays = made((1, 4, 2, 70, 90, 64, True))
    q, k, v, do = (torch.from_numpy(x).cuda() for x in arrays)
    o, lse = flash.attention(q, k, v, causal=True, return_lse=True)
    gradients = flash.attention_backward(q, k, v, o, lse, do, causal=True)
    assert all(isinstance(x, torch.Tensor) and x.is_cuda for x in (o, lse, *gradients))
    host = [x.cpu().numpy() for x in (o, lse)]
    right(reference.judge(*host, *arrays[:3], True, 0.125))
    right(reference.judge_backward(*(x.cpu().numpy() for x in gradients), *arrays, True, 0.125))


def test_mixed_homes_are_refused(cp):
    q, k, v, _ = made((1, 2, 1, 5, 6, 8, True))
    with pytest.raises(DeviceError, match="arrays live in different places"):
        flash.attention(cp.asarray(q), k, cp.asarray(v))


@over("rung", ["reference", "online", "tiled", "tiled_keys_outside"])
def test_a_numpy_rung_on_gpu_arrays_says_so(cp, rung):
    q, k, v = (cp.asarray(x) for x in made((1, 2, 1, 5, 6, 8, True))[:3])
    with pytest.raises(DeviceError, match=f"rung {rung} is NumPy's and the arrays live on the GPU"):
        flash.attention(q, k, v, rung=rung)
