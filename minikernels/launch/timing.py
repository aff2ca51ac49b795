"""Copies to and from the GPU that a caller asks for, and the time of work on it by CUDA events."""

import time

import numpy as np

from minikernels.launch.gpu import require_gpu
from minikernels.launch.raw_kernels import raw

__all__ = ["time_ms", "times_ms", "to_gpu", "to_numpy"]

FLUSH_FACTOR = 2  # bytes written between two runs, in L2 sizes: what a run left in the cache is gone
HEAD_START = 1.5  # the GPU waits for this many times as long as the host takes to queue one call


def to_gpu(x):
    """Return a CuPy copy of a NumPy array."""
    require_gpu("copying an array to the GPU")
    import cupy

    return cupy.asarray(x)


def to_numpy(x):
    """Return a NumPy copy of a CuPy array, or of one of NumPy's."""
    if isinstance(x, np.ndarray):
        return x.copy()
    require_gpu("copying an array from the GPU")
    import cupy

    return cupy.asnumpy(x)


def time_ms(function, runs=30, warm_up=3):
    """Return the median of `times_ms`."""
    return float(np.median(times_ms(function, runs, warm_up)))


def times_ms(function, runs=30, warm_up=3):
    """Return the times of a function's work on CuPy's current stream, in milliseconds, by CUDA events.

    The L2 cache is flushed before every run, so that inputs come from HBM as they would in a model. The GPU is kept
    waiting until the host has queued the run, so that what the host does, checking inputs, allocating outputs and
    launching, is not in the times.

    Parameters
    ----------
    function : callable
        Called without arguments; compiled by the first of the `warm_up` calls.
    runs, warm_up : int
        Timed calls, and calls before them; at least one.
    """
    require_gpu("timing a kernel")
    import cupy

    flush = cupy.empty(FLUSH_FACTOR * cupy.cuda.Device().attributes["L2CacheSize"], np.uint8)
    wait = raw("wait.cu", "wait")
    for _ in range(max(1, warm_up)):
        queued = queuing_ns(function)
    times = []
    for _ in range(runs):
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        wait[1, 1](np.uint64(HEAD_START * queued))
        flush.fill(0)
        start.record()
        function()
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(start, end))
    return times


def queuing_ns(function):
    """Return how long the host takes to queue a function's work on an idle GPU, in nanoseconds."""
    import cupy

    cupy.cuda.get_current_stream().synchronize()
    start = time.perf_counter_ns()
    function()
    queued = time.perf_counter_ns() - start
    cupy.cuda.get_current_stream().synchronize()
    return queued
