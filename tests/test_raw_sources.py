"""Every CUDA C++ kernel compiles, warns of nothing and spills no register: NVRTC needs no GPU for that."""

import ctypes
import importlib.util
import re
from pathlib import Path

import pytest

from minikernels.block_sparse import raw as block_sparse
from minikernels.block_sparse import raw_wgmma as block_sparse_wgmma
from minikernels.core.decode import group_tile
from minikernels.flash import raw as flash
from minikernels.flash import raw_backward as flash_backward
from minikernels.gqa import raw as gqa
from minikernels.kv_compression import raw as kv
from minikernels.launch.raw_kernels import RawKernel
from minikernels.linear_attention import raw as linear_attention
from minikernels.linear_attention import raw_wgmma as linear_wgmma
from minikernels.paged import raw as paged
from minikernels.selective_scan import raw as selective_scan

PACKAGE = Path(__file__).resolve().parent.parent / "minikernels"
LIBRARIES = ("lib/libnvrtc.so.*", "bin/x86_64/nvrtc64_*.dll")
CLEAN = re.compile(r"\b0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads")
CONSUMER_LIMIT = 99 * 1024  # bytes of shared memory a block of an RTX GPU may have


def v4(D, itemsize, causal, limit=227 * 1024):
    return flash.tile_v4_register_tiles(D, itemsize, limit) | {"CAUSAL": causal}


def v5(D, causal):
    return flash.tile_v5_mma(D) | {"CAUSAL": causal}


BUILDS = [  # file, constants, architecture
    ("launch/wait.cu", {}, "sm_80"),
    ("bench/between_two_cases.cu", {}, "sm_80"),
    ("flash/v4_register_tiles.cu", v4(64, 4, False), "sm_90"),
    ("flash/v4_register_tiles.cu", v4(64, 2, True), "sm_90"),
    ("flash/v4_register_tiles.cu", v4(128, 4, True), "sm_90"),
    ("flash/v4_register_tiles.cu", v4(40, 4, False), "sm_80"),
    ("flash/v4_register_tiles.cu", v4(7, 2, True), "sm_80"),
    ("flash/v4_register_tiles.cu", v4(64, 4, True, CONSUMER_LIMIT), "sm_86"),
    ("flash/v4_register_tiles.cu", v4(128, 4, False, CONSUMER_LIMIT), "sm_89"),
    ("flash/v5_mma.cu", v5(32, False), "sm_80"),
    ("flash/v5_mma.cu", v5(40, True), "sm_90"),
    ("flash/v5_mma.cu", v5(64, False), "sm_89"),
    ("flash/v5_mma.cu", v5(64, True), "sm_90"),
    ("flash/v5_mma.cu", v5(128, False), "sm_80"),
    ("flash/v5_mma.cu", v5(128, True), "sm_90"),
]
BUILDS += [("flash/v6_async.cu", flash.tile_v6_async(D, found) | {"CAUSAL": causal}, "sm_{}{}".format(*found))
           for D, causal, found in [
               (40, False, (9, 0)), (64, True, (8, 0)), (64, False, (9, 0)), (72, True, (8, 9)), (128, True, (9, 0)),
               (128, False, (8, 0))]]
BUILDS += [("flash/v7_wgmma.cu", flash.tile_v7_wgmma(D) | {"CAUSAL": causal}, "sm_90a")
           for D, causal in [(40, True), (64, False), (64, True), (72, False), (128, False), (128, True)]]
BUILDS += [("flash/v4_mma_backward.cu", flash_backward.tile_v4_mma(D, limit) | {"CAUSAL": causal}, architecture)
           for D, causal, architecture, limit in [
               (64, True, "sm_90", 227 * 1024), (40, False, "sm_80", 163 * 1024), (128, True, "sm_90", 227 * 1024),
               (128, False, "sm_80", 163 * 1024), (128, True, "sm_89", CONSUMER_LIMIT)]]
BUILDS += [("flash/v5_wgmma_backward.cu", flash_backward.tile_v5_wgmma(D) | {"CAUSAL": causal}, "sm_90a")
           for D, causal in [(64, False), (40, True), (128, True), (128, False)]]
