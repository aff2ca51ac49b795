"""Launching on a GPU: which arrays go there, what comes back, and what is refused."""

import numpy as np
import pytest

from minikernels import launch
from minikernels.core.errors import DeviceError, DtypeError, KernelError
from minikernels.launch import cuda, device, float32, kernel

pytestmark = pytest.mark.gpu

SOURCE = """
extern "C" __global__ void scaled(const float* x, float* y, int n, float factor) {
  extern __shared__ float room[];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) room[threadIdx.x] = x[i] * factor * TIMES;
  __syncthreads();
  if (i < n) y[i] = room[threadIdx.x];
}
"""


@device
def square(x):
    return x * x


@device
def sum_of_squares(x, y):
    return square(x) + square(y)


@kernel
def distances(x, y, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = sum_of_squares(x[i], y[i])


def scaling(factor):
    @device
    def scaled(x):
        return x * float32(factor)

    @kernel
    def scale_all(x, flag, out):
        i = cuda.grid(1)
        if i < out.size and flag:
            out[i] = scaled(x[i])

    return scale_all


@kernel
def reversed_in_block(x):
    room = cuda.shared.array(0, float32)
    i = cuda.threadIdx.x
    room[i] = x[i]
    cuda.syncthreads()
    x[i] = room[cuda.blockDim.x - 1 - i]


def test_gpu_arrays_run_on_the_gpu_and_the_result_equals_the_simt_machine(cp):
    x, y = np.random.default_rng(0).standard_normal((2, 100)).astype(np.float32)
    here, there = np.empty_like(x), cp.empty(100, np.float32)
    distances[4, 32](x, y, here)
    assert distances[4, 32](cp.asarray(x), cp.asarray(y), there) is None
    np.testing.assert_allclose(here, cp.asnumpy(there), rtol=2e-7)  # a GPU fuses x * x + y * y, and rounds once less


def test_closures_hold_device_functions_and_constants(cp):
    x = cp.arange(8, dtype=np.float32)
    for factor in (2, 3):
        out = cp.zeros(8, np.float32)
        scaling(factor)[1, 8](x, np.bool_(True), out)
        np.testing.assert_array_equal(cp.asnumpy(out), factor * np.arange(8))


def test_one_kernel_takes_several_dtypes_and_strided_views(cp):
    for dtype in (np.float16, np.float32, np.float64):
        x = cp.arange(16, dtype=dtype)
        out = cp.zeros((8, 2), dtype)
        distances[1, 8](x[::2], x[1::2], out[:, 0])
        np.testing.assert_array_equal(cp.asnumpy(out[:, 0]), np.arange(0, 16, 2) ** 2 + np.arange(1, 16, 2) ** 2)


def test_dynamic_shared_memory_and_a_stream(cp):
    stream = cp.cuda.Stream(non_blocking=True)
    for chosen in (stream, None, 0):
        x = cp.arange(64, dtype=np.float32)
        cp.cuda.Device().synchronize()
        reversed_in_block[1, 64, chosen, 256](x)
        cp.cuda.Device().synchronize()
        np.testing.assert_array_equal(cp.asnumpy(x), np.arange(64)[::-1])


def test_launches_follow_cupys_current_stream(cp):
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        x = cp.zeros(1 << 24, np.float32)
        for _ in range(20):
            x += 1  # queued on the stream: a kernel elsewhere would overtake it
        out = cp.empty(64, np.float32)
        scaling(2)[1, 64](x, True, out)
    stream.synchronize()
    np.testing.assert_array_equal(cp.asnumpy(out), 40)


@pytest.mark.parametrize("grid", [0, (1, 65_536)])
def test_a_grid_that_no_gpu_runs_is_refused(cp, grid):
    empty = cp.empty(0, np.float32)
    with pytest.raises(KernelError, match="every axis is at least 1, y and z at most 65535"):
        distances[grid, 32](empty, empty, empty)


def test_arrays_in_two_places_are_refused_by_name(cp):
    x = np.zeros(8, np.float32)
    with pytest.raises(DeviceError, match=r"x and out on the CPU \(NumPy\), and y on the GPU"):
        distances[1, 8](x, cp.asarray(x), x)


def test_a_block_too_large_is_refused(cp):
    x = cp.zeros(8, np.float32)
    with pytest.raises(KernelError, match="2048 threads"):
        distances[1, (64, 32)](x, x, x)


def test_torch_tensors_go_in_and_come_back_without_a_copy(cp):
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6, device="cuda", dtype=torch.float16).reshape(2, 3)
    view = launch.to_cupy(tensor, "q")
    assert isinstance(view, cp.ndarray)
    assert view.data.ptr == tensor.data_ptr()
    back = launch.back(view, tensor)
    assert isinstance(back, torch.Tensor)
    assert back.data_ptr() == tensor.data_ptr()
    assert launch.back(view, view) is view
    assert launch.home(q=tensor, k=view) == "gpu"


