"""Launching a kernel on the machine: arguments in, a `Launch` out."""

import contextlib
from dataclasses import dataclass, field
from math import prod

import numpy as np

from minikernels.core.errors import KernelError
from minikernels.core.traffic import Traffic
from minikernels.simt.findings import Finding
from minikernels.simt.hazards import Shadow
from minikernels.simt.lanes import Geometry
from minikernels.simt.machine import COUNTERS, Machine
from minikernels.simt.recorder import Recorder
from minikernels.simt.source import program_of, program_of_text
from minikernels.simt.storage import GlobalStorage
from minikernels.simt.views import Site, View

__all__ = ["Launch", "Recording", "collect", "record", "rewritten", "run", "run_source"]

LANES_AT_ONCE = 16384  # blocks run in chunks of about this many lanes: a lane value then fits in the L2 cache
MAX_THREADS, MAX_BLOCK, MAX_GRID = 1024, (1024, 1024, 64), (2**31 - 1, 65535, 65535)
KINDS = "biuf"

_collecting, _recording = [], []


@dataclass
class Launch:
    """What one launch did.

    Attributes
    ----------
    kernel : str
    grid, block : tuple of int
        Three axes each.
    traffic : Traffic
        Totals; ``traffic.by_array[name]`` and ``traffic.by_line[number]`` split them.
    findings : list of Finding
        What was wrong; empty for a good kernel.
    trace : Trace or None
        The recording, under `record`.
    """

    kernel: str
    grid: tuple
    block: tuple
    traffic: Traffic = field(repr=False)
    findings: list
    trace: object = field(default=None, repr=False)

    @property
    def by_array(self):
        """Traffic of each array."""
        return self.traffic.by_array

    @property
    def by_line(self):
        """Traffic of each source line."""
        return self.traffic.by_line


def run(function, grid, block, *arguments, shared_bytes=0, strict=False, max_steps=None):
    """Run a kernel on NumPy arrays and return what it moved, did, and did wrong.

    Parameters
    ----------
    function : function, launch.kernel or numba dispatcher
        A kernel written for ``numba.cuda``.
    grid, block : int or tuple of up to three ints
        Blocks of the grid and threads of a block along x, y, z.
    *arguments : ndarray, number or tuple of numbers
        The kernel's arguments; arrays are written in place. A Python int is an int64 and a Python float a
        float64, as for numba.
    shared_bytes : int
        Dynamic shared memory of a block, for ``cuda.shared.array(0, dtype)``.
    strict : bool
        Raise on the first finding but float64.
    max_steps : int, optional
        Give up after this many statements.

    Returns
    -------
    Launch

    Raises
    ------
    KernelError
        If the source is not in the kernel language, or on findings that stop a launch: out of bounds, barrier
        divergence, resources (``error.kind``, ``error.finding``).
    """
    return _run(program_of(function), grid, block, arguments, shared_bytes, strict, max_steps)


def run_source(text, name, grid, block, *arguments, filename="<submission>", shared_bytes=0, strict=True,
               max_steps=None, names=None):
    """Run the kernel ``name`` of a source text that is never executed as Python.

    ``names`` adds constants (tile sizes, say) to what the text itself defines. Everything else is as for `run`.
    """
    program = program_of_text(text, name, filename, names)
    return _run(program, grid, block, arguments, shared_bytes, strict, max_steps)


def rewritten(function):
    """Return the lockstep program that a kernel is rewritten to, as Python text."""
    return program_of(function).text


@contextlib.contextmanager
def collect():
    """Collect every `Launch` made inside the ``with`` block, in order: ``with simt.collect() as launches``."""
    launches = []
    _collecting.append(launches)
    try:
        yield launches
    finally:
        _collecting.remove(launches)


class Recording:
    """The traces of the launches made under `record`."""

    def __init__(self, blocks, registers, lanes, max_steps):
        self.blocks, self.registers, self.lanes, self.max_steps = blocks, registers, lanes, max_steps
        self.traces = []

    @property
    def trace(self):
        """The last launch's trace."""
        if not self.traces:
            raise KernelError("nothing was recorded: no kernel ran on NumPy arrays inside simt.record()")
        return self.traces[-1]


@contextlib.contextmanager
def record(blocks=((0, 0, 0),), registers=(), lanes=(0,), max_steps=200_000):
    """Record the chosen blocks of every launch inside the ``with`` block.

    Parameters
    ----------
    blocks : sequence of int or tuple
        Block indices; (x, y, z), or an int for (x, 0, 0).
    registers : sequence of str
        Names of the kernel's scalar variables to keep.
    lanes : sequence of int
        Thread numbers (in their block) whose registers are kept.
    max_steps : int
        A longer recording is a `KernelError`, not a full memory.
    """
    chosen = [_three(b, 0) for b in blocks]
    if not chosen:
        raise ValueError("simt.record() needs at least one block")
    recording = Recording(chosen, tuple(registers), tuple(lanes), max_steps)
    _recording.append(recording)
    try:
        yield recording
    finally:
        _recording.remove(recording)