BUILDS += [("flash/v6_roles_backward.cu", flash_backward.tile_v5_wgmma(D) | {"CAUSAL": causal}, "sm_90a")
           for D, causal in [(64, False), (64, True), (40, True)]]
BUILDS += [(f"gqa/{file}.cu", gqa.constants(R, D, itemsize), architecture)
           for file in ("v4_wide_loads", "v5_split_kv", "v6_stream_k")
           for R, D, itemsize, architecture in [
               (1, 128, 2, "sm_90"), (4, 128, 2, "sm_80"), (4, 64, 4, "sm_90"), (7, 96, 2, "sm_90"),
               (8, 128, 4, "sm_80"), (32, 128, 2, "sm_90")]]
BUILDS += [(f"gqa/{file}.cu", group_tile(R, D, limit * 1024), architecture)
           for file in ("v7_mma_group", "v8_mma_stream_k")
           for R, D, limit, architecture in [
               (4, 128, 227, "sm_90"), (32, 128, 227, "sm_90"), (7, 40, 99, "sm_86"), (40, 96, 163, "sm_80")]]
BUILDS += [("paged/screen.cu", {"ENTRY_BYTES": e, "LENGTH_BYTES": n}, "sm_80") for e, n in ((4, 4), (8, 8), (4, 8))]
BUILDS += [(f"paged/{file}.cu", paged.constants(R, D, P, itemsize), architecture)
           for file in ("v4_fetch_ahead", "v5_split_kv")
           for R, D, P, itemsize, architecture in [
               (1, 128, 16, 2, "sm_90"), (4, 128, 16, 2, "sm_80"), (4, 64, 5, 4, "sm_90"), (7, 96, 128, 2, "sm_90"),
               (8, 128, 1, 4, "sm_80"), (32, 128, 16, 2, "sm_90")]]
BUILDS += [("paged/v6_mma_group.cu", paged.mma_constants(R, D, P), architecture)
           for R, D, P, architecture in [
               (1, 128, 16, "sm_90"), (4, 128, 16, "sm_80"), (7, 96, 1, "sm_90"), (12, 40, 24, "sm_80"),
               (16, 64, 128, "sm_90"), (32, 128, 16, "sm_90"), (32, 128, 1, "sm_80"), (40, 128, 5, "sm_90")]]
BUILDS += [(f"paged/{file}.cu", paged.group_constants(R, D, P, limit * 1024), architecture)
           for file in ("v7_async_ring", "v8_stream_k")
           for R, D, P, limit, architecture in [
               (4, 128, 16, 227, "sm_90"), (32, 128, 16, 227, "sm_90"), (12, 64, 1, 163, "sm_80"),
               (32, 128, 5, 99, "sm_89")]]
BUILDS += [(f"kv_compression/{file}.cu", kv.constants(R, D, itemsize, bits, group, group, pairs), architecture)
           for file, pairs in (("v3_wide_loads", 0), ("v4_half2", 1), ("v5_split_kv", 1))
           for R, D, itemsize, bits, group, architecture in [
               (4, 128, 2, 4, 64, "sm_90"), (7, 128, 4, 8, 64, "sm_80"), (1, 32, 4, 4, 128, "sm_90"),
               (3, 96, 2, 4, 32, "sm_89")]]
BUILDS += [("kv_compression/v6_mma.cu", kv.constants_v6(R, D, itemsize, bits, *groups), architecture)
           for R, D, itemsize, bits, groups, architecture in [
               (4, 128, 2, 4, (64, 64), "sm_90"), (8, 128, 2, 8, (64, 64), "sm_90"), (4, 128, 4, 4, (64, 64), "sm_80"),
               (32, 128, 4, 8, (64, 64), "sm_90"), (7, 64, 2, 4, (48, 32), "sm_89"), (3, 32, 4, 4, (128, 64), "sm_90")]]
BUILDS += [(f"kv_compression/{rung}.cu", constants(R, D, 2, bits, *groups), architecture)
           for rung, constants in (("v7_matrices", kv.constants_v7), ("v8_ring", kv.constants_v8))
           for R, D, bits, groups, architecture in [
               (4, 128, 4, (64, 64), "sm_90"), (8, 128, 8, (64, 64), "sm_90"), (32, 128, 4, (32, 32), "sm_80"),
               (7, 64, 8, (48, 32), "sm_89"), (3, 32, 4, (128, 64), "sm_90")]]
