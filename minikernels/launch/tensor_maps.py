"""Tensor maps: how Hopper's copy engine (TMA) is told the shape of an array in HBM and of the box that it fetches."""

import ctypes
import functools
import math
from typing import NamedTuple

import numpy as np

from minikernels.core.errors import DeviceError, ShapeError

__all__ = ["TENSOR_MAP", "TensorMap", "tensor_map"]

TENSOR_MAP = np.dtype([("opaque", np.uint64, 16)])  # CUtensorMap: 128 bytes, passed to a kernel by value
SWIZZLE_BYTES = 128  # the widest inner side of a box under the 128-byte swizzle
LONGEST_SIDE = 256  # of a box, in elements
DTYPES = {"float16": "FLOAT16", "float32": "FLOAT32", "int8": "UINT8", "uint8": "UINT8", "int32": "INT32"}


class TensorMap(NamedTuple):
    """An argument of a CUDA C++ kernel, passed by value: ``const __grid_constant__ TensorMap x``.

    Attributes
    ----------
    value : ndarray of shape (), TENSOR_MAP
    array : CuPy array
        What the map is of; it must live as long as the map is used.
    """

    value: np.ndarray
    array: object


def tensor_map(x, box, *, swizzle=True):
    """Return a map of a CuPy array: a kernel's `const __grid_constant__ TensorMap`.

    A box that reaches past the array's end is filled up with zeros. Maps of the same memory and shape are the same
    object, so that a repeated launch does not encode them again.

    Parameters
    ----------
    x : CuPy array of 2 to 5 axes, C-contiguous, at an address that 16 divides
        All rows of the last axis must take a multiple of 16 bytes.
    box : tuple of int
        Shape of a box, an entry an axis of `x`; where there are fewer, the axes before those count as one, of which a
        box has one place. In shared memory it lies in C order, its rows 128-byte swizzled.
    swizzle : bool
        Whether chunk c of 16 bytes of row r goes to place c ^ (r % 8). The rows of the box then take 128 bytes.

    Raises
    ------
    ShapeError
        If the copy engine cannot fetch such a box of such an array.
    """
    shape, itemsize, address = tuple(x.shape), x.dtype.itemsize, x.data.ptr
    if len(box) < len(shape):
        shape, box = (math.prod(shape[: -len(box)]), *shape[-len(box) :]), (1, *box)
    row = box[-1] * itemsize
    if len(box) != len(shape) or not 2 <= len(shape) <= 5:
        raise ShapeError(f"a box {box} does not fit an array of shape {shape} of 2 to 5 axes")
    if max(box) > LONGEST_SIDE or (swizzle and row != SWIZZLE_BYTES) or row % 16:
        raise ShapeError(f"the copy engine cannot fetch a box {box} of {x.dtype.name}")
    if 0 in shape or address % 16 or shape[-1] * itemsize % 16 or not x.flags.c_contiguous:
        raise ShapeError(f"the copy engine cannot read an array of shape {shape} of {x.dtype.name} at {address:#x}")
    return TensorMap(encoded(address, shape, x.dtype.name, tuple(box), swizzle), x)


@functools.lru_cache(maxsize=1024)
def encoded(address, shape, dtype, box, swizzle):
    """Return the driver's encoding; it names its axes from the innermost on."""
    from cuda.bindings import driver

    sizes, word = shape[::-1], np.dtype(dtype).itemsize
    strides = np.cumprod([size * (word if n == 0 else 1) for n, size in enumerate(sizes)])[:-1]
    error, encoding = driver.cuTensorMapEncodeTiled(
        getattr(driver.CUtensorMapDataType, f"CU_TENSOR_MAP_DATA_TYPE_{DTYPES[dtype]}"), len(sizes), address,
        [driver.cuuint64_t(int(n)) for n in sizes],
        [driver.cuuint64_t(int(n)) for n in strides],
        [driver.cuuint32_t(n) for n in box[::-1]],
        [driver.cuuint32_t(1)] * len(sizes),  # elements a step
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        getattr(driver.CUtensorMapSwizzle, f"CU_TENSOR_MAP_SWIZZLE_{'128B' if swizzle else 'NONE'}"),
        driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )
    if error != driver.CUresult.CUDA_SUCCESS:
        raise DeviceError(f"no tensor map for shape {shape}, box {box} of {dtype}: {error}")
    return np.frombuffer(ctypes.string_at(encoding.getPtr(), TENSOR_MAP.itemsize), TENSOR_MAP).reshape(()).copy()
