"""What the machine finds wrong with a kernel, each in a sentence that a beginner understands."""

from dataclasses import dataclass

from minikernels.core.errors import KernelError

__all__ = ["KINDS", "STOPPING", "Finding", "short", "stop"]

KINDS = ("race", "barrier_divergence", "out_of_bounds", "uninitialised", "resources", "float64")
STOPPING = ("barrier_divergence", "out_of_bounds", "resources")  # these end a launch


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a kernel.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    message : str
        What happened, where, and what usually mends it.
    array : str or None
        The array's name in the kernel.
    index : tuple of int or None
        The element.
    lines : tuple of int
        Source lines in the kernel's file, the earlier access first.
    threads : tuple
        ``(block, thread)`` pairs, each a tuple of three ints, in the order of ``lines``.
    """

    kind: str
    message: str
    array: str | None = None
    index: tuple | None = None
    lines: tuple = ()
    threads: tuple = ()

    def __str__(self):
        return f"{self.kind}: {self.message}"


def stop(finding):
    """Raise the finding as a `KernelError` that carries it."""
    raise KernelError(str(finding), kind=finding.kind, finding=finding)


def short(place):
    """Write the `lanes.Place` of a block or thread with the axes that the launch uses."""
    return str(place[0]) if place.axes == 1 else f"({', '.join(map(str, place[: place.axes]))})"