BUILDS += [(f"block_sparse/{file}.cu", block_sparse.constants(D, block, causal), architecture)
           for file in ("v5_mma", "v6_async") for D, block, causal, architecture in [
               (128, (128, 128), False, "sm_90"), (128, (128, 128), True, "sm_80"), (64, (128, 128), False, "sm_90"),
               (64, (64, 64), True, "sm_90"), (128, (64, 64), False, "sm_89"), (128, (16, 16), True, "sm_80"),
               (40, (48, 80), True, "sm_90"), (72, (100, 20), True, "sm_90"), (8, (256, 128), False, "sm_80")]]
BUILDS += [("block_sparse/v7_wgmma.cu", block_sparse_wgmma.constants(D, block, causal), "sm_90a")
           for D, block, causal in [
               (128, (128, 128), False), (128, (128, 128), True), (64, (256, 64), True), (96, (64, 128), False),
               (128, (192, 64), True), (40, (64, 64), True)]]
BUILDS += [(f"selective_scan/{file}.cu", selective_scan.constants(*sizes), architecture)
           for file in ("v5_registers", "v6_three_phase")
           for *sizes, architecture in [
               (16, 2048, 2, True, True, False, "sm_90"), (16, 2048, 2, "sm_90"), (16, 2048, 4, "sm_80"),
               (5, 7, 4, False, False, True, "sm_80"), (1, 3, 2, "sm_90"), (64, 256, 2, "sm_80"),
               (128, 64, 4, "sm_90")]]
BUILDS += [(f"selective_scan/{file}.cu", selective_scan.pair_constants(selective_scan.constants(N, E, *rest), E), arch)
           for file in ("v7_channel_pairs", "v8_staging_warps")
           for N, E, *rest, arch in [
               (16, 2048, 2, "sm_90"), (16, 2048, 2, "sm_80"), (16, 2048, 4, "sm_80"), (16, 2048, 4, "sm_90"),
               (5, 7, 4, False, False, True, "sm_80"), (1, 3, 2, "sm_90"), (128, 64, 2, "sm_90")]]
BUILDS += [(f"linear_attention/{file}.cu", linear_attention.constants(D, gate_bytes, limit), architecture)
           for file in ("v3_mma_chunk", "v4_split_along_time")
           for D, gate_bytes, architecture, limit in [
               (128, 0, "sm_90", 227 * 1024), (128, 2, "sm_90", 227 * 1024), (128, 4, "sm_90", 227 * 1024),
               (64, 0, "sm_80", 163 * 1024), (40, 0, "sm_90", 227 * 1024), (96, 2, "sm_80", 163 * 1024),
               (128, 2, "sm_86", CONSUMER_LIMIT), (8, 4, "sm_89", CONSUMER_LIMIT)]]
BUILDS += [("linear_attention/v5_wgmma.cu", linear_wgmma.constants_v5(D), "sm_90a") for D in (128, 72, 64, 8)]
BUILDS += [("linear_attention/v6_factored_gates.cu", linear_wgmma.constants_v6(D, gate_bytes), "sm_90a")
           for D, gate_bytes in ((128, 2), (128, 4), (40, 2), (64, 4))]
