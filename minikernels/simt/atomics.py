"""Atomic operations: lanes take their turns in launch order.

Each returns the value that the lane found. Where lanes meet on one element, the rounds below let the first
lane of every element go, then the second, and so on, so that what a lane finds includes the lanes before it.
"""

import numpy as np

from minikernels.simt import views
from minikernels.simt.arithmetic import convert
from minikernels.simt.views import View

__all__ = ["Atomics"]


def _increment(old, limit):
    return np.where(old >= limit, 0, old + 1)


def _decrement(old, limit):
    return np.where((old == 0) | (old > limit), limit, old - 1)


UPDATES = {
    "add": lambda old, x: old + x, "sub": lambda old, x: old - x,
    "and_": lambda old, x: old & x, "or_": lambda old, x: old | x, "xor": lambda old, x: old ^ x,
    "inc": _increment, "dec": _decrement, "exch": lambda old, x: x,
    "max": lambda old, x: np.where(x > old, x, old), "min": lambda old, x: np.where(x < old, x, old),  # a NaN stays out
    "nanmax": np.fmax, "nanmin": np.fmin,
}
INTEGERS = "i4 u4 i8 u8"
ALLOWED = {"and_": INTEGERS, "or_": INTEGERS, "xor": INTEGERS, "exch": INTEGERS, "cas": INTEGERS,
           "compare_and_swap": INTEGERS, "inc": "u4 u8", "dec": "u4 u8"}  # the rest: floats too; as numba types them


class Atomics:
    """The part of the machine that reads, changes and writes in one go."""

    def atomic(self, name, site, view, index, *operands):
        """Return what each active lane found at ``view[index]`` before its update."""
        if not isinstance(view, View) or view.storage.space not in ("global", "shared"):
            raise TypeError(f"cuda.atomic.{name} takes a global or shared array")
        storage = view.storage
        if not storage.writable:
            raise TypeError(f"{storage.name} is read-only; pass an array that the kernel may write")
        index = index if isinstance(index, tuple) else (index,)
        self.check_index(view, index)
        if len(index) != view.ndim:
            raise TypeError(f"{storage.name} has {view.ndim} axes; cuda.atomic.{name} needs one index for each")
        allowed = ALLOWED.get(name, "i4 u4 i8 u8 f4 f8").split()
        if storage.dtype.str[1:] not in allowed:
            kinds = ", ".join(np.dtype(a).name for a in allowed)
            raise TypeError(f"cuda.atomic.{name} takes an array of {kinds}, and {storage.name} is {storage.dtype}")
        lane, offset, pattern = views.locate(self, site, view, index)
        done = views.count(self, site, pattern, offset, "atomic")
        elements, lanes = storage.elements(lane, offset, self.mask)
        if storage.shadow is not None:
            if storage.shadow.unwritten and storage.space == "shared":
                self.initialised(storage, site.line, elements, lanes)
            storage.shadow.write(storage, elements, lanes, site.line)
        shape = self.mask.full.shape
        active = self.mask.full
        operands = [np.broadcast_to(convert(x, storage.dtype), shape)[active] for x in operands]
        if name in ("compare_and_swap", "cas"):
            found = self._rounds(storage, elements, lambda old, at: np.where(
                old == operands[0][at], operands[1][at], old))
        else:
            update = UPDATES[name]
            found = self._rounds(storage, elements, lambda old, at: update(old, operands[0][at]))
        if storage.space == "global":
            self.releases.atomic(self)
        result = np.zeros(shape, storage.dtype)
        result[active] = found
        if self.recorder is not None:
            self.recorder.access(self, "atomic", storage, lane, offset, done, None)
        return result

    def _rounds(self, storage, elements, update):
        """Apply ``update(old, positions)`` once a lane, lanes of one element one after the other."""
        found = np.empty(len(elements), storage.dtype)
        order = np.argsort(elements, kind="stable")
        ordered = elements[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1 if len(ordered) else 0))
        rank = np.arange(len(ordered)) - np.repeat(starts, np.diff(starts, append=len(ordered)))
        for turn in range(int(rank.max(initial=-1)) + 1):
            at = order[rank == turn]
            old = storage.flat[elements[at]]
            found[at] = old
            storage.flat[elements[at]] = update(old, at).astype(storage.dtype)
        return found
