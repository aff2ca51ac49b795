"""What ``cuda.<name>`` means on the machine: barriers, shuffles, votes, and where a thread is.

Atomics stand in atomics.py. Every public method here whose name is in `names.CUDA_CALLS` is callable from a
kernel.
"""

import numpy as np

from minikernels.simt.arithmetic import F64
from minikernels.simt.atomics import Atomics
from minikernels.simt.findings import Finding, short
from minikernels.simt.lanes import WARP
from minikernels.simt.warps import Warps

__all__ = ["Intrinsics"]

BARRIERS = 8  # place in machine.COUNTERS


class Intrinsics(Atomics, Warps):
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
        self.clock.block_barrier(blocks, self.sequence)
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
        self.clock.warp_barrier(self.mask, self.live, self.sequence)
        if self.recorder is not None:
            self.recorder.barrier(self, 2)

    def threadfence(self):
        """Make earlier writes visible to other blocks before later ones."""
        self.releases.fence(self)

    threadfence_system = threadfence

    def threadfence_block(self):
        """Order this thread's writes for its own block; waits for nobody."""

    def nanosleep(self, nanoseconds):
        """Sleep: takes no time here."""

    # Integer and float intrinsics

    def popc(self, x):
        """Number of set bits."""
        return np.bitwise_count(_unsigned(x)).astype(x.dtype)

    def brev(self, x):
        """The bits in reverse order, as an unsigned integer of 32 or 64."""
        bits = _unsigned(x)
        bits = bits if bits.dtype.itemsize == 8 else x.astype(np.int32).view(np.uint32)
        width = bits.dtype.itemsize * 8
        out = np.zeros_like(bits)
        for i in range(width):
            out |= ((bits >> bits.dtype.type(i)) & bits.dtype.type(1)) << bits.dtype.type(width - 1 - i)
        return out

    def clz(self, x):
        """Number of leading zero bits."""
        bits = _unsigned(x)
        width = bits.dtype.itemsize * 8
        out = np.full(np.shape(bits), width, np.int32)
        for i in range(width):
            out = np.where((bits >> bits.dtype.type(i)) & bits.dtype.type(1), width - 1 - i, out)
        return out.astype(x.dtype)[()]

    def ffs(self, x):
        """1 + the place of the lowest set bit; 0 where there is none."""
        bits = _unsigned(x)
        if bits.dtype.itemsize < 4:
            raise TypeError(f"cuda.ffs takes integers of 32 or 64 bits and this is a {x.dtype}; cast it to int32 first")
        width = bits.dtype.itemsize * 8
        out = np.zeros(np.shape(bits), np.int32)
        for i in reversed(range(width)):
            out = np.where((bits >> bits.dtype.type(i)) & bits.dtype.type(1), i + 1, out)
        return out.astype(np.uint32)[()]

    def selp(self, condition, a, b):
        """Return ``a`` where the condition holds, else ``b``; both are computed."""
        return np.where(self.truth(condition), a, b)

    def fma(self, a, b, c):
        """A * b + c with one rounding."""
        kind = np.result_type(a.dtype, b.dtype, c.dtype)
        if kind.kind != "f":
            kind = F64
        self.here[{2: 0, 4: 1, 8: 2}[kind.itemsize]] += 2 * self.mask.lanes
        if kind == F64 and not a.dtype == b.dtype == c.dtype == F64:
            self.slipped("fma", *sorted((a, b, c), key=lambda x: (x.dtype.kind == "f", x.dtype.itemsize))[1:], False)
        a, b, c = (np.asarray(v, F64) for v in (a, b, c))  # holds a product of two float32 exactly
        product = a * b
        total = product + c
        if kind == F64:  # add what the product and the sum lost
            lost = _lost_in_product(a, b, product) + ((product - (total - (total - product))) + (c - (total - product)))
            total = np.where(np.isfinite(lost), total + lost, total)
        return total.astype(kind)[()]


def _lost_in_product(a, b, product):
    """Return a * b - product exactly (Dekker's splitting)."""
    halves = []
    for v in (a, b):
        big = v * 134217729.0  # 2**27 + 1
        high = big - (big - v)
        halves.append((high, v - high))
    (a_high, a_low), (b_high, b_low) = halves
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _unsigned(x):
    if x.dtype.kind not in "iu":
        raise TypeError("bit operations take integers")
    return np.asarray(x).view(f"u{x.dtype.itemsize}")[()]
