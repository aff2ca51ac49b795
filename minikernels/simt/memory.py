"""Loads, stores and array declarations: each access is checked, counted, and noted for races."""

from math import prod

import numpy as np

from minikernels.simt import views
from minikernels.simt.arithmetic import convert
from minikernels.simt.findings import Finding, short
from minikernels.simt.storage import ConstStorage, DynamicMemory, LocalStorage, SharedStorage
from minikernels.simt.views import View

__all__ = ["Memory"]

LOCAL_BYTES = 512 * 1024  # of a thread, CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"


class Memory:
    """The part of the machine that has arrays."""

    def index(self, site, value, index):
        """Return ``value[index]``: an item of a tuple, an element, or a view."""
        pattern = site.pattern
        if pattern is not None and pattern.view is value:
            return self.load(site, value, index)  # as the last time
        if isinstance(value, tuple):
            if len(index) != 1 or isinstance(index[0], slice) or index[0].ndim or index[0].dtype.kind not in "iu":
                raise TypeError("a tuple is indexed with one integer that is the same in every thread")
            if not 0 <= index[0] < len(value):
                raise TypeError(f"item {index[0]} of a tuple of {len(value)} is asked for")
            return value[int(index[0])]
        if not isinstance(value, View):
            raise TypeError(f"only arrays and tuples can be indexed, and this is a {value.dtype}")
        self.check_index(value, index)
        if len(index) < value.ndim or any(isinstance(i, slice) for i in index):
            return value.part(self, site, index)
        return self.load(site, value, index)

    def load(self, site, view, index):
        """Return the elements that the active lanes ask for."""
        lane, offset, pattern = views.locate(self, site, view, index)
        storage = view.storage
        if storage.space == "local":
            if lane is None:
                return storage.take_uniform(offset, site.line)
            return storage.take_varying(lane + offset, site.line)
        value = storage.take(lane, offset)
        if storage.space == "const":
            return value
        done = views.count(self, site, pattern, offset, "load")
        shadow = storage.shadow
        if shadow is not None:
            if shadow.unwritten and storage.space == "shared":
                self.initialised(storage, site.line, *storage.elements(lane, offset, self.mask))
            shadow.read(storage, lane, offset, site.line)
        if self.recorder is not None:
            self.recorder.access(self, "load", storage, lane, offset, done, value)
        return value

    def store(self, site, view, index, value):
        """Put the value of each active lane where it asks."""
        if site.pattern is None or site.pattern.view is not view:
            if not isinstance(view, View):
                raise TypeError("only elements of arrays can be assigned; tuples and scalars cannot")
            self.check_index(view, index)
            if len(index) < view.ndim or any(isinstance(i, slice) for i in index):
                self._fill(site, view.part(self, site, index), value)
                return
        if isinstance(value, (View, tuple)):
            raise TypeError("an element takes one number; loop over the elements of an array or a tuple")
        lane, offset, pattern = views.locate(self, site, view, index)
        storage = view.storage
        value = convert(value, storage.dtype)
        if storage.space == "local":
            if lane is None:
                storage.put_uniform(offset, value)
            else:
                storage.put_varying(lane + offset, value)
            return
        if not storage.writable:
            raise TypeError(f"{storage.name} is read-only; pass an array that the kernel may write")
        done = views.count(self, site, pattern, offset, "store")
        elements, lanes = storage.elements(lane, offset, self.mask)
        values = value if value.ndim == 0 else np.broadcast_to(value, self.mask.full.shape)[self.mask.full]
        if storage.shadow is not None:
            if pattern.distinct is None:
                pattern.distinct = len(np.unique(elements)) == len(elements)
            per_block = value.ndim and value.shape[1] == 1
            storage.shadow.write(storage, elements, lanes, site.line, values, pattern.distinct, per_block)
        storage.put(elements, values)
        if self.recorder is not None:
            self.recorder.access(self, "store", storage, lane, offset, done, value)

    def _fill(self, site, part, value):
        """Store a number, or an array of the same shape, to every element of a slice: each thread loops over it."""
        if any(np.ndim(n) for n in part.shape):
            raise TypeError("a slice that is assigned to has the same length in every thread; loop over its elements")
        if isinstance(value, View) and [*map(int, value.shape)] != [*map(int, part.shape)]:
            raise TypeError(f"a slice of shape {tuple(map(int, part.shape))} is assigned an array of another shape")
        for place in np.ndindex(*map(int, part.shape)):
            place = tuple(map(np.int64, place))
            self.store(site, part, place, self.load(site, value, place) if isinstance(value, View) else value)

    def attribute(self, value, name):
        """Return ``value.shape``, ``.size`` or ``.ndim`` of an array."""
        if not isinstance(value, View):
            raise TypeError(f".{name} is known of arrays only")
        if name == "shape":
            return value.shape
        if name == "ndim":
            return np.int64(value.ndim)
        size = np.int64(1)
        for extent in value.shape:
            size = size * extent
        return size

    def check_index(self, view, index):
        """Check the number and the types of the indices."""
        if len(index) > view.ndim:
            raise TypeError(f"{view.storage.name} has {view.ndim} axes and is indexed with {len(index)}")
        for i in index:
            if not isinstance(i, slice) and (isinstance(i, (View, tuple)) or i.dtype.kind not in "iu"):
                kind = {View: "an array", tuple: "a tuple"}.get(type(i)) or f"a {i.dtype}"
                raise TypeError(f"an index of {view.storage.name} is {kind}; indices are integers: use // or "
                                "int(...)")

    # Making arrays

    def shared_array(self, key, name, shape, dtype):
        """Return the shared array that this line declares; the same one each time the line runs."""
        if key in self.storages:
            return self.storages[key]
        buffer = None
        if shape == (0,):
            if self.dynamic is None:
                self.dynamic = DynamicMemory(self)
            buffer, shape = self.dynamic, (self.shared_bytes // dtype.itemsize,)
        if any(name == view.storage.name for view in self.storages.values()):
            name = f"{name}_line_{self.line}"  # another array of that name, in another function or branch
        storage = SharedStorage(name, shape, dtype, self, buffer)
        if self.recorder is not None:
            self.recorder.declare(storage)
        view = self.storages[key] = View.whole(storage, shape)
        return view

    def local_array(self, name, shape, dtype):
        """Return a fresh private array."""
        size = prod(shape) * dtype.itemsize
        if size > LOCAL_BYTES:
            self.find(Finding(
                "resources", f"line {self.line}: {name} takes {size:,} bytes of every thread, more than the "
                f"{LOCAL_BYTES:,} of local memory that a thread may have; use a smaller array",
                name, None, (self.line,)))
        return View.whole(LocalStorage(name, shape, dtype, self), shape)

    def const_array(self, name, array):
        """Return a constant array."""
        if not isinstance(array, np.ndarray):
            raise TypeError("cuda.const.array_like takes a NumPy array that is known outside the kernel")
        return View.whole(ConstStorage(name, array), array.shape)

    # What goes wrong

    def out_of_bounds(self, site, view, axis, value, extent, at):
        """Report an index outside its axis; this ends the launch."""
        self.find(views.out_of_bounds(self, site, view, axis, value, extent, at))

    def initialised(self, storage, line, elements, lanes):
        """Report the first of the lanes whose element of a shared array nobody in its block has written."""
        shadow_elements, owners = storage.shadowed(elements, lanes)
        missing = np.flatnonzero(storage.shadow.never_written(shadow_elements))
        if len(missing):
            element, lane = storage.unshadowed(int(shadow_elements[missing[0]])), owners[missing[0]]
            self.uninitialised(storage, line, element, self.geometry.name_global(lane))

    def uninitialised(self, storage, line, element, who):
        """Report a read of memory that the block (or thread) has not written."""
        block, thread = who
        index = storage.index_of(element)
        what = "shared" if storage.space == "shared" else "local"
        self.find_once(Finding(
            "uninitialised",
            f"line {line}: thread {short(thread)} of block {short(block)} reads "
            f"{storage.name}[{', '.join(map(str, index))}], which nobody has written: {what} memory "
            "starts with whatever was there before; write it first",
            storage.name, index, (line,), ((block, thread),)))
