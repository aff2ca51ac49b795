"""Races: who touched an element last, and whether a barrier stands between.

Each storage that can race has a `Shadow`: for every element the thread that wrote it last and the threads
that read it since. Two accesses of one element by different threads, at least one of them a write, are a race
unless a barrier orders them: a block barrier for threads of one block, a warp barrier for threads of one warp.
Nothing but the end of the launch orders threads of different blocks, except a fence followed by an atomic on
the writing side and an atomic on the reading side (the "last block" idiom).
"""

import numpy as np

from minikernels.simt.findings import Finding, short
from minikernels.simt.lanes import WARP

__all__ = ["Clock", "Shadow"]

NOBODY = -1
LOG_LIMIT = 4096  # reads kept unmerged; merging is what costs time


class Clock:
    """How many barriers each block and each warp of the chunk has passed.

    The arrays are replaced, never changed, so that a record may keep the ones of its moment.
    """

    def __init__(self, geometry):
        self.geometry = geometry
        self.epoch = np.zeros(geometry.blocks, np.int32)
        self.warp_epoch = np.zeros((geometry.blocks, geometry.warps), np.int32)

    def block_barrier(self, blocks):
        """Note that the given blocks (0 or 1 each) passed a barrier."""
        self.epoch = self.epoch + blocks

    def warp_barrier(self, warps):
        """Note that the given warps (0 or 1 each) passed a barrier."""
        self.warp_epoch = self.warp_epoch + warps


class Record:
    """When and where one statement touched a storage."""

    __slots__ = ("atomic", "epoch", "line", "sequence", "warp_epoch")

    def __init__(self, clock, line, sequence, atomic=False):
        self.epoch, self.warp_epoch = clock.epoch, clock.warp_epoch
        self.line, self.sequence, self.atomic = line, sequence, atomic