def test_torch_tensors_run_a_kernel(cp):
    torch = pytest.importorskip("torch")
    x = torch.arange(8, device="cuda", dtype=torch.float32)
    out = torch.zeros(8, device="cuda")
    distances[1, 8](x, x, out)
    torch.cuda.synchronize()
    np.testing.assert_array_equal(out.cpu().numpy(), 2 * np.arange(8) ** 2)


def test_torch_tensors_that_cannot_be_handed_over_say_why(cp):
    torch = pytest.importorskip("torch")
    with pytest.raises(DeviceError, match="q is a torch array on the CPU"):
        launch.home(q=torch.zeros(3))
    with pytest.raises(DeviceError, match="q cannot be handed over.*grad"):
        launch.to_cupy(torch.zeros(3, device="cuda", requires_grad=True), "q")


def test_torch_bfloat16_is_refused_or_becomes_a_view(cp):
    torch = pytest.importorskip("torch")
    try:
        view = launch.to_cupy(torch.zeros(3, device="cuda", dtype=torch.bfloat16), "q")
    except DtypeError as error:
        assert "q has dtype torch.bfloat16" in str(error)
    else:
        assert str(view.dtype) == "bfloat16"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "scaled.cu"
    path.write_text(SOURCE, "utf-8")
    return path


def test_raw_kernel_runs_with_its_constants(cp, source):
    x = cp.arange(70, dtype=np.float32)
    for times in (2, 5):
        out = cp.empty(70, np.float32)
        scaled = launch.raw(source, "scaled", constants={"TIMES": times})
        scaled[3, 32, None, 128](x, out, np.int32(70), np.float32(0.5))
        np.testing.assert_array_equal(cp.asnumpy(out), np.arange(70) * 0.5 * times)
    assert launch.raw(source, "scaled", constants={"TIMES": 2}) is launch.raw(source, "scaled", constants={"TIMES": 2})


def test_raw_kernel_may_ask_for_more_than_48_kb(cp, source):
    x, out = cp.ones(32, np.float32), cp.empty(32, np.float32)
    launch.raw(source, "scaled", constants={"TIMES": 1})[1, 32, None, 96 * 1024](x, out, np.int32(32), np.float32(1))
    assert cp.asnumpy(out).all()


def test_raw_kernel_refuses_what_it_cannot_run(cp, source):
    scaled = launch.raw(source, "scaled", constants={"TIMES": 2})
    x = cp.ones(8, np.float32)
    with pytest.raises(DeviceError, match="CPU"):
        scaled[1, 8](cp.asnumpy(x), cp.asnumpy(x), np.int32(8), np.float32(1))
    with pytest.raises(TypeError, match="argument 4 of scaled is a Python float"):
        scaled[1, 8](x, x, np.int32(8), 1.0)
    with pytest.raises(DeviceError, match=r"needs compute capability 99.0 or newer; this GPU has"):
        launch.raw(source, "scaled", constants={"TIMES": 2}, min_arch=(99, 0))[1, 8](x, x, np.int32(8), np.float32(1))
    with pytest.raises(KernelError, match=r"scaled.cu does not compile") as failure:
        launch.raw(source, "scaled", constants={})[1, 8](x, x, np.int32(8), np.float32(1))
    assert "scaled.cu(5)" in str(failure.value)


def test_launches_are_observed_with_what_they_take(cp, source):
    x = cp.ones(64, np.float32)
    out = cp.empty_like(x)
    scaled = launch.raw(source, "scaled", constants={"TIMES": 1})
    with launch.observed() as kernels:
        scaled[2, 64, None, 100 * 1024](x, out, np.int32(64), np.float32(1))
        distances[2, 32](x, x, out)
        distances[4, 32](x, x, out)  # the first launch of a kernel is told
    told = [(row["name"], row["blocks"], row["threads"]) for row in kernels]
    assert told == [("scaled", 2, 64), ("distances", 2, 32)]
    for row in kernels:
        assert 0 < row["registers"] <= 255 and row["local_bytes"] == 0
        assert 0 < row["occupancy"] <= 1
    assert kernels[0]["shared_bytes"] >= 100 * 1024
    assert kernels[0]["occupancy"] <= 2 * 64 / 1024  # two such blocks at most share a multiprocessor's shared memory
