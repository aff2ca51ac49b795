"""Where a kernel runs: NumPy arrays on the SIMT machine, GPU arrays on the GPU.

The data's home decides, and nothing is copied behind the user's back. Every import of numba.cuda and of CuPy in the
project stands in this folder, inside the function that needs it, so that the package works on a machine with
neither. A kernel's file takes the names it is written with from here: ``from minikernels.launch import cuda, kernel``.
"""

from minikernels.launch.arrivals import counters
from minikernels.launch.gpu import (
    INSTALL,
    architecture,
    multiprocessors,
    no_gpu_because,
    provenance,
    require_gpu,
    shared_limit,
)
from minikernels.launch.homes import back, home, to_cupy
from minikernels.launch.kernels import Device, Kernel, device, kernel
from minikernels.launch.ladder import Ladder, gathered
from minikernels.launch.raw_kernels import HOPPER, RawKernel, raw
from minikernels.launch.resources import observed
from minikernels.launch.tensor_maps import tensor_map
from minikernels.launch.timing import time_ms, times_ms, to_gpu, to_numpy

__all__ = [
    "HOPPER", "INSTALL", "Device", "Kernel", "Ladder", "RawKernel", "architecture", "back", "counters", "device",
    "gathered", "home", "kernel", "multiprocessors", "no_gpu_because", "observed", "provenance", "raw", "require_gpu",
    "shared_limit", "tensor_map", "time_ms", "times_ms", "to_cupy", "to_gpu", "to_numpy",
]

DTYPES = ("boolean", "float16", "float32", "float64", "int8", "int16", "int32", "int64")
DTYPES += ("uint8", "uint16", "uint32", "uint64")


def __getattr__(name):
    """Import numba when a kernel's module first asks for ``cuda`` or a dtype, and not before."""
    if name == "cuda":
        from numba import cuda

        return cuda
    if name in DTYPES:
        from numba import types

        return getattr(types, name)  # types has float16, which the top level lacks
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
