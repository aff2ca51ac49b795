"""What this machine's GPU can run, and what to install where it cannot."""

import functools
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

from minikernels.core.errors import DeviceError

__all__ = ["INSTALL", "architecture", "multiprocessors", "no_gpu_because", "provenance", "require_gpu", "shared_limit"]

INSTALL = (
    "on a machine with an NVIDIA GPU: uv run --extra cuda13 ... (driver for CUDA 13) or uv run --extra cuda12 ..., "
    "or conda env create -f environment.yml"
)

PACKAGES = ("numpy", "numba", "numba-cuda", "cupy-cuda13x", "cupy-cuda12x", "torch", "triton", "nvidia-cudnn-cu13")


def no_gpu_because(numba=False):
    """Return why no kernel can run on a GPU here, or None where one can.

    Parameters
    ----------
    numba : bool
        Whether numba's CUDA target is needed beside CuPy.
    """
    try:
        import cupy
    except ImportError:
        return "CuPy is not installed"
    try:
        if cupy.cuda.runtime.getDeviceCount() == 0:
            return "there is no NVIDIA GPU"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"there is no usable NVIDIA GPU ({error})"
    if not numba:
        return None
    try:
        from numba import cuda
    except ImportError as error:
        return f"numba cannot be imported ({error})"
    return None if cuda.is_available() else "numba finds no GPU; is numba-cuda installed?"


def require_gpu(what, numba=False):
    """Raise DeviceError, with what to install, unless this machine can run `what` on a GPU."""
    reason = no_gpu_because(numba)
    if reason:
        raise DeviceError(f"{what} needs a GPU, and {reason}; {INSTALL}")


def architecture():
    """Return the compute capability of the current GPU, such as (9, 0)."""
    require_gpu("this kernel")
    import cupy

    digits = cupy.cuda.Device().compute_capability  # "90", "120": the last digit is the minor number
    return int(digits[:-1]), int(digits[-1])


def shared_limit():
    """Return the most bytes of shared memory that a block may ask for on the current GPU."""
    require_gpu("this kernel")
    import cupy

    return shared_limit_of(cupy.cuda.Device().id)


@functools.cache
def shared_limit_of(number):
    """Return the limit of one GPU; the driver takes long to list its attributes."""
    import cupy

    return cupy.cuda.Device(number).attributes["MaxSharedMemoryPerBlockOptin"]


def multiprocessors():
    """Return how many multiprocessors the current GPU has."""
    require_gpu("this kernel")
    import cupy

    return multiprocessors_of(cupy.cuda.Device().id)


@functools.cache
def multiprocessors_of(number):
    """Return how many multiprocessors a GPU has; asking for its attributes takes longer than a short kernel."""
    import cupy

    return cupy.cuda.Device(number).attributes["MultiProcessorCount"]


def provenance():
    """Return what a measurement on the current GPU must say of it: name, architecture, driver, CUDA and versions."""
    require_gpu("measuring")
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    number = cupy.cuda.runtime.driverGetVersion()
    return {
        "gpu": properties["name"].decode(),
        "compute": list(architecture()),
        "multiprocessors": properties["multiProcessorCount"],
        "driver": driver(),
        "cuda": f"{number // 1000}.{number % 1000 // 10}",
        "nvrtc": ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := package_version(name))},
    }


def driver():
    """Return the driver's version as nvidia-smi tells it, or ``unknown``."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def package_version(name):
    """Return the version of an installed package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
