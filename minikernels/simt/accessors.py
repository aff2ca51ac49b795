"""Who touched an element, and when: what `hazards` compares accesses with."""

import numpy as np

from minikernels.simt.lanes import WARP

__all__ = ["NOBODY", "Accessors", "Clock", "Record"]

NOBODY = -1


class Clock:
    """How many barriers each block and each warp of the chunk has passed.

    The arrays are replaced, never changed, so that a record may keep the ones of its moment.
    """

    def __init__(self, geometry):
        self.geometry = geometry
        self.epoch = np.zeros(geometry.blocks, np.int32)
        self.warp_epoch = np.zeros((geometry.blocks, geometry.warps), np.int32)
        self.block_at = np.full_like(self.epoch, -1)  # the statement of the launch that was the last barrier
        self.warp_at = np.full_like(self.warp_epoch, -1)
        self.partial = []  # (sequence, lanes): warp barriers that only some of a warp's lanes took part in

    def block_barrier(self, blocks, sequence):
        """Note that the given blocks (a bool each) passed a barrier."""
        self.epoch = self.epoch + blocks
        self.block_at = np.where(blocks, sequence, self.block_at)
        if blocks.all():
            self.partial = []

    def warp_barrier(self, mask, live, sequence):
        """Note that the lanes of ``mask`` passed a warp barrier."""
        shape = (*self.warp_epoch.shape, WARP)
        inside, alive = mask.full.reshape(shape), live.full.reshape(shape)
        whole = (inside == alive).all(axis=2)
        some = inside.any(axis=2)
        self.warp_epoch = self.warp_epoch + (whole & some)
        self.warp_at = np.where(some, sequence, self.warp_at)
        if (some & ~whole).any():
            self.partial = [*self.partial, (sequence, inside & ~whole[..., None])]


class Record:
    """When, where and how one statement touched a storage."""

    __slots__ = ("atomic", "epoch", "fences", "line", "name", "sequence", "value", "warp_epoch")

    def __init__(self, machine, name, line, atomic=False, value=None):
        self.epoch, self.warp_epoch = machine.clock.epoch, machine.clock.warp_epoch
        self.line, self.name, self.atomic, self.value = line, name, atomic, value
        self.sequence, self.fences = machine.sequence, machine.releases.fences

    def key(self):
        """Return what makes two records of a chunk alike."""
        value = None if self.value is None else self.value.tobytes()
        return id(self.epoch), id(self.warp_epoch), self.line, self.name, self.atomic, value, self.fences


class Accessors:
    """Per element two lanes that touched it and that nothing has ordered since.

    Two are enough to tell whether a later access by any lane must wait for someone, if the second stands as far
    from the first as any: in another block, else in another warp, else in another lane.
    """

    def __init__(self, size):
        self.lane, self.number = np.full((2, size), NOBODY, np.int64), np.zeros((2, size), np.int32)
        self.pairs = False  # whether any element has a second lane

    def replace(self, elements, lanes, number):
        """Forget who touched these (distinct) elements before."""
        self.lane[0, elements], self.number[0, elements] = lanes, number
        if self.pairs:
            self.lane[1, elements] = NOBODY

    def add(self, shadow, elements, lanes, number, distinct):
        """Note an access beside those that are still unordered with it."""
        if distinct:
            self._offer(shadow, elements, lanes, number)
            return
        scratch = shadow.scratch()
        scratch[elements[::-1]] = lanes[::-1]
        once = scratch[elements] == lanes  # the first lane of each element; a lane touches one element
        elements_once, first = elements[once], lanes[once]
        scratch[elements] = lanes
        last = scratch[elements_once]
        self._offer(shadow, elements_once, first, number)
        more = last != first
        if more.any():
            self._offer(shadow, elements_once[more], last[more], number)

    def _offer(self, shadow, elements, lanes, number):
        one, two = self.lane[:, elements]
        keep = shadow.unordered(one, self.number[0, elements], lanes)
        self.lane[0, elements] = np.where(keep, one, lanes)
        self.number[0, elements] = np.where(keep, self.number[0, elements], number)
        if not (keep.any() or self.pairs):
            return
        self.pairs = True
        keep_two = shadow.unordered(two, self.number[1, elements], lanes)
        width = shadow.machine.geometry.width
        better = keep & (~keep_two | (_distance(one, lanes, width) > _distance(one, two, width)))
        self.lane[1, elements] = np.where(better, lanes, np.where(keep_two, two, NOBODY))
        self.number[1, elements] = np.where(better, number, self.number[1, elements])


def _distance(a, b, width):
    return (a // width != b // width).astype(np.int8) + (a // WARP != b // WARP)
