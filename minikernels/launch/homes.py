"""Where an array lives, and how it comes to CuPy and back to the library it came from."""

import sys

import numpy as np

from minikernels.core.errors import DeviceError, DtypeError
from minikernels.launch.gpu import require_gpu

__all__ = ["back", "home", "is_array", "to_cupy"]

GPU_DEVICES = {2, 13}  # kDLCUDA and kDLCUDAManaged of DLPack's DLDeviceType
PLACES = {"cpu": "on the CPU (NumPy)", "gpu": "on the GPU"}


def home(*arrays, **named):
    """Return where the arrays live: ``"cpu"`` for NumPy, ``"gpu"`` for CuPy, torch CUDA tensors and the like.

    Parameters
    ----------
    *arrays, **named : array
        All must live in one place. Named ones are called by their name in the message; None is passed over.

    Raises
    ------
    DeviceError
        If some live on the CPU and some on the GPU, or an array is of a library other than NumPy and on the CPU.

    Examples
    --------
    >>> home(q=np.zeros(3), k=np.zeros(3))
    'cpu'
    """
    named = {f"argument {number}": x for number, x in enumerate(arrays, 1)} | named
    places = {name: of_one(name, x) for name, x in named.items() if x is not None}
    if len(set(places.values())) > 1:
        lists = [f"{listed(n for n in places if places[n] == p)} {PLACES[p]}" for p in dict.fromkeys(places.values())]
        raise DeviceError(
            f"arrays live in different places: {', and '.join(lists)}. Nothing is copied between the two behind your "
            "back; bring them together with cupy.asarray(x) or cupy.asnumpy(x)"
        )
    return next(iter(places.values()), "cpu")


def listed(names):
    """Return ``q``, ``q and k``, ``q, k and v``."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def is_array(x):
    """Return whether `x` is an array of some library, rather than a scalar."""
    return isinstance(x, np.ndarray) or (not isinstance(x, np.generic) and exports(x))


def exports(x):
    """Return whether `x` hands out its memory, through DLPack or the CUDA array interface."""
    return hasattr(type(x), "__dlpack_device__") or hasattr(type(x), "__cuda_array_interface__")


def of_one(name, x):
    """Return where one array lives."""
    if isinstance(x, np.ndarray):
        return "cpu"
    if not exports(x):
        raise DtypeError(f"{name} is of type {type(x).__name__}; it must be a NumPy array, or an array on a GPU")
    if not hasattr(type(x), "__dlpack_device__"):
        return "gpu"  # the CUDA array interface is for GPU memory alone
    kind, _ = x.__dlpack_device__()
    if int(kind) not in GPU_DEVICES:
        raise DeviceError(
            f"{name} is a {library(x)} array on the CPU; pass it as a NumPy array (np.asarray(x)) or move it to the GPU"
        )
    return "gpu"


def library(x):
    """Return the name of the library that an array belongs to: ``torch``, ``cupy``, ``jax``."""
    return type(x).__module__.partition(".")[0]


def to_cupy(x, name="array"):
    """Return a CuPy view of an array on the GPU, through DLPack; no byte is copied.

    DLPack orders the streams: CuPy's current stream waits for what the other library has queued.
    """
    require_gpu(f"{name}, a {library(x)} array,")
    import cupy

    if isinstance(x, cupy.ndarray):
        return x
    if not hasattr(type(x), "__dlpack__"):
        return cupy.asarray(x)
    try:
        return cupy.from_dlpack(x)
    except BufferError as error:  # a torch tensor that requires a gradient, for one
        raise DeviceError(f"{name} cannot be handed over: {error}") from error
    except (TypeError, ValueError) as error:
        raise DtypeError(f"{name} has dtype {getattr(x, 'dtype', '?')}, which CuPy cannot hold: {error}") from error


def back(result, like):
    """Return a CuPy array as the kind of array that `like` is, through DLPack; no byte is copied.

    A torch tensor in gives a torch tensor out, a CuPy array a CuPy array; NumPy arrays pass through.
    """
    if isinstance(result, np.ndarray) or type(result) is type(like):
        return result
    if hasattr(like, "__array_namespace__"):
        return like.__array_namespace__().from_dlpack(result)
    maker = getattr(sys.modules.get(library(like)), "from_dlpack", None)
    return result if maker is None else maker(result)
