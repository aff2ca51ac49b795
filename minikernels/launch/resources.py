"""What kernels take of a GPU's multiprocessor: registers, local and shared memory, and the occupancy that is left."""

import contextlib
import math

__all__ = ["observed"]

OBSERVERS = []  # lists that hear of every launch on the GPU


@contextlib.contextmanager
def observed():
    """Collect what the kernels take that are launched on the GPU within: one dict for each kernel, in order.

    Yields
    ------
    list of dict
        ``name``, ``blocks`` of the first launch, ``threads`` of a block, ``registers`` of a thread, ``local_bytes`` of
        a thread (spilled registers and arrays that did not fit), ``shared_bytes`` of a block, and ``occupancy``, the
        share of a multiprocessor's threads that it holds at once.
    """
    found = []
    OBSERVERS.append(found)
    try:
        yield found
    finally:
        OBSERVERS.pop()


def note(name, grid, block, dynamic_bytes, compiled):
    """Tell the observers of a launch.

    Parameters
    ----------
    name : str
        Of the kernel; a second launch of the same name is passed over.
    grid, block : tuple of int
    dynamic_bytes : int
        Of shared memory, asked for at the launch.
    compiled : callable
        ``compiled()`` returns (registers, local bytes, static shared bytes, the driver's handle) of the kernel.
    """
    hearing = [found for found in OBSERVERS if all(row["name"] != name for row in found)]
    if not hearing:
        return
    registers, local_bytes, shared_bytes, handle = compiled()
    threads = math.prod(block)
    row = {"name": name, "blocks": math.prod(grid), "threads": threads, "registers": registers,
           "local_bytes": local_bytes, "shared_bytes": shared_bytes + dynamic_bytes,
           "occupancy": round(occupancy(handle, threads, dynamic_bytes), 4)}
    for found in hearing:
        found.append(dict(row))


def occupancy(handle, threads, dynamic_bytes):
    """Return the share of a multiprocessor's threads that blocks of a kernel fill."""
    import cupy

    blocks = cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(handle, threads, dynamic_bytes)
    return blocks * threads / cupy.cuda.Device().attributes["MaxThreadsPerMultiProcessor"]
