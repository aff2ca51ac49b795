"""Order between blocks: write, fence, atomic on one side; atomic, read on the other (the "last block" idiom).

A fence covers what its own thread wrote before, and what a barrier had brought before it: a thread that fences after
``syncthreads`` covers its whole block's writes, one that fences without covers its own. An atomic of a thread lets
others see what its fences cover, and what threads of its block fenced before their last common barrier. A block that
passes an atomic later sees all of it.
"""

import numpy as np

from minikernels.simt.lanes import WARP

__all__ = ["Releases"]

NEVER = -1
REMEMBERED = 8  # atomics of a block that are told apart


class Releases:
    """What the fences and atomics of a launch's blocks let other blocks see; times are statements of the launch."""

    def __init__(self):
        self.blocks, self.fences = {}, 0

    def __bool__(self):
        return bool(self.blocks)

    def fence(self, machine):
        """Note that the active lanes pass a fence."""
        self.fences += 1
        clock = machine.clock
        for row in np.flatnonzero(machine.mask.blocks):
            block, lanes = self._of(machine, row), np.flatnonzero(machine.mask.full[row])
            block.confirm(clock.block_at[row])
            block.fence[lanes], block.before[lanes] = machine.sequence, clock.block_at[row]
            block.warp_before[lanes] = clock.warp_at[row, lanes // WARP]

    def atomic(self, machine):
        """Note that the active lanes pass an atomic: they show what they fenced, and see what others showed."""
        if not self:
            return
        for row in np.flatnonzero(machine.mask.blocks):
            block = self._of(machine, row)
            block.confirm(machine.clock.block_at[row])
            block.acquired = machine.sequence
            block.release(np.flatnonzero(machine.mask.full[row]), machine.sequence)

    def ordered(self, machine, others, lanes, times):
        """Return which accesses by ``others`` at ``times`` the lanes of other blocks, now active, have to see."""
        width, out = machine.geometry.width, np.zeros(len(lanes), bool)
        for i, (other, lane, time) in enumerate(zip(others.tolist(), lanes.tolist(), times)):
            theirs, ours = self.blocks.get(other // width), self.blocks.get(lane // width)
            if theirs is not None and ours is not None:
                # blocks that run one atomic together take their turns in it in launch order
                out[i] = any(time <= covered[other % width] and (ours.acquired, lane // width) >= (at, other // width)
                             for at, covered in theirs.released)
        return out

    def _of(self, machine, row):
        block = int(row) + machine.geometry.first
        if block not in self.blocks:
            self.blocks[block] = _Block(machine.geometry.width)
        return self.blocks[block]


class _Block:
    """One block; arrays have a number a lane, the last statement whose writes are meant."""

    def __init__(self, width):
        self.fence = np.full(width, NEVER)  # when the lane fenced last
        self.before, self.warp_before = self.fence.copy(), self.fence.copy()  # its last barriers before that fence
        self.confirmed = self.fence.copy()  # its last fence that a barrier of the block followed
        self.acquired = NEVER
        self.released = []  # (when, the last statement of each lane that is seen from then on)

    def confirm(self, barrier):
        """Note the block's last barrier: fences before it hold for all of its threads."""
        np.maximum(self.confirmed, np.where(self.fence <= barrier, self.fence, NEVER), out=self.confirmed)

    def release(self, lanes, now):
        """Let what these lanes' fences cover, and what a barrier brought them, be seen from now on."""
        covered, fenced = self.confirmed.copy(), lanes[self.fence[lanes] != NEVER]
        if len(fenced):
            np.maximum(covered, self.before[fenced].max(), out=covered)
            warps = covered.reshape(-1, WARP)
            np.maximum.at(warps, fenced // WARP, self.warp_before[fenced][:, None])
            covered[fenced] = np.maximum(covered[fenced], self.fence[fenced])
        if not self.released or (covered > self.released[-1][1]).any():
            self.released = [*self.released[1 - REMEMBERED:], (now, covered)]
