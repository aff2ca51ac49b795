"""Writing down what the chosen blocks of a launch do, step by step, into a `Trace`."""

import numpy as np

from minikernels.core.errors import KernelError
from minikernels.simt.trace import ATOMIC, BROADCAST, COLUMNS, HELD, LOAD, STORE, ArrayInfo, Trace
from minikernels.simt.views import View

__all__ = ["Recorder"]

OPS = {"load": LOAD, "store": STORE, "atomic": ATOMIC}


class Recorder:
    """Collects the rows of a trace while the machine runs.

    Parameters
    ----------
    program : Program
    grid, block : tuple of int
    recording : Recording
        Which blocks, registers and lanes to keep.
    storages : list of GlobalStorage
    """

    def __init__(self, program, grid, block, recording, storages):
        self.program, self.grid, self.block, self.recording = program, grid, block, recording
        for b in recording.blocks:
            if any(not 0 <= i < n for i, n in zip(b, grid)):
                raise KernelError(f"block {b} is not in the grid {grid} of {program.name}")
        threads = int(np.prod(block))
        kept = recording.lanes
        self.lanes = list(range(min(kept, threads)) if isinstance(kept, int) else kept)
        for lane in self.lanes:
            if not 0 <= lane < threads:
                raise KernelError(f"thread {lane} is not in a block of {threads} threads")
        self.threads = threads
        self.numbers = [b[0] + grid[0] * (b[1] + grid[1] * b[2]) for b in recording.blocks]
        self.arrays = [ArrayInfo(s.name, "global", tuple(s.array.shape), str(s.dtype)) for s in storages]
        self.initial = {s.name: np.array(s.array) for s in storages}
        self.known = {s: i for i, s in enumerate(storages)}
        self.by_name = {}
        self.rows = {name: [] for name in COLUMNS}
        self.pool = {"pool_lane": [], "pool_index": [], "pool_value": []}
        self.pooled = 0
        self.steps = 0
        self.here = []  # (place in blocks, row of the chunk) of the recorded blocks that run now

    def _present(self, machine):
        g = machine.geometry
        return [(i, n - g.first) for i, n in enumerate(self.numbers) if g.first <= n < g.first + g.blocks]

    def declare(self, storage):
        """Take note of a shared array (each chunk makes its own storage; the trace knows one)."""
        if storage.name not in self.by_name:
            self.by_name[storage.name] = len(self.arrays)
            self.arrays.append(ArrayInfo(storage.name, "shared", tuple(storage.shape), str(storage.dtype)))
        self.known[storage] = self.by_name[storage.name]

    def step(self, machine, line):
        """A statement starts."""
        self.here = [(i, row) for i, row in self._present(machine) if machine.mask.full[row].any()]
        machine.watch = self.watch if self.here else None
        self.machine = machine
        if self.here:
            self._add_step(machine, line, 0)

    def barrier(self, machine, kind):
        """The present step is a barrier (1: of the block, 2: of the warp)."""
        if self.here:
            self.rows["step_kind"][-1] = kind

    def _add_step(self, machine, line, kind):
        active = np.zeros((len(self.numbers), self.threads), bool)
        for i, row in self.here:
            active[i] = machine.mask.full[row, : self.threads]
        self.rows["step_line"].append(line)
        self.rows["step_kind"].append(kind)
        self.rows["step_active"].append(np.packbits(active, axis=1, bitorder="little"))
        self.steps += 1
        if self.steps > self.recording.max_steps:
            raise KernelError(f"recording {self.program.name} passed {self.recording.max_steps} steps; record fewer "
                              "blocks or a smaller shape")

    def access(self, machine, op, storage, lane, offset, done, value):
        """A load, store or atomic of the present step."""
        if not self.here:
            return
        mask, g = machine.mask, machine.geometry
        for i, row in self.here:
            active = mask.full[row]
            if not active.any():
                continue
            threads = np.flatnonzero(active)
            if lane is None:
                index = np.full(len(threads), offset)
            else:
                index = np.broadcast_to(lane, (g.blocks, g.width))[row, threads] + offset
            if value is None:  # an atomic: what the array holds now
                base = row * storage.size if storage.space == "shared" else 0
                values = storage.flat[index + base]
            else:
                values = np.broadcast_to(value, (g.blocks, g.width))[row, threads]
            requests, units = self._part(machine, storage, index, threads, op)
            if len(index) > 1 and (index == index[0]).all() and op == "load":
                index, values, lanes = index[:1], values[:1], np.array([BROADCAST])
            else:
                lanes = threads
            self._add_access(storage, op, i, requests, units, len(threads) * storage.itemsize, lanes, index, values)

    def _part(self, machine, storage, index, threads, op):
        """Return (requests, sectors or wavefronts) of one block's part of an access."""
        from minikernels.simt.transactions import sectors, wavefronts

        width = machine.geometry.width
        address, active = np.zeros(width, np.int64), np.zeros(width, bool)
        address[threads] = index * storage.itemsize + storage.address
        active[threads] = True
        address, active = address.reshape(-1, 32), active.reshape(-1, 32)
        keep = active.any(axis=1)
        address, active = address[keep], active[keep]
        if storage.space == "global":
            return len(address), int(sectors(address, active).sum())
        return len(address), int(wavefronts(address, active, storage.itemsize, op == "store")[0].sum())

    def _add_access(self, storage, op, block, requests, units, size, lanes, index, values):
        if storage.space == "global":
            index = np.array([np.ravel_multi_index(storage.index_of(e), storage.array.shape) if storage.array.ndim
                              else 0 for e in index]) if not _is_c(storage) else index - storage.origin
        rows = self.rows
        rows["access_step"].append(self.steps - 1)
        rows["access_array"].append(self.known[storage])
        rows["access_op"].append(OPS[op])
        rows["access_block"].append(block)
        rows["access_start"].append(self.pooled)
        rows["access_requests"].append(requests)
        rows["access_units"].append(units)
        rows["access_bytes"].append(size)
        self.pool["pool_lane"].append(lanes)
        self.pool["pool_index"].append(index)
        self.pool["pool_value"].append(values)
        self.pooled += len(index)

    def watch(self, name, value):
        """A variable got a new value."""
        if name not in self.recording.registers or isinstance(value, (View, tuple)) or not hasattr(value, "dtype"):
            return
        g, mask = self.machine.geometry, self.machine.mask
        kept = np.full((len(self.numbers), len(self.lanes)), np.nan, np.float32)
        whole = np.broadcast_to(value, (g.blocks, g.width))
        for i, row in self.here:
            held = whole[row, self.lanes].astype(np.float32)
            kept[i] = np.where(mask.full[row, self.lanes], np.where(np.isnan(held), HELD, held), kept[i])
        self.rows["register_step"].append(self.steps - 1)
        self.rows["register_name"].append(self.recording.registers.index(name))
        self.rows["register_value"].append(kept)

    def finish(self, traffic):
        """Return the trace."""
        self.rows["access_start"].append(self.pooled)
        columns = {}
        shapes = {"step_active": (0, len(self.numbers), -(-self.threads // 8)),
                  "register_value": (0, len(self.numbers), len(self.lanes))}
        for name, dtype in COLUMNS.items():
            if name in self.pool:
                parts = self.pool[name]
                columns[name] = np.concatenate(parts).astype(dtype) if parts else np.empty(0, dtype)
            else:
                columns[name] = np.array(self.rows[name], dtype) if self.rows[name] else np.empty(
                    shapes.get(name, (0,)), dtype)
        p = self.program
        return Trace(kernel=p.name, filename=p.filename, source=p.source, first_line=p.first_line, grid=self.grid,
                     block=self.block, blocks=list(self.recording.blocks), arrays=self.arrays, initial=self.initial,
                     registers=list(self.recording.registers), register_lanes=self.lanes,
                     traffic=traffic.as_dict(), columns=columns)


def _is_c(storage):
    return storage.array.flags.c_contiguous