class Shadow:
    """The access history of one storage's elements.

    Parameters
    ----------
    size : int
        Elements.
    describe : callable
        Maps an element number to (array name, index tuple).
    machine : Machine
    blocks : int or None
        Blocks of the chunk for shared memory, where blocks never meet and a barrier orders all that came before
        it; None for global memory.
    """

    def __init__(self, size, describe, machine, blocks=None):
        self.describe, self.machine = describe, machine
        self.writer = np.full(size, NOBODY, np.int64)
        self.write_record = np.zeros(size, np.int32)
        self.first_reader = self.other_reader = self.read_record = None
        self.records = [None]
        self.log = []
        self.unwritten = size
        # Blocks that wrote, and that read, since their last barrier: the others need no closer look
        self.wrote = None if blocks is None else np.zeros(blocks, bool)
        self.been_read = None if blocks is None else np.zeros(blocks, bool)
        self.any_write = False  # ... since the last barrier, for shared memory
        self.seen = None  # the blocks of the last read, already noted
        self.reported = set()

    def forget(self, passed):
        """Drop what a barrier has ordered in the blocks that passed it (shared memory only)."""
        self.wrote &= ~passed
        self.been_read &= ~passed
        self.any_write, self.seen = bool(self.wrote.any()), None
        if self.been_read.any():
            self.log = [entry for entry in self.log if (entry[2] & ~passed).any()]
        else:
            self.log.clear()

    def read(self, locate, line, blocks):
        """Note a read by lanes of ``blocks``; ``locate()`` returns (elements, lanes). Check it against writes."""
        record = Record(self.machine.clock, line, self.machine.sequence)
        self.log.append((locate, record, blocks))
        suspect = self.any_write
        if self.wrote is not None:
            if blocks is not self.seen:
                self.been_read |= blocks
                self.seen = blocks
            suspect = suspect and (self.wrote & blocks).any()
        if len(self.log) > LOG_LIMIT:
            self._merge()
        if suspect:
            elements, lanes = locate()
            self._compare(elements, lanes, self.writer, self.write_record, record, "writes", "reads")

    def write(self, elements, lanes, line, blocks, atomic=False, distinct=False):
        """Note a write (or an atomic) of ``elements`` by ``lanes`` of ``blocks``; check it against what came before."""
        record = Record(self.machine.clock, line, self.machine.sequence, atomic)
        if not (atomic or distinct):
            self._collisions(elements, lanes, record)
        verb = "updates" if atomic else "writes"
        if self.any_write if self.wrote is None else (self.wrote & blocks).any():
            self._compare(elements, lanes, self.writer, self.write_record, record, "writes", verb)
        if (self.log or self.first_reader is not None) and (self.wrote is None or (self.been_read & blocks).any()):
            self._merge()
            for readers in (self.first_reader, self.other_reader):
                self._compare(elements, lanes, readers, self.read_record, record, "reads", verb)
        if self.unwritten:
            fresh = elements[self.writer[elements] == NOBODY]
            self.unwritten -= len(fresh) if distinct else len(np.unique(fresh))
        self.records.append(record)
        self.writer[elements] = lanes
        self.write_record[elements] = len(self.records) - 1
        self.any_write = True
        if self.wrote is not None:
            self.wrote |= blocks

    def never_written(self, elements):
        """Return which of the elements nobody has written."""
        return self.writer[elements] == NOBODY

    def _merge(self):
        # Per element the first lane that read it in the present epoch and one other, preferably of
        # another warp: enough to tell whether a later writer must wait for someone.
        if self.first_reader is None:
            self.first_reader = np.full(len(self.writer), NOBODY, np.int64)
            self.other_reader = np.full(len(self.writer), NOBODY, np.int64)
            self.read_record = np.zeros(len(self.writer), np.int32)
        for locate, record, _ in self.log:
            elements, lanes = locate()
            self.records.append(record)
            number = len(self.records) - 1
            known = self._current(elements, lanes)
            keep = self.first_reader[elements[known]]
            self.other_reader[elements] = lanes  # the last lane of each element stays
            self.first_reader[elements[::-1]] = lanes[::-1]  # the first lane stays
            self.first_reader[elements[known]] = keep
            alone = self.other_reader[elements] == self.first_reader[elements]
            self.other_reader[elements[alone]] = NOBODY
            self.read_record[elements] = number
        self.log.clear()

    def _current(self, elements, lanes):
        """Return which elements' recorded readers still count: nothing has ordered them before the present."""
        readers, records = self.first_reader[elements], self.read_record[elements]
        return self._unordered(readers, records, lanes, include_self=True)

    def _unordered(self, others, records, lanes, include_self=False):
        suspect = others != NOBODY
        if not include_self:
            suspect &= others != lanes
        bad = np.zeros(len(lanes), bool)
        where = np.flatnonzero(suspect)
        if not len(where):
            return bad
        geometry, clock = self.machine.geometry, self.machine.clock
        o, t, r = others[where], lanes[where], records[where]
        row = t // geometry.width - geometry.first
        same_block = o // geometry.width == t // geometry.width
        result = ~same_block
        if result.any() and self.machine.releases:
            result &= ~self.machine.fenced(o // geometry.width, row, r, self.records)
        same_warp = o // WARP == t // WARP
        for number in np.unique(r[same_block]):
            here = same_block & (r == number)
            record = self.records[number]
            in_epoch = record.epoch[row[here]] == clock.epoch[row[here]]
            warp = t[here] // WARP % geometry.warps
            synced = same_warp[here] & (record.warp_epoch[row[here], warp] != clock.warp_epoch[row[here], warp])
            result[here] = in_epoch & ~synced
        bad[where] = result
        return bad

    def _compare(self, elements, lanes, others, records, record, before, now):
        others, numbers = others[elements], records[elements]
        bad = self._unordered(others, numbers, lanes)
        if record.atomic and before == "writes" and bad.any():  # atomics order themselves
            bad &= ~np.array([self.records[n].atomic if n else False for n in numbers])
        for k in np.flatnonzero(bad):
            earlier = self.records[numbers[k]]
            if (earlier.line, record.line, before, now) in self.reported:
                continue
            self._report(elements[k], others[k], lanes[k], earlier, record, before, now)
            if len(self.reported) > 64:
                break

    def _collisions(self, elements, lanes, record):
        order = np.argsort(elements, kind="stable")
        twice = np.flatnonzero(np.diff(elements[order]) == 0)
        if len(twice) and (record.line, record.line, "writes", "writes") not in self.reported:
            a, b = order[twice[0]], order[twice[0] + 1]
            self._report(elements[a], lanes[a], lanes[b], record, record, "writes", "writes")

    def _report(self, element, other, lane, earlier, record, before, now):
        self.reported.add((earlier.line, record.line, before, now))
        name, index = self.describe(int(element))
        one, two = (self.machine.geometry.name_global(x) for x in (other, lane))
        cell = f"{name}[{', '.join(map(str, index))}]"
        if one[0] != two[0]:
            who = f"block {short(one[0])} thread {short(one[1])}", f"block {short(two[0])} thread {short(two[1])}"
            mend = ("blocks run in any order and no barrier spans them: let one block own the element, "
                    "use cuda.atomic, or split the work into two launches")
        else:
            who = f"thread {short(one[1])}", f"thread {short(two[1])} of block {short(two[0])}"
            same_warp = int(other) // WARP == int(lane) // WARP
            mend = ("only one of them may do so" if earlier is record else
                    f"cuda.syncthreads(){' (or cuda.syncwarp())' if same_warp else ''} is missing between the two")
        if earlier is record:
            text = f"{who[0]} and {who[1]} both write {cell} in line {record.line}; {mend}"
        else:
            text = (f"{who[0]} {before} {cell} in line {earlier.line} and {who[1]} {now} it in line "
                    f"{record.line}; {mend}")
        self.machine.find(Finding("race", text, name, index, (earlier.line, record.line), (one, two)))