ENTRY = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(')


def identity(build):
    file, constants, architecture = build
    return "-".join([Path(file).stem, architecture, *(f"{name}{int(value)}" for name, value in constants.items())])


class Compiler:
    """NVIDIA's run-time compiler, called through ctypes."""

    def __init__(self, library, include):
        self.nvrtc, self.include = ctypes.CDLL(str(library)), include

    def compile(self, source, options):
        """Return (0 where it compiles, the compiler's and the assembler's log)."""
        program = ctypes.c_void_p()
        self.nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
        words = [f"-I{self.include}".encode(), b"--ptxas-options=-v", *(o.encode() for o in options)]
        code = self.nvrtc.nvrtcCompileProgram(program, len(words), (ctypes.c_char_p * len(words))(*words))
        size = ctypes.c_size_t()
        self.nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        self.nvrtc.nvrtcGetProgramLog(program, log)
        self.nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
        return code, log.value.decode()


@pytest.fixture(scope="module")
def compiler():
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for home in sorted(Path(folder).glob("cu1[23]")):
            for pattern in LIBRARIES:
                for library in home.glob(pattern):
                    if (home / "include/cuda_fp16.h").exists() and (home / "include/crt").exists():
                        return Compiler(library, home / "include")
    pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cuda-crt")


@pytest.mark.parametrize("build", BUILDS, ids=identity)
def test_kernel_compiles_without_spills_or_warnings(compiler, build):
    file, constants, architecture = build
    kernel = RawKernel(PACKAGE / file, Path(file).stem, tuple(constants.items()), (), (8, 0))
    options = [*kernel.options, *kernel.including(), f"-arch={architecture}"]
    code, log = compiler.compile(kernel.source(), options)
    assert code == 0, log
    assert "warning" not in log, log
    entries = ENTRY.findall(kernel.source())
    assert kernel.name in entries
    assert len(CLEAN.findall(log)) >= len(entries), log  # a function that is not inlined has a line of its own
    assert not re.search(r"[1-9]\d* bytes (stack frame|spill)", log), log
    for entry in entries:
        assert f"'{entry}' for '{architecture}'" in log, log


def test_report_shows_an_array_that_left_the_registers(compiler):
    """The test above relies on it."""
    source = """extern "C" __global__ void __launch_bounds__(1024) greedy(float* x) {
      float r[256];
      for (int i = 0; i < 256; i++) r[i] = x[i * 1024 + threadIdx.x];
      __syncthreads();
      for (int i = 0; i < 256; i++) x[i * 1024 + threadIdx.x] = r[255 - i] * r[i];
    }"""
    code, log = compiler.compile(source, ["-arch=sm_90"])
    assert code == 0, log
    assert not CLEAN.search(log), log


def test_every_cuda_file_is_compiled_here():
    named = {file for file, _, _ in BUILDS}
    assert {str(path.relative_to(PACKAGE).as_posix()) for path in PACKAGE.rglob("*.cu")} == named


@pytest.mark.parametrize("limit", [CONSUMER_LIMIT, 163 * 1024, 227 * 1024])
@pytest.mark.parametrize("D", [1, 64, 65, 128])
def test_tiles_of_v4_fit_the_shared_memory_they_were_sized_for(D, limit):
    assert flash.shared_v4_register_tiles(flash.tile_v4_register_tiles(D, 4, limit)) <= limit


@pytest.mark.parametrize(("technique", "constants", "file", "start"), [
    ("flash", flash.tile_v7_wgmma(64) | {"CAUSAL": False, "CONSUMERS": 4}, "v7_wgmma.cu", "static_assert(CONSUMERS"),
    ("block_sparse", block_sparse_wgmma.constants(64, (128, 128), False) | {"D": 12}, "walk.cuh", "static_assert(D >"),
])
def test_line_numbers_are_those_of_the_file(compiler, technique, constants, file, start):
    kernel = RawKernel(PACKAGE / technique / "v7_wgmma.cu", "v7_wgmma", tuple(constants.items()), (), (9, 0))
    code, log = compiler.compile(kernel.source(), [*kernel.options, *kernel.including(), "-arch=sm_90a"])
    lines = (PACKAGE / technique / file).read_text("utf-8").splitlines()
    number = next(n for n, line in enumerate(lines, 1) if line.startswith(start))
    assert code != 0
    assert f"{file}({number})" in log


@pytest.mark.parametrize("limit", [CONSUMER_LIMIT, 163 * 1024, 227 * 1024])
@pytest.mark.parametrize("gate_bytes", [0, 2, 4])
@pytest.mark.parametrize("D", [8, 64, 128])
def test_tiles_of_linear_attention_fit_the_shared_memory_they_were_sized_for(D, gate_bytes, limit):
    assert linear_attention.shared_bytes(linear_attention.constants(D, gate_bytes, limit)) <= limit


@pytest.mark.parametrize("D", [8, 64, 72, 128])
def test_stages_of_linear_attention_fit_the_shared_memory_of_sm_90(D):
    for tile in (linear_wgmma.constants_v5(D), linear_wgmma.constants_v6(D, 2), linear_wgmma.constants_v6(D, 4)):
        assert linear_wgmma.shared_bytes(tile) <= 227 * 1024
