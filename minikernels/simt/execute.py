"""Launching a kernel on the machine: arguments in, a `Launch` out."""

import contextlib
from dataclasses import dataclass, field
from math import prod

import numpy as np

from minikernels.core.errors import KernelError
from minikernels.core.traffic import Traffic
from minikernels.simt.arguments import bind, check_limits, give_shadows, three
from minikernels.simt.lanes import Geometry
from minikernels.simt.machine import COUNTERS, UNDEFINED, Machine
from minikernels.simt.recorder import Recorder
from minikernels.simt.source import program_of, program_of_text
from minikernels.simt.views import Site, View

__all__ = ["Launch", "Recording", "collect", "record", "rewritten", "run", "run_source"]

LANES_AT_ONCE = 16384  # blocks run in chunks of about this many lanes: a lane value then fits in the L2 cache

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
        _collecting.pop()  # nested blocks end in reverse order


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
    lanes : sequence of int, or int
        Thread numbers (in their block) whose registers are kept; of an int so many, the first ones that there are.
    max_steps : int
        A longer recording is a `KernelError`, not a full memory.
    """
    chosen = [three(b, 0) for b in blocks]
    if not chosen:
        raise ValueError("simt.record() needs at least one block")
    lanes = lanes if isinstance(lanes, int) else tuple(lanes)
    recording = Recording(chosen, tuple(registers), lanes, max_steps)
    _recording.append(recording)
    try:
        yield recording
    finally:
        _recording.pop()


def _run(program, grid, block, arguments, shared_bytes, strict, max_steps):
    grid, block = three(grid, 1), three(block, 1)
    recording = _recording[-1] if _recording else None
    storages, values = bind(program, arguments)
    recorder = None if recording is None else Recorder(program, grid, block, recording, storages)
    machine = Machine(program, shared_bytes, strict, max_steps, recorder)
    machine.explicit64 = program.explicit64 or any(s.dtype == np.float64 for s in storages)
    before = [(s.array, s.array.copy()) for s in storages if s.writable and s.name in program.stored]
    try:
        check_limits(machine, grid, block)
        _play(machine, program, grid, block, storages, values)
    except (TypeError, AttributeError) as error:
        for array, old in before:  # types are known only as values meet; what is refused leaves no trace
            array[...] = old
        raise _refusal(f"{program.filename}:{machine.line}", error) from error
    traffic = _traffic(machine, program, storages)
    for line in machine.doubts:
        if any(_matters(program, grid, block, arguments, machine, before, (line, sign)) for sign in (1, -1)):
            machine.find_once(machine.doubts[line])
    trace = None
    if recorder is not None:
        trace = recorder.finish(traffic)
        recording.traces.append(trace)
    launch = Launch(program.name, grid, block, traffic, machine.findings, trace)
    for launches in _collecting:
        launches.append(launch)
    return launch


def _matters(program, grid, block, arguments, done, before, pretend):
    """Whether a launch leaves something else in memory with other values in place of a line's undefined ones.

    ``done`` is the machine of the first launch and ``before`` what it found in each array that it may have changed.
    """
    found = [array.copy() for array, _ in before]
    tallies = [(site, site.tallies) for site in _sites(program)]
    storages, values = bind(program, arguments)
    machine = Machine(program, done.shared_bytes, False, done.max_steps)
    machine.explicit64, machine.pretend = done.explicit64, pretend
    try:
        for array, old in before:
            array[...] = old
        _play(machine, program, grid, block, storages, values)
        return not all(np.array_equal(array, new, equal_nan=array.dtype.kind == "f")
                       for (array, _), new in zip(before, found, strict=True))
    except KernelError:  # an undefined index, or a loop that an undefined value keeps going
        return True
    finally:
        for site, counted in tallies:
            site.pattern, site.tallies = None, counted
        for (array, _), new in zip(before, found, strict=True):
            array[...] = new


def _refusal(where, error):
    """Return the KernelError for an operator that met something else than it takes."""
    if isinstance(error, AttributeError):
        if not isinstance(error.obj, (View, tuple, slice, type(None), type(UNDEFINED))):
            raise error
        what = {View: "an array", tuple: "a tuple", slice: "a slice"}.get(type(error.obj), "None")
        return KernelError(f"{where}: {what} stands where a number is needed; index it first", kind="language")
    return KernelError(f"{where}: {error}", kind="language")


def _play(machine, program, grid, block, storages, values):
    """Run a launch; what its sites count and remember begins anew."""
    for site in _sites(program):
        site.pattern, site.tallies = None, {}
    give_shadows(machine, program, storages)
    with np.errstate(all="ignore"):  # switched-off lanes compute on whatever they hold
        _chunks(machine, program, grid, block, values)


def _chunks(machine, program, grid, block, values):
    total = prod(grid)
    width = -(-prod(block) // 32) * 32
    step = max(1, LANES_AT_ONCE // width)
    for first in range(0, total, step):
        machine.enter(Geometry(grid, block, first, min(step, total - first)))
        program.run(machine, *values)
        machine.leave(last=first + step >= total)


def _sites(program):
    return [v for v in program.run.__globals__.values() if isinstance(v, Site)]


def _traffic(machine, program, storages):
    total = Traffic()
    total.by_array.update({s.name: Traffic() for s in storages})
    for line, counts in machine.lines.items():
        part = Traffic(**dict(zip(COUNTERS, counts)))
        total += part
        total.by_line[line] = part
    for site in _sites(program):
        for (space, name, op), tally in site.tallies.items():
            part = tally.traffic(space, op)
            total += part
            total.by_line[site.line] = total.by_line.get(site.line, Traffic()) + part
            total.by_array[name] = total.by_array.get(name, Traffic()) + part
    return total
