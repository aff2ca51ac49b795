"""The oracle for kernels without barriers: each thread in turn, as plain Python on NumPy scalars."""

import builtins
import itertools
import math
import types

import numpy as np


class Three:
    """An object with x, y and z."""

    def __init__(self, x=0, y=0, z=0):
        self.x, self.y, self.z = x, y, z


class Atomic:
    """Atomics of threads that run one after the other."""

    @staticmethod
    def add(array, index, value):
        old = array[index]
        array[index] += value
        return old

    @staticmethod
    def max(array, index, value):
        old = array[index]
        array[index] = builtins.max(old, value)
        return old


class Local:
    """Local arrays."""

    @staticmethod
    def array(shape, dtype):
        return np.full(shape, -77, dtype)


class Cuda:
    """As much of ``numba.cuda`` as a kernel without barriers needs."""

    atomic, local = Atomic, Local

    def __init__(self, grid, block):
        self.gridDim, self.blockDim = Three(*grid), Three(*block)
        self.threadIdx, self.blockIdx = Three(), Three()

    def grid(self, axes):
        place = tuple(getattr(self.blockIdx, a) * getattr(self.blockDim, a) + getattr(self.threadIdx, a) for a in "xyz")
        return place[0] if axes == 1 else place[:axes]

    def gridsize(self, axes):
        size = tuple(getattr(self.gridDim, a) * getattr(self.blockDim, a) for a in "xyz")
        return size[0] if axes == 1 else size[:axes]

    @staticmethod
    def jit(function=None, **_):
        return function or (lambda f: f)

    @property
    def threads(self):
        """Every thread of the launch, made current in turn."""
        g, b = self.gridDim, self.blockDim
        for z, y, x in itertools.product(range(g.z), range(g.y), range(g.x)):
            for tz, ty, tx in itertools.product(range(b.z), range(b.y), range(b.x)):
                self.blockIdx, self.threadIdx = Three(x, y, z), Three(tx, ty, tz)
                yield


NUMPY = {n: getattr(np, n) for n in ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint32")}


def three(value):
    """Return a launch axis triple."""
    axes = value if isinstance(value, tuple) else (value,)
    return axes + (1,) * (3 - len(axes))


def run(function, grid, block, *arguments):
    """Run a kernel (a function or a dispatcher) thread by thread."""
    cuda = Cuda(three(grid), three(block))
    thread = _rebuilt(function, cuda)
    with np.errstate(all="ignore"):
        for _ in cuda.threads:
            thread(*arguments)


def run_source(text, name, grid, block, *arguments):
    """Run the kernel of a source text thread by thread."""
    cuda = Cuda(three(grid), three(block))
    space = {"cuda": cuda, "math": math, **NUMPY}
    exec(text, space)
    with np.errstate(all="ignore"):
        for _ in cuda.threads:
            space[name](*arguments)


def _rebuilt(function, cuda):
    """Return the plain function with ``cuda`` and the types it names replaced."""
    function = getattr(function, "py_func", function)
    names = dict(function.__globals__)
    for name, value in list(names.items()):
        names[name] = _replaced(name, value, cuda)
    cells = [_replaced(n, c.cell_contents, cuda)
             for n, c in zip(function.__code__.co_freevars, function.__closure__ or ())]
    return types.FunctionType(function.__code__, names, function.__name__, None,
                              tuple(types.CellType(c) for c in cells))


def _replaced(name, value, cuda):
    if isinstance(value, types.ModuleType) and value.__name__ == "numba.cuda":
        return cuda
    if type(value).__module__.startswith("numba.core.types"):
        return NUMPY.get(str(value), value)
    if hasattr(value, "py_func"):
        return _lazy(value, cuda)
    return value


def _lazy(value, cuda):
    # rebuilt at the call: device functions may call each other
    return lambda *arguments: _rebuilt(value, cuda)(*arguments)
