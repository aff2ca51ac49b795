"""Raw CUDA C++ kernels: a real .cu file, compiled by NVRTC through CuPy for the GPU at hand."""

import contextlib
import functools
import re
import sys
import zlib
from pathlib import Path

import numpy as np

from minikernels.core.errors import DeviceError, KernelError
from minikernels.launch.gpu import architecture, require_gpu
from minikernels.launch.homes import home, is_array
from minikernels.launch.kernels import check_launch, configured
from minikernels.launch.resources import note
from minikernels.launch.tensor_maps import TensorMap

__all__ = ["HOPPER", "RawKernel", "definitions", "raw"]

HOPPER = {"options": ("-arch=sm_90a",), "min_arch": (9, 0)}  # of `raw`: what wgmma needs, which runs nowhere else
STATIC_SHARED_BYTES = 48 * 1024  # above this a kernel must ask for dynamic shared memory
PACKAGE = Path(__file__).resolve().parent.parent  # a header that techniques share: #include "launch/<name>.cuh"
INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)


def raw(file, name, *, constants=None, options=(), min_arch=(8, 0)):
    """Return the kernel `name` of a CUDA C++ file, compiled at its first launch.

    Parameters
    ----------
    file : str or Path
        The .cu file; a relative path starts at the caller's folder.
    name : str
        An ``extern "C"`` function in it.
    constants : dict of str to int, optional
        Given to the compiler as ``-DNAME=value``, so that the file's line numbers stay true.
    options : tuple of str
        More compiler options, such as `HOPPER` has for wgmma.
    min_arch : (int, int)
        Least compute capability that it runs on.

    Returns
    -------
    RawKernel
        Launched as ``K[grid, block](*args)`` or ``K[grid, block, stream, dynamic_shared_bytes](*args)``, like `kernel`.
        The same file, name, constants and options give the same object.
    """
    path = Path(file)
    if not path.is_absolute():
        path = Path(sys._getframe(1).f_code.co_filename).parent / path
    return built(path, name, tuple(sorted((constants or {}).items())), tuple(options), tuple(min_arch))


@functools.cache
def built(path, name, constants, options, min_arch):
    """Return the one RawKernel of these arguments."""
    return RawKernel(path, name, constants, options, min_arch)


def definitions(constants):
    """Return compiler options for constants: ``{"BLOCK_T": 64}`` gives ``("-DBLOCK_T=64",)``."""
    return tuple(f"-D{name}={int(value)}" for name, value in dict(constants).items())


def included(path):
    """Return the project's files that a file includes, and those that they include: each once, in order.

    A name in quotes is looked for beside the file that includes it, then in the package.
    """
    found = []
    for name in INCLUDE.findall(path.read_text("utf-8")):
        header = next((f / name for f in (path.parent, PACKAGE) if (f / name).exists()), None)
        if header is None:
            raise FileNotFoundError(f"{path.name} includes {name}, which is neither beside it nor in {PACKAGE.name}")
        found += [header, *included(header)]
    return list(dict.fromkeys(found))


class RawKernel:
    """A kernel of a .cu file; index it with its launch configuration, then call it."""

    def __init__(self, path, name, constants, options, min_arch):
        self.path, self.name, self.min_arch, self.functions = path, name, min_arch, {}
        self.options = ("-std=c++17", *definitions(constants), *options)
        self.exact = any(o.startswith("-arch=sm_") and o.endswith("a") for o in options)  # sm_90a runs on nothing else

    def __getitem__(self, configuration):
        return functools.partial(self.launch, configured(self.name, configuration))

    def source(self):
        """Return the file's text; the compiler is told its name and that it starts at line 1."""
        return f'#line 1 "{self.path.name}"\n{self.path.read_text("utf-8")}'

    def including(self):
        """Return the compiler options by which headers are found.

        CuPy finds a compiled file again by its text and its options, so the text that it includes is told as an option.
        """
        headers = included(self.path)
        if not headers:
            return ()
        checksum = zlib.crc32(b"".join(header.read_bytes() for header in headers))
        return f"-I{self.path.parent}", f"-I{PACKAGE}", f"-DINCLUDED_CRC={checksum}"

    def check_machine(self):
        """Raise DeviceError unless a GPU of the architecture that the kernel needs is at hand."""
        found = architecture()
        if found < self.min_arch or (self.exact and found != self.min_arch):
            needed, has = (".".join(map(str, pair)) for pair in (self.min_arch, found))
            rule = "exactly" if self.exact else "or newer"
            raise DeviceError(
                f"{self.name} in {self.path.name} needs compute capability {needed} {rule}; this GPU has {has}"
            )

    @functools.cached_property
    def module(self):
        """The compiled file; CuPy keeps one binary for each GPU."""
        import cupy

        options = (*self.options, *self.including(), "--generate-line-info")
        try:
            module = cupy.RawModule(code=self.source(), options=options)
            module.compile()
        except cupy.cuda.compiler.CompileException as error:
            options = " ".join(self.options)
            raise KernelError(f"{self.path.name} does not compile with {options}: {error}", kind="language") from error
        return module

    def function(self):
        """Return the kernel on the current GPU, which is checked, and the file compiled for it, the first time."""
        require_gpu(f"{self.name} in {self.path.name}")
        import cupy

        number = cupy.cuda.Device().id
        if number not in self.functions:
            self.check_machine()
            self.functions[number] = self.module.get_function(self.name)
        return self.functions[number]

    def launch(self, configuration, *args):
        """Launch on GPU arrays."""
        grid, block, stream, shared_bytes = configuration
        check_arguments(self.name, args)
        check_launch(self.name, grid, block)
        function = self.function()
        if shared_bytes > STATIC_SHARED_BYTES:
            function.max_dynamic_shared_size_bytes = shared_bytes
        given = tuple(x.value if isinstance(x, TensorMap) else x for x in args)
        with chosen(stream):
            function(grid, block, given, shared_mem=shared_bytes)
        note(self.name, grid, block, shared_bytes, lambda: compiled(function))

    def __repr__(self):
        return f"<RawKernel {self.name} of {self.path.name}>"


def compiled(function):
    """Return what `note` asks of a compiled kernel."""
    return function.num_regs, function.local_size_bytes, function.shared_size_bytes, function.kernel.ptr


def chosen(stream):
    """Return a context in which CuPy launches on the given stream; its current one where there is none."""
    import cupy

    if stream in (0, None):
        return contextlib.nullcontext()
    return stream if isinstance(stream, cupy.cuda.Stream) else cupy.cuda.ExternalStream(int(stream))


def check_arguments(name, args):
    """Raise unless every array lives on the GPU and every scalar has a type that says its width."""
    arrays = {f"argument {i}": x for i, x in enumerate(args, 1) if is_array(x)}
    if arrays and home(**arrays) != "gpu":
        raise DeviceError(f"{name} is CUDA C++, which runs on a GPU alone; its arrays live on the CPU (NumPy)")
    for i, x in enumerate(args, 1):
        if not is_array(x) and not isinstance(x, (np.generic, bool, TensorMap)):
            kind = type(x).__name__
            raise TypeError(f"argument {i} of {name} is a Python {kind} and has no fixed width; pass np.int32(x), say")
