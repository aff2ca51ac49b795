"""What this machine has: Python packages, NVIDIA driver and GPUs, programs. Imports none of them."""

import ctypes
import os
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

__all__ = ["Gpu", "chromium", "driver", "package_version"]

DRIVERS = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")
COMPUTE_MAJOR, COMPUTE_MINOR = 75, 76  # CUdevice_attribute
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@dataclass(frozen=True)
class Gpu:
    """One GPU as the driver describes it."""

    name: str
    compute: tuple  # (9, 0)
    memory_bytes: int


def package_version(*names):
    """Return ``name version`` of the first of these packages that is installed, or None."""
    for name in names:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return None


def chromium():
    """Return the path of an installed Chromium or Chrome, or None; CHROMIUM names another."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


def driver():
    """Return (CUDA version of the driver, list of `Gpu`), or (None, []) where there is no driver.

    The driver library is asked directly, so that a machine with a GPU but without CuPy can be told what to install.
    """
    library = load_driver()
    if library is None or library.cuInit(0) != 0:
        return None, []
    number = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(number))
    count = ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    return (number.value // 1000, number.value % 1000 // 10), [gpu(library, i) for i in range(count.value)]


def load_driver():
    """Return the driver's library, or None."""
    for name in DRIVERS:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def gpu(library, number):
    """Ask the driver for the name, compute capability and memory of one GPU."""
    name, memory, major, minor = ctypes.create_string_buffer(256), ctypes.c_size_t(), ctypes.c_int(), ctypes.c_int()
    library.cuDeviceGetName(name, len(name), number)
    library.cuDeviceTotalMem_v2(ctypes.byref(memory), number)
    library.cuDeviceGetAttribute(ctypes.byref(major), COMPUTE_MAJOR, number)
    library.cuDeviceGetAttribute(ctypes.byref(minor), COMPUTE_MINOR, number)
    return Gpu(name.value.decode(), (major.value, minor.value), memory.value)