def _run(program, grid, block, arguments, shared_bytes, strict, max_steps):
    grid, block = _three(grid, 1), _three(block, 1)
    recording = _recording[-1] if _recording else None
    storages, values = _bind(program, arguments)
    recorder = None if recording is None else Recorder(program, grid, block, recording, storages)
    machine = Machine(program, shared_bytes, strict, max_steps, recorder)
    machine.explicit64 = program.explicit64 or any(s.dtype == np.float64 for s in storages)
    for site in _sites(program):
        site.pattern, site.tallies = None, {}
    try:
        _limits(machine, grid, block)
        _shadows(machine, program, storages)
        with np.errstate(all="ignore"):  # switched-off lanes compute on whatever they hold
            _chunks(machine, program, grid, block, values)
    except TypeError as error:
        raise KernelError(f"{program.filename}:{machine.line}: {error}", kind="language") from error
    traffic = _traffic(machine, program, storages)
    trace = None
    if recorder is not None:
        trace = recorder.finish(traffic)
        recording.traces.append(trace)
    launch = Launch(program.name, grid, block, traffic, machine.findings, trace)
    for launches in _collecting:
        launches.append(launch)
    return launch


def _chunks(machine, program, grid, block, values):
    total = prod(grid)
    width = -(-prod(block) // 32) * 32
    step = max(1, LANES_AT_ONCE // width)
    for first in range(0, total, step):
        machine.enter(Geometry(grid, block, first, min(step, total - first)))
        program.run(machine, *values)


def _three(value, filler):
    """Return a launch shape as three ints."""
    axes = (value,) if isinstance(value, (int, np.integer)) else tuple(value)
    if not 1 <= len(axes) <= 3 or not all(isinstance(a, (int, np.integer)) for a in axes):
        raise KernelError(f"a grid or block is one to three integers, not {value!r}", kind="resources")
    return tuple(int(a) for a in axes) + (filler,) * (3 - len(axes))


def _limits(machine, grid, block):
    def refuse(text):
        machine.find(Finding("resources", f"{machine.program.name}{[grid, block]}: {text}"))

    if prod(block) > MAX_THREADS or any(b > m for b, m in zip(block, MAX_BLOCK)):
        refuse(f"a block has at most {MAX_THREADS} threads ({', '.join(map(str, MAX_BLOCK))} along x, y, z); "
               f"this one has {prod(block)}")
    if any(g > m for g, m in zip(grid, MAX_GRID)):
        refuse(f"a grid has at most {', '.join(map(str, MAX_GRID))} blocks along x, y, z")
    if any(n < 1 for n in (*grid, *block)):
        refuse("every axis of a grid and of a block is at least 1; do not launch when there is nothing to do")


def _bind(program, arguments):
    """Return (global storages, values) of the arguments."""
    if len(arguments) != len(program.parameters):
        raise KernelError(f"{program.name} takes {len(program.parameters)} arguments "
                          f"({', '.join(program.parameters)}) and got {len(arguments)}", kind="language")
    storages, values = [], []
    for name, argument in zip(program.parameters, arguments):
        if isinstance(argument, np.ndarray):
            if argument.dtype.kind not in KINDS or argument.dtype.itemsize > 8 or not argument.dtype.isnative:
                raise KernelError(f"{name} has dtype {argument.dtype}; kernels take bool, integer and float arrays of "
                                  "up to 64 bits", kind="language")
            storage = GlobalStorage(name, argument)
            storages.append(storage)
            values.append(View.whole(storage, argument.shape, storage.strides, storage.origin))
        else:
            values.append(_scalar(name, argument))
    return storages, values


def _scalar(name, value):
    if isinstance(value, tuple):
        return tuple(_scalar(name, v) for v in value)
    if isinstance(value, np.generic) and value.dtype.kind in KINDS and value.dtype.itemsize <= 8:
        return value
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, int):
        return np.int64(value) if value < 2**63 else np.uint64(value)
    if isinstance(value, float):
        return np.float64(value)
    raise KernelError(f"{name} is a {type(value).__name__}; a kernel takes arrays, numbers and tuples of numbers",
                      kind="language")


def _sites(program):
    return [v for v in program.run.__globals__.values() if isinstance(v, Site)]


def _shadows(machine, program, storages):
    """Give the arrays that the kernel writes (and those that overlap them) an access history."""
    ranges = [(s.low, s.low + len(s.flat) * s.itemsize, s) for s in storages if len(s.flat)]
    ranges.sort(key=lambda r: r[:2])
    groups = []
    for low, high, storage in ranges:
        if groups and low < groups[-1][1]:
            groups[-1][1] = max(groups[-1][1], high)
            groups[-1][2].append(storage)
        else:
            groups.append([low, high, [storage]])
    for low, high, members in groups:
        if not any(s.name in program.stored for s in members):
            continue
        grain = min(s.itemsize for s in members)

        def describe(element, members=members, low=low, grain=grain):
            for s in members:
                at = (element * grain + low - s.low) / s.itemsize
                if at == int(at) and 0 <= at < len(s.flat):
                    return s.name, s.index_of(int(at))
            return members[0].name, (element,)

        shadow = Shadow((high - low) // grain, describe, machine)
        for s in members:
            s.shadow, s.shadow_offset, s.shadow_scale = shadow, (s.low - low) // grain, s.itemsize // grain


def _traffic(machine, program, storages):
    total = Traffic()
    total.by_array.update({s.name: Traffic() for s in storages})
    for line, counts in machine.lines.items():
        part = Traffic(**dict(zip(COUNTERS, counts)))
        total += part
        total.by_line[line] = part
    for site in _sites(program):
        for (storage, op), tally in site.tallies.items():
            part = tally.traffic(storage.space, op)
            total += part
            total.by_line[site.line] = total.by_line.get(site.line, Traffic()) + part
            total.by_array[storage.name] = total.by_array.get(storage.name, Traffic()) + part
    return total
