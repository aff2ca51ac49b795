"""Where values live during a launch: global arrays, shared memory, registers (local arrays), constants.

A storage keeps elements in one flat axis and answers four questions: the values at given elements, how to put
values there, what the access counts as, and who touched an element before (its `Shadow`). `View` in views.py
turns indices into flat elements.
"""

import numpy as np

from minikernels.core.errors import KernelError
from minikernels.simt.hazards import Shadow

__all__ = ["ConstStorage", "DynamicMemory", "GlobalStorage", "LocalStorage", "SharedStorage", "extreme",
           "sentinel"]


def sentinel(dtype):
    """Return what unwritten memory holds: NaN, or a number that stands out."""
    if dtype.kind == "f":
        return np.array(np.nan, dtype)[()]
    return np.array(True, dtype)[()] if dtype.kind == "b" else np.iinfo(dtype).max


def extreme(dtype, sign):
    """Return the largest number of a type, or for a negative sign the least."""
    if dtype.kind == "f":
        return np.finfo(dtype).max * dtype.type(sign)
    if dtype.kind == "b":
        return np.bool_(sign > 0)
    return dtype.type(np.iinfo(dtype).max if sign > 0 else np.iinfo(dtype).min)


class Shadowed:
    """What global and shared storages have in common: lanes, and elements of a shadow that others may share."""

    shadow, shadow_offset, shadow_scale = None, 0, 1  # a shadow's elements are the narrowest of the arrays in it

    def touched(self, lane, offset, mask):
        """Return (shadow elements, global lanes) of the active lanes."""
        return self.shadowed(*self.elements(lane, offset, mask))

    def shadowed(self, index, lanes):
        """Map flat elements to elements of the shadow: several each where the shadow is finer."""
        if self.shadow_scale == 1:
            return index + self.shadow_offset if self.shadow_offset else index, lanes
        parts = np.arange(self.shadow_scale) + self.shadow_offset
        return (index[:, None] * self.shadow_scale + parts).ravel(), np.repeat(lanes, self.shadow_scale)

    def unshadowed(self, element):
        """Return the flat element that an element of the shadow is part of."""
        return (element - self.shadow_offset) // self.shadow_scale


