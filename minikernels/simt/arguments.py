"""What a launch is given: its shape, within what a device can do, and its arguments, seen as storages."""

from math import prod

import numpy as np

from minikernels.core.errors import KernelError
from minikernels.simt.findings import Finding
from minikernels.simt.hazards import Shadow
from minikernels.simt.storage import GlobalStorage
from minikernels.simt.views import View

__all__ = ["bind", "check_limits", "give_shadows", "three"]

MAX_THREADS, MAX_BLOCK, MAX_GRID = 1024, (1024, 1024, 64), (2**31 - 1, 65535, 65535)
KINDS = "biuf"
STATIC_SHARED_BYTES = 48 * 1024
SHARED_BYTES = 227 * 1024  # static and dynamic: what one block of an H100 or H200 may use in all


def three(value, filler):
    """Return a launch shape as three ints."""
    axes = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if not 1 <= len(axes) <= 3 or not all(isinstance(a, (int, np.integer)) and a is not True for a in axes):
        raise KernelError(f"a grid or block is one to three integers, not {value!r}", kind="resources")
    return tuple(int(a) for a in axes) + (filler,) * (3 - len(axes))


def check_limits(machine, grid, block):
    """Report a launch shape, or an amount of shared memory, that no device takes; this ends the launch."""
    def refuse(text):
        machine.find(Finding("resources", f"{machine.program.name}{[grid, block]}: {text}"))

    if prod(block) > MAX_THREADS or any(b > m for b, m in zip(block, MAX_BLOCK)):
        refuse(f"a block has at most {MAX_THREADS} threads ({', '.join(map(str, MAX_BLOCK))} along x, y, z); "
               f"this one has {prod(block)}")
    if any(g > m for g, m in zip(grid, MAX_GRID)):
        refuse(f"a grid has at most {', '.join(map(str, MAX_GRID))} blocks along x, y, z")
    static = 0
    for name, size, line in machine.program.shared:
        static += size
        if static > STATIC_SHARED_BYTES or static + machine.shared_bytes > SHARED_BYTES:
            limit = STATIC_SHARED_BYTES if static > STATIC_SHARED_BYTES else SHARED_BYTES
            machine.find(Finding(
                "resources", f"line {line}: with {name} a block needs {static + machine.shared_bytes} bytes of shared "
                f"memory, more than the {limit} that a block may have; use smaller tiles or a narrower type",
                name, None, (line,)))
    if machine.shared_bytes > SHARED_BYTES:
        refuse(f"{machine.shared_bytes} bytes of dynamic shared memory are more than the {SHARED_BYTES} that a block "
               "may have; use smaller tiles")
    if any(n < 1 for n in (*grid, *block)):
        refuse("every axis of a grid and of a block is at least 1; do not launch when there is nothing to do")


def bind(program, arguments):
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
        if not -(2**63) <= value < 2**64:
            raise KernelError(f"{name} is {value:,}, which does not fit in 64 bits", kind="language")
        return np.int64(value) if value < 2**63 else np.uint64(value)
    if isinstance(value, float):
        return np.float64(value)
    raise KernelError(f"{name} is a {type(value).__name__}; a kernel takes arrays, numbers and tuples of numbers",
                      kind="language")


def give_shadows(machine, program, storages):
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
        grain = int(np.gcd.reduce([g for s in members for g in (s.itemsize, s.low - low)]))
        shadow = Shadow((high - low) // grain, machine)
        for s in members:
            s.shadow, s.shadow_offset, s.shadow_scale = shadow, (s.low - low) // grain, s.itemsize // grain
        machine.shadows.append(shadow)
