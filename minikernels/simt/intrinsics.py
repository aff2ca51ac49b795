"""What ``cuda.<name>`` means on the machine: barriers, shuffles, votes, and where a thread is.

Atomics stand in atomics.py. Every public method here whose name is in `names.CUDA_CALLS` is callable from a
kernel.
"""

import numpy as np

from minikernels.simt.arithmetic import F64
from minikernels.simt.atomics import Atomics
from minikernels.simt.findings import Finding, short
from minikernels.simt.lanes import WARP

__all__ = ["Intrinsics"]

BARRIERS = 8  # place in machine.COUNTERS
FULL = 0xFFFFFFFF


class Intrinsics(Atomics):
    """The part of the machine that speaks CUDA."""

    def prepare_specials(self):
        """Compute what is fixed for a chunk: indices and extents."""
        g = self.geometry
        self.specials = {"laneid": g.lane_index, "warpsize": np.int32(WARP)}
        for axis, letter in enumerate("xyz"):
            self.specials[f"threadIdx.{letter}"] = g.thread_index[axis]
            self.specials[f"blockIdx.{letter}"] = g.block_index[axis]
            self.specials[f"blockDim.{letter}"] = np.int32(g.block[axis])
            self.specials[f"gridDim.{letter}"] = np.int32(g.grid[axis])
        self.positions = tuple(
            np.asarray(g.block_index[a], np.int64) * g.block[a] + g.thread_index[a] for a in range(3))
        self.positions = tuple(p[()] if p.ndim == 0 else p for p in self.positions)

    def grid(self, dimensions):
        """``cuda.grid(1 | 2 | 3)``: the thread's place in the whole grid, int64."""
        return self._axes(self.positions, dimensions, "grid")

    def gridsize(self, dimensions):
        """``cuda.gridsize(1 | 2 | 3)``: threads of the whole grid along each axis."""
        g = self.geometry
        return self._axes(tuple(np.int64(a * b) for a, b in zip(g.grid, g.block)), dimensions, "gridsize")

    def _axes(self, values, dimensions, name):
        if np.ndim(dimensions) or int(dimensions) not in (1, 2, 3):
            raise TypeError(f"cuda.{name} takes the constant 1, 2 or 3")
        return values[0] if dimensions == 1 else values[: int(dimensions)]

    # Barriers

    def syncthreads(self):
        """Wait for every thread of the block that has not returned."""
        mask, live = self.mask, self.live
        if mask is not live and mask.lanes != live.lanes:
            missing = live.full & ~mask.full & mask.blocks[:, None]
            if missing.any():
                self._divergence(mask, missing)
        blocks = mask.blocks
        self.here[BARRIERS] += int(np.count_nonzero(blocks))
        self.clock.block_barrier(blocks.astype(np.int32))
        for view in self.storages.values():
            view.storage.shadow.forget(blocks)
        if self.recorder is not None:
            self.recorder.barrier(self, 1)

    def _divergence(self, mask, missing):
        row, thread = np.argwhere(missing)[0]
        here = int(np.flatnonzero(mask.full[row])[0])
        waiting, absent = self.geometry.name(row, here), self.geometry.name(row, thread)
        self.find(Finding(
            "barrier_divergence",
            f"line {self.line}: thread {short(waiting[1])} of block {short(waiting[0])} waits at cuda.syncthreads() "
            f"and thread {short(absent[1])} of the same block did not come this way, so a GPU may hang here; "
            "move the barrier out of the branch or loop, so that every thread of the block reaches it",
            None, None, (self.line,), (waiting, absent)))

    def syncthreads_count(self, predicate):
        """Barrier; the number of the block's threads whose predicate holds."""
        return self._counted(predicate, lambda n, total: n.astype(np.int32))

    def syncthreads_and(self, predicate):
        """Barrier; 1 if the predicate holds in all of the block's threads."""
        return self._counted(predicate, lambda n, total: (n == total).astype(np.int32))

    def syncthreads_or(self, predicate):
        """Barrier; 1 if the predicate holds in any of the block's threads."""
        return self._counted(predicate, lambda n, total: (n > 0).astype(np.int32))

    def _counted(self, predicate, result):
        self.syncthreads()
        holds = np.broadcast_to(self.truth(predicate), self.mask.full.shape) & self.mask.full
        return result(holds.sum(axis=1, keepdims=True), self.mask.full.sum(axis=1, keepdims=True))

    def syncwarp(self, member=None):
        """Wait for the named lanes of the warp; orders their memory accesses."""
        self._members(member, "syncwarp")
        warps = self.mask.full.reshape(self.geometry.blocks, -1, WARP).any(axis=2)
        self.clock.warp_barrier(warps.astype(np.int32))
        if self.recorder is not None:
            self.recorder.barrier(self, 2)

    def threadfence(self):
        """Make earlier writes visible to other blocks before later ones."""
        self.note_fence()

    threadfence_system = threadfence

    def threadfence_block(self):
        """Order this thread's writes for its own block; waits for nobody."""

    def nanosleep(self, nanoseconds):
        """Sleep: takes no time here."""

    # Warps

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
        if absent.any():
            row, warp, lane = np.argwhere(absent)[0]
            block, thread = g.name(row, warp * WARP + lane)
            self.find_once(Finding(
                "uninitialised",
                f"line {self.line}: thread {short(thread)} of block {short(block)} takes a value from lane "
                f"{source[row, warp, lane]} of its warp by cuda.{name}, and that lane does not execute it, "
                "so the value is undefined",
                None, None, (self.line,), ((block, thread),)))
        return np.take_along_axis(self._warps(value), source, axis=2).reshape(g.blocks, g.width)

    def shfl_sync(self, member, value, source):
        """The value of lane ``source`` (taken modulo 32)."""
        return self._shuffle(member, value, np.asarray(source, np.int64) % WARP, "shfl_sync")

    def shfl_up_sync(self, member, value, delta):
        """The value of the lane ``delta`` below; lanes without one keep theirs."""
        return self._shuffle(member, value, self.geometry.lane_index - np.asarray(delta, np.int64), "shfl_up_sync")

    def shfl_down_sync(self, member, value, delta):
        """The value of the lane ``delta`` above; lanes without one keep theirs."""
        return self._shuffle(member, value, self.geometry.lane_index + np.asarray(delta, np.int64), "shfl_down_sync")

    def shfl_xor_sync(self, member, value, lane_mask):
        """The value of the lane whose number differs in the bits of ``lane_mask``."""
        return self._shuffle(member, value, self.geometry.lane_index ^ np.asarray(lane_mask, np.int64), "shfl_xor_sync")

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
        return self._spread(self._bits(self._vote(member, predicate, "ballot_sync")))

    def match_any_sync(self, member, value):
        """The lanes of the warp that hold the same value, as 32 bits."""
        self._members(member, "match_any_sync")
        v, active = self._warps(value), self._warps(self.mask.full)
        same = (v[..., :, None] == v[..., None, :]) & active[..., None, :]
        g = self.geometry
        return self._bits(same).reshape(g.blocks, g.width)

    def match_all_sync(self, member, value):
        """(lanes as 32 bits, True) where all lanes hold the same value, else (0, False)."""
        self._members(member, "match_all_sync")
        v, active = self._warps(value), self._warps(self.mask.full)
        first = np.take_along_axis(v, active.argmax(axis=2)[..., None], axis=2)
        same = ((v == first) | ~active).all(axis=2)
        return self._spread(np.where(same, self._bits(active), 0).astype(np.uint32)), self._spread(same)

    def activemask(self):
        """The lanes of the warp that execute this, as 32 bits."""
        return self._spread(self._bits(self._warps(self.mask.full)))

    def lanemask_lt(self):
        """The lanes below this one, as 32 bits."""
        return ((np.int64(1) << self.geometry.lane_index.astype(np.int64)) - 1).astype(np.uint32)

    def _bits(self, lanes):
        return (lanes.astype(np.int64) << np.arange(WARP)).sum(axis=-1).astype(np.uint32)

    # Integer and float intrinsics

    def popc(self, x):
        """Number of set bits."""
        return np.bitwise_count(_unsigned(x)).astype(np.int32)

    def brev(self, x):
        """The bits in reverse order."""
        bits = _unsigned(x)
        width = bits.dtype.itemsize * 8
        out = np.zeros_like(bits)
        for i in range(width):
            out |= ((bits >> bits.dtype.type(i)) & bits.dtype.type(1)) << bits.dtype.type(width - 1 - i)
        return out.astype(x.dtype)

    def clz(self, x):
        """Number of leading zero bits."""
        bits = _unsigned(x)
        width = bits.dtype.itemsize * 8
        out = np.full(np.shape(bits), width, np.int32)
        for i in range(width):
            out = np.where((bits >> bits.dtype.type(i)) & bits.dtype.type(1), width - 1 - i, out)
        return out.astype(np.int32)[()]

    def ffs(self, x):
        """1 + the place of the lowest set bit; 0 where there is none."""
        bits = _unsigned(x)
        width = bits.dtype.itemsize * 8
        out = np.zeros(np.shape(bits), np.int32)
        for i in reversed(range(width)):
            out = np.where((bits >> bits.dtype.type(i)) & bits.dtype.type(1), i + 1, out)
        return out.astype(np.int32)[()]

    def selp(self, condition, a, b):
        """Return ``a`` where the condition holds, else ``b``; both are computed."""
        return np.where(self.truth(condition), a, b)

    def fma(self, a, b, c):
        """A * b + c with one rounding (computed in the next wider type)."""
        kind = np.result_type(a.dtype, b.dtype, c.dtype)
        if kind.kind != "f":
            kind = F64
        self.here[{2: 0, 4: 1, 8: 2}[kind.itemsize]] += 2 * self.mask.lanes
        wide = np.longdouble if kind == F64 else np.float64
        return (np.asarray(a, wide) * np.asarray(b, wide) + np.asarray(c, wide)).astype(kind)[()]


def _unsigned(x):
    if x.dtype.kind not in "iu":
        raise TypeError("bit operations take integers")
    wide = 8 if x.dtype.itemsize == 8 else 4
    return np.asarray(x).astype(f"i{wide}").view(f"u{wide}")[()]