class GlobalStorage(Shadowed):
    """One array argument, seen as flat elements at increasing addresses.

    Parameters
    ----------
    name : str
        The parameter's name.
    array : ndarray
        The caller's array; stores write into it.
    """

    space = "global"

    def __init__(self, name, array):
        self.name, self.array = name, array
        self.dtype, self.itemsize, self.writable = array.dtype, array.itemsize, array.flags.writeable
        if any(s % self.itemsize for s in array.strides):
            raise KernelError(f"{name} has strides {array.strides}, not a multiple of its {self.itemsize}-byte "
                              "elements; pass np.ascontiguousarray(...)", kind="language")
        if array.size and array.__array_interface__["data"][0] % self.itemsize:
            raise KernelError(f"{name} does not start at a multiple of its {self.itemsize}-byte elements, and a GPU "
                              "reads no element from elsewhere; pass np.ascontiguousarray(...)", kind="language")
        self.strides = tuple(s // self.itemsize for s in array.strides)
        # flat[0] is the element at the lowest address; negative strides start further on
        self.origin = -sum(s * (n - 1) for s, n in zip(self.strides, array.shape) if s < 0 and n > 0)
        if array.size:
            span = 1 + sum(abs(s) * (n - 1) for s, n in zip(self.strides, array.shape))
            first = tuple(slice(-1, None) if s < 0 else slice(0, 1) for s in self.strides)
            lowest = array[first] if array.ndim else array.reshape(1)  # indexing 0-d would copy
            self.flat = np.lib.stride_tricks.as_strided(lowest, (span,), (self.itemsize,), writeable=self.writable)
        else:
            self.flat = np.empty(0, self.dtype)
        self.low = self.flat.__array_interface__["data"][0]
        root = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        # A GPU aligns an allocation to 256 bytes: the root of a chain of views starts at address 0
        self.address = self.low - root.__array_interface__["data"][0] if array.size else 0
        self.address %= 256

    def take(self, lane, offset):
        """Return the values at ``lane + offset`` (lane is None or an index array).

        Active lanes are in bounds by now; the others may point anywhere, and get some value.
        """
        return self.flat[offset] if lane is None else self.flat.take(lane + offset, mode="clip")

    def put(self, elements, values):
        """Put values at flat elements."""
        self.flat[elements] = values

    def elements(self, lane, offset, mask):
        """Return (shadow element, global lane) of each active lane."""
        rows, threads = mask.coordinates()
        lanes = (rows + mask.geometry.first) * mask.geometry.width + threads
        if lane is None:
            index = np.full(len(lanes), offset, np.int64)
        else:
            index = np.broadcast_to(lane, mask.full.shape)[rows, threads] + offset
        return index, lanes

    def index_of(self, element):
        """Return the index tuple of a flat element."""
        rest, index = int(element), [0] * len(self.strides)
        for axis in sorted(range(len(index)), key=lambda a: -abs(self.strides[a])):
            stride, extent = self.strides[axis], self.array.shape[axis]
            if stride and extent > 1:
                step = min(rest // abs(stride), extent - 1)
                rest -= step * abs(stride)
                index[axis] = step if stride > 0 else extent - 1 - step
        return tuple(index)


class DynamicMemory:
    """The dynamic shared memory of a launch, which all arrays declared with shape 0 overlay."""

    def __init__(self, machine):
        padded = -(-machine.shared_bytes // 8) * 8  # so that every dtype sees whole elements
        blocks, self.grain = machine.geometry.blocks, machine.program.dynamic_grain
        self.data = np.full((blocks, padded), 0xFF, np.uint8)  # NaN as a float
        self.shadow = Shadow(blocks * padded // self.grain, machine, blocks)


class SharedStorage(Shadowed):
    """A shared array: one copy a block, poisoned until written.

    Parameters
    ----------
    name : str
    shape : tuple of int
    dtype : dtype
    machine : Machine
    memory : DynamicMemory, optional
        Where a dynamic array lies.
    """

    space = "shared"
    address = 0
    writable = True

    def __init__(self, name, shape, dtype, machine, memory=None):
        self.name, self.shape, self.dtype, self.itemsize = name, shape, dtype, dtype.itemsize
        blocks = machine.geometry.blocks
        if memory is None:
            self.data = np.full((blocks, int(np.prod(shape))), sentinel(dtype), dtype)
            self.shadow = Shadow(self.data.size, machine, blocks)
        else:
            self.data = memory.data.view(dtype)
            self.shadow, self.shadow_scale = memory.shadow, self.itemsize // memory.grain
        self.size = self.data.shape[1]  # elements from one block's copy to the next
        self.flat = self.data.reshape(-1)
        self.base = (np.arange(blocks, dtype=np.int64) * self.size)[:, None]

    def take(self, lane, offset):
        """Return the values at ``lane + offset`` of each block's copy (see `GlobalStorage.take`)."""
        if lane is None:
            column = self.data[:, offset : offset + 1]
            return column[0, 0] if len(column) == 1 else column.copy()
        if lane.shape[0] == 1 and lane.shape[1] > 1:
            return self.data.take(lane[0] + offset, axis=1, mode="clip")
        return self.flat.take(self.base + (lane + offset), mode="clip")

    def put(self, elements, values):
        """Put values at flat elements."""
        self.flat[elements] = values

    def elements(self, lane, offset, mask):
        """Return (element, global lane) of each active lane; elements count through all blocks' copies."""
        rows, threads = mask.coordinates()
        lanes = (rows + mask.geometry.first) * mask.geometry.width + threads
        if lane is None:
            return rows * self.size + offset, lanes
        return np.broadcast_to(lane, mask.full.shape)[rows, threads] + offset + rows * self.size, lanes

    def index_of(self, element):
        """Return the index tuple of a flat element."""
        return tuple(int(i) for i in np.unravel_index(int(element) % self.size, self.shape))


class LocalStorage:
    """A thread's private array: a register per element where indices are uniform.

    Each element is its own lane value, so that a store with a uniform index replaces one value and copies
    nothing. An index that differs between lanes turns the whole array into one (size, blocks, width) array.
    """

    space = "local"
    writable = True

    def __init__(self, name, shape, dtype, machine):
        self.name, self.shape, self.dtype, self.itemsize = name, shape, dtype, dtype.itemsize
        self.size = int(np.prod(shape))
        self.machine = machine
        self.cells = [None] * self.size  # None: unwritten everywhere
        self.written = [None] * self.size  # mask bits of the lanes that wrote it; True: all of them
        self.dense = None

    def take_uniform(self, offset, line):
        """Return element ``offset`` of every lane."""
        if self.dense is not None:
            offset_index = np.full((1, 1), offset, np.int64)
            return self.take_varying(offset_index, line)
        done = self.written[offset]
        if done is not True:
            mask = self.machine.mask
            if done is None or (mask.full & ~done).any():
                self._report(line, offset, mask.full if done is None else mask.full & ~done)
                if done is None:
                    return np.array(sentinel(self.dtype), self.dtype)[()]
        return self.cells[offset]

    def take_varying(self, index, line):
        """Return each lane's element ``index``."""
        self._densify()
        index = np.clip(index, 0, self.size - 1)  # lanes that are switched off may hold any index
        g = self.machine.geometry
        row, thread = np.arange(g.blocks)[:, None], np.arange(g.width)[None, :]
        missing = self.machine.mask.full & ~self.done[index, row, thread]
        if missing.any():
            at = tuple(np.argwhere(missing)[0])
            self._report(line, int(np.broadcast_to(index, missing.shape)[at]), missing)
        return self.dense[index, row, thread]

    def _report(self, line, element, missing):
        who = self.machine.geometry.name(*np.argwhere(missing)[0])
        self.machine.uninitialised(self, line, element, who)

    def put_uniform(self, offset, value):
        """Set element ``offset`` of the active lanes."""
        mask = self.machine.mask
        if self.dense is not None:
            self.put_varying(np.full((1, 1), offset, np.int64), value)
        elif mask.bits is None or mask is self.machine.live:
            self.cells[offset], self.written[offset] = value, True
        else:
            old = self.cells[offset]
            old = sentinel(self.dtype) if old is None else old
            self.cells[offset] = np.where(mask.bits, value, old).astype(self.dtype, copy=False)
            if self.written[offset] is not True:
                done = self.written[offset]
                self.written[offset] = mask.full if done is None else mask.full | done

    def put_varying(self, index, value):
        """Set each active lane's element ``index``."""
        self._densify()
        rows, threads = self.machine.mask.coordinates()
        shape = self.machine.mask.full.shape
        at = np.broadcast_to(index, shape)[rows, threads], rows, threads
        self.dense[at] = np.broadcast_to(value, shape)[rows, threads]
        self.done[at] = True

    def index_of(self, element):
        """Return the index tuple of a flat element."""
        return tuple(int(i) for i in np.unravel_index(int(element), self.shape))

    def _densify(self):
        if self.dense is not None:
            return
        g = self.machine.geometry
        shape = (self.size, g.blocks, g.width)
        self.dense, self.done = np.full(shape, sentinel(self.dtype), self.dtype), np.zeros(shape, bool)
        for i, (cell, done) in enumerate(zip(self.cells, self.written)):
            if cell is not None:
                self.dense[i] = cell
                self.done[i] = done


class ConstStorage:
    """A constant array, known when the kernel is compiled: reads are free of global traffic."""

    space = "const"
    writable = False
    address = 0

    def __init__(self, name, array):
        self.name, self.shape = name, array.shape
        self.flat = np.ascontiguousarray(array).reshape(-1)
        self.dtype, self.itemsize = array.dtype, array.itemsize

    def take(self, lane, offset):
        """Return the values at ``lane + offset`` (see `GlobalStorage.take`)."""
        return self.flat[offset] if lane is None else self.flat.take(lane + offset, mode="clip")

    def index_of(self, element):
        """Return the index tuple of a flat element."""
        return tuple(int(i) for i in np.unravel_index(int(element), self.shape))
