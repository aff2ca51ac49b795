"""Races: who touched an element last, and whether a barrier stands between.

Each storage that can race has a `Shadow`: for every element the threads that wrote it last and those that read it
since. Two accesses of one element by different threads, at least one of them a write, are a race unless a barrier
orders them: a block barrier for threads of one block, a warp barrier for threads of one warp. Nothing but the end
of the launch orders threads of different blocks, except a fence followed by an atomic on the writing side and an
atomic on the reading side (the "last block" idiom). Threads that write the same constant are no race: whoever
wins, the element holds it.
"""

import numpy as np

from minikernels.simt.accessors import NOBODY, Accessors, Record
from minikernels.simt.findings import Finding, short
from minikernels.simt.lanes import WARP

__all__ = ["Shadow"]

LOG_ENTRIES, LOG_LANES = 4096, 1 << 22  # reads kept unmerged; merging is what costs time, keeping them memory
REPORTS = 64


class Shadow:
    """The access history of the elements of one storage, or of several that share memory.

    Parameters
    ----------
    size : int
        Elements of the narrowest of them.
    machine : Machine
    blocks : int or None
        Blocks of the chunk for shared memory, where blocks never meet and a barrier orders all that came before
        it; None for global memory.
    """

    def __init__(self, size, machine, blocks=None):
        self.size, self.machine = size, machine
        self.writers, self.updaters, self.readers = Accessors(size), None, None  # updaters by atomics
        self.records, self.numbers = [None], {}
        self.log, self.log_lanes, self.last_lane = [], 0, None
        self.unwritten = size
        # Blocks that wrote, and that read, since their last barrier: the others need no closer look
        self.wrote = None if blocks is None else np.zeros(blocks, bool)
        self.been_read = None if blocks is None else np.zeros(blocks, bool)
        self.any_write = False  # ... since the last barrier, for shared memory
        self.seen = None  # the blocks of the last read, already noted
        self._scratch = None

    def scratch(self):
        """Return a work array with one number an element."""
        if self._scratch is None:
            self._scratch = np.empty(self.size, np.int64)
        return self._scratch

    def forget(self, passed):
        """Drop what a barrier has ordered in the blocks that passed it (shared memory only)."""
        self.wrote &= ~passed
        self.been_read &= ~passed
        self.any_write, self.seen = bool(self.wrote.any()), None
        if self.been_read.any():
            self.log = [entry for entry in self.log if (entry[3].blocks & ~passed).any()]
        else:
            self.log.clear()
            self.log_lanes = 0

    def close(self):
        """End a chunk of blocks: later ones are strangers to its threads."""
        self._merge()
        for record in self.records[1:]:
            record.epoch = record.warp_epoch = None
        self.numbers.clear()

    def read(self, storage, lane, offset, line):
        """Note a read by the active lanes, and check it against earlier writes."""
        record = Record(self.machine, storage.name, line)
        self.log.append((storage, lane, offset, self.machine.mask, record))
        if lane is not None and lane is not self.last_lane:
            self.last_lane = lane
            self.log_lanes += lane.size
        suspect = self.any_write
        if self.wrote is not None:
            blocks = self.machine.mask.blocks
            if blocks is not self.seen:
                self.been_read |= blocks
                self.seen = blocks
            suspect = suspect and (self.wrote & blocks).any()
        if suspect:
            elements, lanes = storage.touched(lane, offset, self.machine.mask)
            self._compare(storage, elements, lanes, self.writers, record, "reads")
            self._compare(storage, elements, lanes, self.updaters, record, "reads")
        if len(self.log) > LOG_ENTRIES or self.log_lanes > LOG_LANES:
            self._merge()

    def write(self, storage, elements, lanes, line, values=None, distinct=False, per_block=False):
        """Note a write of ``elements`` by ``lanes`` (an atomic update where ``values`` is None), and check it.

        ``values`` is one number for all lanes or one a lane; ``per_block`` says that a block's lanes share it.
        """
        atomic = values is None
        uniform = values if not atomic and values.ndim == 0 else None
        record = Record(self.machine, storage.name, line, atomic, uniform)
        if not (atomic or distinct or uniform is not None):
            self._collisions(storage, elements, lanes, values, per_block, record)
        elements, lanes = storage.shadowed(elements, lanes)
        verb, blocks = "updates" if atomic else "writes", self.machine.mask.blocks
        if self.any_write if self.wrote is None else (self.wrote & blocks).any():
            self._compare(storage, elements, lanes, self.writers, record, verb)
            if not atomic:  # atomics take turns among themselves
                self._compare(storage, elements, lanes, self.updaters, record, verb)
        if (self.log or self.readers is not None) and (self.wrote is None or (self.been_read & blocks).any()):
            self._merge()
            self._compare(storage, elements, lanes, self.readers, record, verb)
        if self.unwritten:
            fresh = elements[self.never_written(elements)]
            self.unwritten -= len(fresh) if distinct else len(np.unique(fresh))
        if atomic:
            self.updaters = self.updaters or Accessors(self.size)
            self.updaters.add(self, elements, lanes, self._number(record), distinct)
        elif distinct and uniform is None:
            self.writers.replace(elements, lanes, self._number(record))
        else:
            self.writers.add(self, elements, lanes, self._number(record), distinct)
        self.any_write = True
        if self.wrote is not None:
            self.wrote |= blocks

    def never_written(self, elements):
        """Return which of the elements nobody has written."""
        fresh = self.writers.lane[0, elements] == NOBODY
        return fresh if self.updaters is None else fresh & (self.updaters.lane[0, elements] == NOBODY)

    def _number(self, record):
        key = record.key()
        if key not in self.numbers:
            self.records.append(record)
            self.numbers[key] = len(self.records) - 1
        return self.numbers[key]

    def _merge(self):
        if self.log and self.readers is None:
            self.readers = Accessors(self.size)
        for storage, lane, offset, mask, record in self.log:
            elements, lanes = storage.touched(lane, offset, mask)
            self.readers.add(self, elements, lanes, self._number(record), False)
        self.log.clear()
        self.log_lanes, self.last_lane = 0, None

    def unordered(self, others, numbers, lanes):
        """Return which accesses by ``others`` nothing orders before the present one by ``lanes``."""
        bad = (others != NOBODY) & (others != lanes)
        where = np.flatnonzero(bad)
        if not len(where):
            return bad
        machine, width = self.machine, self.machine.geometry.width
        o, t, r = others[where], lanes[where], numbers[where]
        row = t // width - machine.geometry.first
        result = o // width != t // width
        same_block = ~result
        if machine.releases and result.any():
            result &= ~machine.releases.ordered(machine, o, t, (self.records[number].sequence for number in r))
        if same_block.any():
            o, t, r, row = o[same_block], t[same_block], r[same_block], row[same_block]
            result[same_block] = self._in_block(o, t, r, row)
        bad[where] = result
        return bad

    def _in_block(self, o, t, r, row):
        clock, warps = self.machine.clock, self.machine.geometry.warps
        bad, same_warp, warp = np.zeros(len(o), bool), o // WARP == t // WARP, t // WARP % warps
        for number in [int(r[0])] if (r == r[0]).all() else np.unique(r):
            at = np.flatnonzero(r == number)
            record = self.records[number]
            if record.epoch is not clock.epoch:
                at = at[record.epoch[row[at]] == clock.epoch[row[at]]]
            if record.warp_epoch is not clock.warp_epoch:
                moved = record.warp_epoch[row[at], warp[at]] != clock.warp_epoch[row[at], warp[at]]
                at = at[~(same_warp[at] & moved)]
            for sequence, lanes in clock.partial:
                if sequence > record.sequence:
                    both = lanes[row[at], warp[at], o[at] % WARP] & lanes[row[at], warp[at], t[at] % WARP]
                    at = at[~(same_warp[at] & both)]
            bad[at] = True
        return bad

    def _compare(self, storage, elements, lanes, accessors, record, now):
        if accessors is None:
            return
        for slot in (0, 1) if accessors.pairs else (0,):
            others, numbers = accessors.lane[slot, elements], accessors.number[slot, elements]
            at = np.flatnonzero(self.unordered(others, numbers, lanes))
            for number, k in zip(*np.unique(numbers[at], return_index=True)) if len(at) else ():
                earlier, k = self.records[number], at[k]
                verb = "reads" if accessors is self.readers else "updates" if earlier.atomic else "writes"
                if now == verb == "writes" and record.value is not None and _same(earlier.value, record.value):
                    continue  # the same constant is the same whoever wins
                self._report(storage, elements[k], others[k], lanes[k], earlier, record, verb, now)

    def _collisions(self, storage, elements, lanes, values, per_block, record):
        """Report two lanes that write different values to one element in one statement."""
        order = np.argsort(elements, kind="stable")
        ordered, given = elements[order], values[order]
        twice = ordered[1:] == ordered[:-1]
        if per_block:
            width = self.machine.geometry.width
            twice &= lanes[order][1:] // width != lanes[order][:-1] // width
        if twice.any():
            differ = twice & (given[1:] != given[:-1])
            if not differ.any() and (given == given[0]).all():
                differ = twice  # equal by the luck of the data (all ones, say), not because of what is computed
            for k in np.flatnonzero(differ)[:1]:
                element, _ = storage.shadowed(elements[order[k : k + 1]], lanes[:1])
                one, two = lanes[order[k]], lanes[order[k + 1]]
                self._report(storage, element[0], one, two, record, record, "writes", "writes")

    def _report(self, storage, element, other, lane, earlier, record, before, now):
        machine = self.machine
        key = storage.name, earlier.line, record.line, before, now
        if key in machine.reported or len(machine.findings) >= REPORTS:
            return
        machine.reported.add(key)
        index = storage.index_of(storage.unshadowed(int(element)))
        one, two = (machine.geometry.name_global(x) for x in (other, lane))
        cell = f"{storage.name}[{', '.join(map(str, index))}]"
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
            alias = f" (as {earlier.name}, the same memory)" if earlier.name != storage.name else ""
            text = (f"{who[0]} {before} {cell}{alias} in line {earlier.line} and {who[1]} {now} it in line "
                    f"{record.line}; {mend}")
        machine.find(Finding("race", text, storage.name, index, (earlier.line, record.line), (one, two)))


def _same(one, two):
    """Return whether two constants are the same bits: NaN is itself, and 0.0 is not -0.0."""
    return one is not None and one.tobytes() == two.tobytes()
