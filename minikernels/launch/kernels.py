"""`kernel` and `device`: one Python function that runs on the SIMT machine or, through numba, on a GPU."""

import functools
import inspect
import math
import types

import numpy as np

from minikernels.core.errors import KernelError
from minikernels.launch.gpu import require_gpu
from minikernels.launch.homes import home, is_array
from minikernels.launch.resources import note

__all__ = ["Device", "Kernel", "device", "kernel"]

THREADS_LIMIT = 1024  # threads of a block on every CUDA GPU
GRID_LIMIT = 65_535  # blocks along y and along z


def kernel(function):
    """Make a kernel of a function written for numba.cuda.

    ``K[grid, block](*args)``, or ``K[grid, block, stream, dynamic_shared_bytes](*args)``, launches it where its
    arrays live. ``K.py_func`` is the plain function.

    - NumPy arrays, or no arrays at all: on the SIMT machine; returns its ``Launch``.
    - Arrays on the GPU: compiled by numba for their dtypes and launched on CuPy's current stream, or the one given;
      returns None. CUDA runs asynchronously.
    - Both: DeviceError.
    """
    return Kernel(function)


def device(function):
    """Make a device function: kernels and other device functions call it by its plain name; so may Python."""
    return Device(function)


class Device:
    """A function that kernels call."""

    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.py_func = function

    def __call__(self, *args):
        """Run it as plain Python."""
        return self.py_func(*args)

    @functools.cached_property
    def numba_function(self):
        """The function as numba's kernels may call it."""
        from numba import cuda

        return cuda.jit(device=True)(for_numba(self.py_func))


class Kernel:
    """A kernel; index it with its launch configuration, then call it."""

    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.py_func = function
        self.parameters = tuple(inspect.signature(function).parameters)

    def __getitem__(self, configuration):
        return functools.partial(self.launch, configured(self.__name__, configuration))

    def __call__(self, *args):
        """Refuse: a kernel is launched."""
        raise TypeError(f"{self.__name__} is a kernel: launch it as {self.__name__}[grid, block](...)")

    def launch(self, configuration, *args):
        """Run where the arrays among `args` live."""
        grid, block, stream, shared_bytes = configuration
        if len(args) != len(self.parameters):
            expected = f"{len(self.parameters)} arguments ({', '.join(self.parameters)})"
            raise TypeError(f"{self.__name__} takes {expected}, not {len(args)}")
        arrays = {name: x for name, x in zip(self.parameters, args, strict=True) if is_array(x)}
        if home(**arrays) == "gpu":
            return self.launch_on_gpu(grid, block, stream, shared_bytes, args)
        from minikernels import simt

        return simt.run(self.py_func, grid, block, *args, shared_bytes=shared_bytes)

    def launch_on_gpu(self, grid, block, stream, shared_bytes, args):
        """Launch through numba."""
        check_launch(self.__name__, grid, block)
        passed = tuple(map(for_launch, args))
        self.numba_kernel[grid, block, on_stream(stream), shared_bytes](*passed)
        note(self.__name__, grid, block, shared_bytes, lambda: self.compiled(passed))

    def compiled(self, args):
        """Return what `note` asks of the kernel that numba compiled for arguments of these types."""
        dispatcher = self.numba_kernel
        found = dispatcher.overloads[tuple(dispatcher.typeof_pyval(x) for x in args)]
        handle = int(found._codelibrary.get_cufunc().handle)
        return found.regs_per_thread, found.local_mem_per_thread, found.shared_mem_per_block, handle

    @functools.cached_property
    def numba_kernel(self):
        """The kernel as numba compiles it, once for each tuple of argument types."""
        require_gpu(f"kernel {self.__name__} on GPU arrays", numba=True)
        from numba import cuda
        from numba.cuda.core import config

        config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # a lesson's grid is small on purpose
        return cuda.jit(for_numba(self.py_func))


def configured(name, configuration):
    """Return grid, block, stream and bytes of dynamic shared memory from what stood in the brackets."""
    if not isinstance(configuration, tuple) or not 2 <= len(configuration) <= 4:
        raise TypeError(f"launch {name} as {name}[grid, block](...) or {name}[grid, block, stream, shared_bytes](...)")
    grid, block, *rest = configuration
    stream, shared_bytes = (*rest, *(None, 0)[len(rest) :])
    return dimensions(grid, "grid"), dimensions(block, "block"), stream, int(shared_bytes)


def dimensions(size, name):
    """Return a grid or block as a tuple of one to three ints: ``4`` and ``(4, 2)`` become ``(4,)`` and ``(4, 2)``."""
    sizes = size if isinstance(size, (tuple, list)) else (size,)
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 0 for n in sizes)
    if not whole or not 1 <= len(sizes) <= 3:
        raise KernelError(f"{name} {size!r} must be one to three whole numbers", kind="resources")
    return tuple(int(n) for n in sizes)


def check_launch(name, grid, block):
    """Raise KernelError for a launch that no GPU can run; the SIMT machine has findings for it."""
    threads = math.prod(block)
    if not 0 < threads <= THREADS_LIMIT:
        message = f"{name}: a block of {block} has {threads} threads, and a GPU runs 1 to {THREADS_LIMIT}"
        raise KernelError(message, kind="resources")
    if 0 in grid or any(size > GRID_LIMIT for size in grid[1:]):
        message = f"{name}: a grid of {grid}; every axis is at least 1, y and z at most {GRID_LIMIT}"
        raise KernelError(message, kind="resources")


def for_numba(function):
    """Return the function with every `Device` that it names replaced by its numba function."""
    names = dict(function.__globals__)
    names |= {name: lower(names[name]) for name in function.__code__.co_names if name in names}
    cells = tuple(types.CellType(lower(cell.cell_contents)) for cell in function.__closure__ or ())
    copy = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, cells)
    copy.__qualname__, copy.__module__ = function.__qualname__, function.__module__
    return copy


def lower(value):
    """Return a device function's numba form, and anything else as it is."""
    return value.numba_function if isinstance(value, Device) else value


def on_stream(stream):
    """Return the stream for numba: CuPy's current one where the caller names none."""
    import cupy
    from numba import cuda

    if stream in (0, None):
        stream = cupy.cuda.get_current_stream()
    handle = getattr(stream, "ptr", stream)  # CuPy's streams have a ptr, numba's own are passed on
    return cuda.external_stream(handle) if isinstance(handle, int) else stream


def for_launch(x):
    """Return an argument as numba takes it: views of GPU memory without waiting for its stream, plain bools."""
    from numba import cuda

    if is_array(x):
        return cuda.as_cuda_array(x, sync=False)
    return bool(x) if isinstance(x, np.bool_) else x
