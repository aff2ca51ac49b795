"""Where a kernel runs, as far as a machine without a GPU can tell: homes, launch configurations, device functions."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest

from minikernels import launch, simt
from minikernels.core.errors import DeviceError, DtypeError, KernelError
from minikernels.launch import Ladder, cuda, device, float32, gathered, kernel, resources
from minikernels.launch.kernels import for_numba
from minikernels.launch.raw_kernels import PACKAGE, RawKernel, definitions, included


class OnDevice:
    """An array of some library, as DLPack describes it."""

    def __init__(self, kind):
        self.kind = kind

    def __dlpack_device__(self):
        return self.kind, 0

    def __dlpack__(self, **options):
        raise NotImplementedError


CPU, GPU, MANAGED = 1, 2, 13


@device
def twice(x):
    return x + x


@kernel
def doubled(x, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = twice(x[i])


@kernel
def reversed_in_block(x):
    room = cuda.shared.array(0, float32)
    i = cuda.threadIdx.x
    room[i] = x[i]
    cuda.syncthreads()
    x[i] = room[cuda.blockDim.x - 1 - i]


def test_numpy_arrays_run_on_the_simt_machine_and_return_its_launch():
    x, out = np.arange(10, dtype=np.float32), np.zeros(10, np.float32)
    done = doubled[2, 8](x, out)
    assert isinstance(done, simt.Launch)
    assert done.traffic.load_bytes == 40
    np.testing.assert_array_equal(out, 2 * x)


def test_dynamic_shared_memory_reaches_the_simt_machine():
    x = np.arange(32, dtype=np.float32)
    reversed_in_block[1, 32, None, 128](x)
    np.testing.assert_array_equal(x, np.arange(32)[::-1])


def test_a_grid_without_blocks_is_refused():
    empty = np.zeros(0, np.float32)
    with pytest.raises(KernelError, match="at least 1"):
        doubled[0, 8](empty, empty)


def test_a_kernel_keeps_its_function_and_its_name():
    assert doubled.py_func.__name__ == doubled.__name__ == "doubled"
    assert twice(3) == twice.py_func(3) == 6
    with pytest.raises(TypeError, match=r"launch it as doubled\[grid, block\]"):
        doubled(1, 2)
    with pytest.raises(TypeError, match=r"doubled takes 2 arguments \(x, out\), not 1"):
        doubled[1, 1](np.zeros(1))


@pytest.mark.parametrize("configuration", [1, (1,), (1, 1, 0, 0, 0)])
def test_a_launch_needs_grid_and_block(configuration):
    with pytest.raises(TypeError, match=r"launch doubled as doubled\[grid, block\]"):
        doubled[configuration]


@pytest.mark.parametrize("grid", [1.5, (1, 2, 3, 4), (), -1, True, "4"])
def test_a_grid_is_one_to_three_whole_numbers(grid):
    with pytest.raises(KernelError, match="grid .* must be one to three whole numbers"):
        doubled[grid, 1]


def test_home_is_where_the_arrays_live():
    assert launch.home() == launch.home(np.zeros(3), np.zeros(())) == "cpu"
    assert launch.home(q=OnDevice(GPU), k=OnDevice(MANAGED), mask=None) == "gpu"


def test_home_refuses_arrays_in_two_places_and_names_them():
    with pytest.raises(DeviceError, match=r"q and v on the CPU \(NumPy\), and k on the GPU"):
        launch.home(q=np.zeros(1), k=OnDevice(GPU), v=np.zeros(1))
    with pytest.raises(DeviceError, match="argument 2 on the GPU"):
        launch.home(np.zeros(1), OnDevice(GPU))


def test_home_refuses_what_is_no_array_or_another_librarys_on_the_cpu():
    with pytest.raises(DtypeError, match="k is of type list; it must be a NumPy array"):
        launch.home(k=[1, 2])
    with pytest.raises(DeviceError, match="q is a .* array on the CPU; pass it as a NumPy array"):
        launch.home(q=OnDevice(CPU))


def test_kernels_name_the_arrays_that_live_elsewhere():
    with pytest.raises(DeviceError, match=r"x on the GPU, and out on the CPU"):
        doubled[1, 8](OnDevice(GPU), np.zeros(8, np.float32))


def test_numpy_results_come_back_as_they_are():
    x = np.zeros(3)
    assert launch.back(x, x) is x


def test_device_functions_are_replaced_for_numba_and_nothing_else():
    copy = for_numba(doubled.py_func)
    assert copy.__globals__["twice"] is twice.numba_function
    assert copy.__globals__["cuda"] is cuda
    assert doubled.py_func.__globals__["twice"] is twice
    factor = 3

    @device
    def scaled(x):
        return x * factor

    def body(x, out):
        out[0] = scaled(x[0]) + factor

    values = [cell.cell_contents for cell in for_numba(body).__closure__]
    assert set(map(type, values)) == {int, type(scaled.numba_function)}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "nothing.cu"
    path.write_text('extern "C" __global__ void nothing() {}\n', "utf-8")
    return path


def test_raw_gives_one_kernel_for_one_build(file):
    first = launch.raw(file, "nothing", constants={"B": 1, "A": True})
    assert first is launch.raw(file, "nothing", constants={"A": True, "B": 1})
    assert first is not launch.raw(file, "nothing", constants={"A": False, "B": 1})
    assert first.options == ("-std=c++17", "-DA=1", "-DB=1")
    assert first.source().startswith('#line 1 "nothing.cu"\nextern')
    assert definitions({"T": np.int64(4)}) == ("-DT=4",)


def test_raw_finds_files_beside_the_caller():
    assert launch.raw("test_launch.py", "nothing").path.samefile(__file__)


def test_a_raw_kernel_refuses_what_it_cannot_take(file):
    nothing = launch.raw(file, "nothing")
    with pytest.raises(DeviceError, match="nothing is CUDA C.., which runs on a GPU alone"):
        nothing[1, 1](np.zeros(3))
    with pytest.raises(TypeError, match="argument 1 of nothing is a Python int and has no fixed width"):
        nothing[1, 1](3)
    with pytest.raises(KernelError, match="2048 threads"):
        nothing[1, 2048]()


@pytest.mark.parametrize(("options", "found", "runs"), [
    ((), (9, 0), True), ((), (12, 0), True), ((), (7, 5), False),
    (("-arch=sm_90a",), (9, 0), True), (("-arch=sm_90a",), (10, 0), False)])
def test_a_raw_kernel_checks_the_architecture(file, monkeypatch, options, found, runs):
    from minikernels.launch import raw_kernels

    monkeypatch.setattr(raw_kernels, "architecture", lambda: found)
    kernel = RawKernel(file, "nothing", (), options, (9, 0) if options else (8, 0))
    if runs:
        kernel.check_machine()
    else:
        with pytest.raises(DeviceError, match=f"needs compute capability .*; this GPU has {found[0]}.{found[1]}"):
            kernel.check_machine()


def test_without_a_gpu_the_message_says_what_to_install(file):
    if launch.no_gpu_because() is None:
        pytest.skip("there is a GPU here")
    for attempt in (launch.raw(file, "nothing")[1, 1], lambda: launch.to_gpu(np.zeros(1)), launch.provenance,
                    launch.architecture, launch.multiprocessors, launch.shared_limit, lambda: launch.counters(3),
                    lambda: launch.to_numpy(OnDevice(2))):
        with pytest.raises(DeviceError, match="needs a GPU.*uv run --extra cuda13"):
            attempt()


def test_a_numpy_array_comes_back_as_a_copy_without_a_gpu():
    x = np.arange(3)
    back = launch.to_numpy(x)
    x[0] = 7
    assert back.tolist() == [0, 1, 2]


def test_a_ladder_tells_where_a_rung_runs_and_what_it_takes():
    ladder = Ladder("flash", {"tiled": "tiled.a", "v1_x": "numba_part.b", "v2_y": "raw_part.c"}, {"v2_y": ("float16",)})
    assert [ladder.kind(rung) for rung in ladder] == ["numpy", "numba", "raw"]
    assert ladder.of_kind("numba", "raw") == ["v1_x", "v2_y"]
    x = np.zeros(3)
    ladder.check_dtype("tiled", x=x)
    with pytest.raises(DtypeError, match="x has dtype float64; rung v1_x takes float16 and float32"):
        ladder.check_dtype("v1_x", x=x)
    with pytest.raises(DtypeError, match="x has dtype float32; rung v2_y takes float16$"):
        ladder.check_dtype("v2_y", x=x.astype(np.float32))


@pytest.mark.parametrize(("rung", "place", "fits"), [
    (None, "gpu", True), ("tiled", "cpu", True), ("tiled", "gpu", False), ("v1_x", "cpu", True), ("v1_x", "gpu", True),
    ("v2_y", "gpu", True), ("v2_y", "cpu", False)])
def test_a_rung_asked_for_by_name_runs_where_it_can_or_is_refused(rung, place, fits):
    ladder = Ladder("flash", {"tiled": "tiled.a", "v1_x": "numba_part.b", "v2_y": "raw_part.c"})
    with contextlib.nullcontext() if fits else pytest.raises(DeviceError, match=rung):
        ladder.check_place(rung, place)


@pytest.mark.parametrize("rung", ["v9_magic", 3, ["tiled"], ""])
def test_a_ladder_refuses_a_rung_that_it_does_not_have(rung):
    with pytest.raises(ValueError, match="the rungs are tiled$"):
        Ladder("flash", {"tiled": "tiled.a"}).check_name(rung)


def test_gathered_leaves_out_what_is_not_given():
    x = np.zeros(3)
    (first, second), like, place = gathered(first=None, second=x)
    assert first is None
    assert second is like is x
    assert place == "cpu"
    assert gathered(first=None)[1] is None


def test_importing_launch_imports_neither_numba_nor_cupy():
    code = "import sys, minikernels.launch; print({'numba', 'cupy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_unknown_names_of_launch_are_an_import_error():
    with pytest.raises(ImportError):
        from minikernels.launch import nothing  # noqa: F401


def test_headers_are_found_beside_the_file_and_in_the_package_and_told_as_an_option(tmp_path):
    (tmp_path / "a.cuh").write_text('#include "b.cuh"\n#include <cuda_fp16.h>\n')
    (tmp_path / "b.cuh").write_text("// one\n")
    (tmp_path / "k.cu").write_text('#include "a.cuh"\n#include "b.cuh"\n')
    assert [path.name for path in included(tmp_path / "k.cu")] == ["a.cuh", "b.cuh"]
    before = RawKernel(tmp_path / "k.cu", "k", (), (), (8, 0)).including()
    (tmp_path / "b.cuh").write_text("// two\n")
    after = RawKernel(tmp_path / "k.cu", "k", (), (), (8, 0)).including()
    assert before[:2] == after[:2] == (f"-I{tmp_path}", f"-I{PACKAGE}")
    assert before[2] != after[2]
    (tmp_path / "k.cu").write_text('#include "c.cuh"\n')
    with pytest.raises(FileNotFoundError, match=r"k\.cu includes c\.cuh"):
        included(tmp_path / "k.cu")


def test_observers_hear_each_kernel_once_and_nothing_is_asked_without_them(monkeypatch):
    monkeypatch.setattr(resources, "occupancy", lambda handle, threads, shared_bytes: threads / 2048 + shared_bytes)
    resources.note("unheard", (1,), (32,), 0, lambda: pytest.fail("nobody listens"))
    with launch.observed() as outer:
        resources.note("first", (2, 3), (32, 4), 0, lambda: (40, 0, 512, 7))
        with launch.observed() as inner:
            resources.note("first", (9,), (32,), 1, lambda: (40, 8, 512, 7))
    assert outer == [{"name": "first", "blocks": 6, "threads": 128, "registers": 40, "local_bytes": 0,
                      "shared_bytes": 512, "occupancy": 0.0625}]
    assert [(row["blocks"], row["local_bytes"], row["shared_bytes"]) for row in inner] == [(9, 8, 513)]
