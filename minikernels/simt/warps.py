"""Shuffles, votes and matches: what the lanes of a warp tell each other."""

import numpy as np

from minikernels.simt.findings import Finding, short
from minikernels.simt.lanes import WARP
from minikernels.simt.storage import extreme, sentinel

__all__ = ["Warps"]

FULL = 0xFFFFFFFF


class Warps:
    """The part of the machine that works across the lanes of a warp."""

    def _members(self, member, name):
        """Check that the lanes a warp operation names are the ones that execute it."""
        if member is None:
            member = np.int64(FULL)
        named = (np.asarray(member).astype(np.int64) >> self.geometry.lane_index) & 1
        named = np.broadcast_to(named != 0, self.mask.full.shape)
        absent = named & ~self.mask.full & self.live.full & self._warp_active()
        outside = self.mask.full & ~named
        if absent.any() or outside.any():
            row, thread = np.argwhere(absent if absent.any() else outside)[0]
            block, lane = self.geometry.name(row, thread)
            why = ("names it and it is in another branch" if absent.any() else "does not name it and it calls it")
            self.find_once(Finding(
                "barrier_divergence",
                f"line {self.line}: the member mask of cuda.{name} and the lanes that execute it differ (thread "
                f"{short(lane)} of block {short(block)}: the mask {why}); call it outside the branch, or pass the "
                "mask of the lanes inside",
                None, None, (self.line,), ((block, lane),)))

    def _warp_active(self):
        full = self.mask.full.reshape(self.geometry.blocks, -1, WARP)
        return np.repeat(full.any(axis=2), WARP, axis=1)

    def _warps(self, value):
        """Return a lane value as (blocks, warps, 32)."""
        g = self.geometry
        return np.broadcast_to(value, (g.blocks, g.width)).reshape(g.blocks, g.warps, WARP)

    def _shuffle(self, member, value, source, name):
        """Return each lane's ``value`` of lane ``source`` of its warp (source outside: its own)."""
        if isinstance(value, tuple) or not hasattr(value, "dtype"):
            raise TypeError(f"cuda.{name} moves one number a lane")
        self._members(member, name)
        g = self.geometry
        lanes = np.arange(WARP)
        source = self._warps(source)
        source = np.where((source >= 0) & (source < WARP), source, lanes)
        active = self._warps(self.mask.full)
        absent = active & ~np.take_along_axis(active, source, axis=2)
        moved = np.take_along_axis(self._warps(value), source, axis=2)
        if absent.any():
            moved = self._undefined(moved, absent, active, source, name)
        return moved.reshape(g.blocks, g.width)

    def _undefined(self, moved, absent, active, source, name):
        """Put something in place of what lanes took from lanes that do not execute, and doubt this line.

        The upper lanes of a shuffle tree take undefined values that never reach its result. So it is a finding only
        where another value in their place leaves something else in memory (`execute`), and then of this line.
        """
        if self.line not in self.doubts:
            first = absent & (np.arange(WARP) == active.argmax(axis=2)[..., None])
            row, warp, lane = np.argwhere(first if first.any() else absent)[0]
            block, thread = self.geometry.name(row, warp * WARP + lane)
            self.doubts[self.line] = Finding(
                "uninitialised",
                f"line {self.line}: thread {short(thread)} of block {short(block)} takes a value from lane "
                f"{source[row, warp, lane]} of its warp by cuda.{name}, and that lane does not execute it, "
                "so the value is undefined; start the tree at half the lanes that take part",
                None, None, (self.line,), ((block, thread),))
        value = sentinel(moved.dtype) if self.pretend[0] != self.line else extreme(moved.dtype, self.pretend[1])
        return np.where(absent, value, moved).astype(moved.dtype, copy=False)

    def shfl_sync(self, member, value, source):
        """The value of lane ``source`` (taken modulo 32)."""
        return self._shuffle(member, value, np.asarray(source, np.int64) % WARP, "shfl_sync")

    def shfl_up_sync(self, member, value, delta):
        """The value of the lane ``delta`` below; lanes without one keep theirs."""
        return self._shuffle(member, value, self.geometry.lane_index - np.asarray(delta, np.int64) % WARP,
                             "shfl_up_sync")

    def shfl_down_sync(self, member, value, delta):
        """The value of the lane ``delta`` above; lanes without one keep theirs."""
        return self._shuffle(member, value, self.geometry.lane_index + np.asarray(delta, np.int64) % WARP,
                             "shfl_down_sync")

    def shfl_xor_sync(self, member, value, lane_mask):
        """The value of the lane whose number differs in the bits of ``lane_mask``."""
        return self._shuffle(member, value, self.geometry.lane_index ^ np.asarray(lane_mask, np.int64) % WARP,
                             "shfl_xor_sync")

    def _vote(self, member, predicate, name):
        self._members(member, name)
        return self._warps(np.broadcast_to(self.truth(predicate), self.mask.full.shape) & self.mask.full)

    def _spread(self, per_warp):
        return np.repeat(per_warp, WARP, axis=1)

    def all_sync(self, member, predicate):
        """Whether the predicate holds in every lane of the warp that executes this."""
        holds = self._vote(member, predicate, "all_sync")
        return self._spread((holds | ~self._warps(self.mask.full)).all(axis=2))

    def any_sync(self, member, predicate):
        """Whether the predicate holds in any lane."""
        return self._spread(self._vote(member, predicate, "any_sync").any(axis=2))

    def eq_sync(self, member, predicate):
        """Whether the predicate is the same in all lanes."""
        holds = self._vote(member, predicate, "eq_sync")
        return self._spread((holds | ~self._warps(self.mask.full)).all(axis=2) | ~holds.any(axis=2))

    def ballot_sync(self, member, predicate):
        """The lanes whose predicate holds, as 32 bits."""
        return self._spread(self._bits(self._vote(member, predicate, "ballot_sync")).astype(np.int32))

    def match_any_sync(self, member, value):
        """The lanes of the warp that hold the same value, as 32 bits."""
        self._members(member, "match_any_sync")
        v, active = self._warps(value), self._warps(self.mask.full)
        same = (v[..., :, None] == v[..., None, :]) & active[..., None, :]
        g = self.geometry
        return self._bits(same).astype(np.int32).reshape(g.blocks, g.width)

    def match_all_sync(self, member, value):
        """(lanes as 32 bits, True) where all lanes hold the same value, else (0, False)."""
        self._members(member, "match_all_sync")
        v, active = self._warps(value), self._warps(self.mask.full)
        first = np.take_along_axis(v, active.argmax(axis=2)[..., None], axis=2)
        same = ((v == first) | ~active).all(axis=2)
        return self._spread(np.where(same, self._bits(active), 0).astype(np.int32)), self._spread(same)

    def activemask(self):
        """The lanes of the warp that execute this, as 32 bits."""
        return self._spread(self._bits(self._warps(self.mask.full)))

    def lanemask_lt(self):
        """The lanes below this one, as 32 bits."""
        return ((np.int64(1) << self.geometry.lane_index.astype(np.int64)) - 1).astype(np.uint32)

    def _bits(self, lanes):
        return (lanes.astype(np.int64) << np.arange(WARP)).sum(axis=-1).astype(np.uint32)
