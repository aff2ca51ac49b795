"""Control flow under masks: branches, loops, calls and returns of lanes that disagree."""

import numpy as np

__all__ = ["Control", "ForLoop", "WhileLoop"]

BRANCHES, DIVERGENT = 4, 5  # places in machine.COUNTERS


class Control:
    """The part of the machine that decides which lanes are active."""

    def split(self, condition):
        """Return the masks of the lanes that take a branch and of those that do not."""
        condition = self.truth(condition)
        mask = self.mask
        self.here[BRANCHES] += mask.warps
        yes, no = mask.both(condition)
        if yes.lanes and no.lanes:
            self.here[DIVERGENT] += yes.warps + no.warps - mask.warps
        return yes, no

    def both(self, a, thunk):
        """Return ``a and thunk()``; the right side runs only in lanes where the left one holds."""
        return self._lazy(self.truth(a), thunk, True)

    def either(self, a, thunk):
        """Return ``a or thunk()``; the right side runs only in lanes where the left one does not hold."""
        return self._lazy(self.truth(a), thunk, False)

    def _lazy(self, a, thunk, wanted):
        mask = self.mask
        yes, no = mask.both(a)
        self.mask = yes if wanted else no
        if not self.mask.lanes:
            self.mask = mask
            return a
        try:
            b = self.truth(thunk())
        finally:
            self.mask = mask
        return np.logical_and(a, b) if wanted else np.logical_or(a, b)

    def pick(self, wanted, a, thunk):
        """Return the value of ``a and thunk()`` (wanted) or ``a or thunk()``, as Python has it."""
        mask = self.mask
        yes, no = mask.both(self.truth(a))
        self.mask = yes if wanted else no
        try:
            return self.merge(a, thunk()) if self.mask.lanes else a
        finally:
            self.mask = mask

    def choose(self, condition, yes_thunk, no_thunk):
        """Return ``yes if condition else no``; each side runs only in the lanes that take it."""
        mask = self.mask
        yes, no = self.split(condition)
        try:
            self.mask = yes
            value = yes_thunk() if yes.lanes else None
            self.mask = no
            other = no_thunk() if no.lanes else None
            if value is None or other is None:
                return other if value is None else value
            self.mask = no
            return self.merge(value, other)
        finally:
            self.mask = mask

    def join(self, a, b):
        """Return the lanes that come out of either side of a branch."""
        mask = a.plus(b)
        return self.live if mask.lanes == self.live.lanes else mask  # active lanes are alive: equal in number, equal

    # Functions

    def enter_function(self):
        """Start a function body; lanes that return are kept out until it ends."""
        self.frames.append([self.mask, self.geometry.empty, None])

    def give_back(self, value):
        """Return ``value`` from the present function in the active lanes."""
        frame = self.frames[-1]
        frame[2] = value if frame[2] is None else self.merge(frame[2], value)
        frame[1] = frame[1].plus(self.mask)
        if len(self.frames) == 1:
            self.live = self.live.minus(self.mask)
        self.mask = self.geometry.empty

    def returned(self):
        """Return the lanes that have left the present function."""
        return self.frames[-1][1]

    def leave_function(self):
        """End a function body; return what it gave back."""
        entry, _, value = self.frames.pop()
        self.mask = entry
        return value

    def call(self, function, *arguments):
        """Run a device function in the active lanes."""
        line, here = self.line, self.here
        value = function(self, *arguments)
        self.line, self.here = line, here
        return value


class _Loop:
    """Which lanes are still in a loop."""

    def __init__(self, machine):
        self.machine, self.entry, self.alive = machine, machine.mask, machine.mask
        self.gone = machine.returned()

    def _refresh(self):
        gone = self.machine.returned()
        if gone is not self.gone:
            self.gone = gone
            self.alive = self.alive.minus(gone)

    def leave(self):
        """``break``: the active lanes are done with the loop."""
        self.alive = self.alive.minus(self.machine.mask)
        self.machine.mask = self.machine.geometry.empty

    def skip(self):
        """``continue``: the active lanes wait for the next iteration."""
        self.machine.mask = self.machine.geometry.empty

    def end(self):
        """Leave the loop: every lane that entered and has not returned goes on."""
        self.machine.mask = self.entry.minus(self.machine.returned())


class ForLoop(_Loop):
    """``for value in range(start, stop, step)`` where the three may differ between lanes.

    ``value`` is a scalar as long as start and step are uniform: lanes then differ only in when they stop.
    """

    def __init__(self, machine, *bounds):
        super().__init__(machine)
        if len(bounds) == 1:
            bounds = (np.int64(0), *bounds)
        if len(bounds) == 2:
            bounds = (*bounds, np.int64(1))
        for bound in bounds:
            if not hasattr(bound, "dtype") or bound.dtype.kind not in "biu":
                raise TypeError(f"range() takes integers, not {getattr(bound, 'dtype', type(bound).__name__)}")
        self.start, self.stop, self.step = (b.astype(np.int64) if b.ndim else int(b) for b in bounds)
        if not np.all(self.step) and (machine.mask.full & (np.asarray(self.step) == 0)).any():
            raise TypeError("range() with a step of 0 never ends")
        self.next_value = self.start
        self.uniform = not isinstance(self.stop, np.ndarray)
        self.scalar = not isinstance(self.start, np.ndarray) and not isinstance(self.step, np.ndarray)
        self.value = None

    def next(self):
        """Advance; return whether any lane still iterates."""
        self._refresh()
        machine, value = self.machine, self.next_value
        if self.scalar and self.uniform:
            if not (value < self.stop if self.step > 0 else value > self.stop):
                return False
            self.value = np.int64(value)
        else:
            going = np.where(np.asarray(self.step) > 0, value < self.stop, value > self.stop)
            if going.ndim == 0:
                self.alive = self.alive if going else machine.geometry.empty
            else:
                self.alive = self.alive.narrow(going) if self.alive.lanes else self.alive
            self.value = value if isinstance(value, np.ndarray) else np.int64(value)
        machine.mask = self.alive
        if not self.alive.lanes:
            return False
        machine.tick()
        self.next_value = value + self.step
        return True


class WhileLoop(_Loop):
    """``while condition``: `again` before the condition, `keep` with it."""

    def again(self):
        """Make the lanes still in the loop active; return whether there are any."""
        self._refresh()
        self.machine.mask = self.alive
        return bool(self.alive.lanes)

    def keep(self, condition):
        """Keep the lanes where the condition holds; return whether there are any."""
        yes, _ = self.machine.split(condition)
        self.alive = self.machine.mask = yes
        return bool(yes.lanes)
