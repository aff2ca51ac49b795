"""Pages that play recorded launches: one HTML file, no server, no network."""

from minikernels import simt
from minikernels.commands.arguments import ArgumentsError, reason
from minikernels.core.errors import DeviceError

__all__ = ["check_recordable", "chosen", "record", "recordable", "recording", "write"]


def record(technique, rung, inputs, number=0):
    """Return one `Launch` of a rung, with the trace of its first block.

    Parameters
    ----------
    technique : Technique
    rung : Rung
        One that `check_recordable` lets pass.
    inputs : dict
        Small ones: see `Technique.cut`.
    number : int
        Which of the kernels that the rung launches.
    """
    with recording(technique.registers), simt.collect() as launches:
        technique.run(rung, inputs)
    if not launches:
        raise ArgumentsError(f"{rung.name} launched no kernel on this input: an axis of it is empty")
    return chosen(launches, number, rung.name)


def check_recordable(technique, rung):
    """Raise unless the rung launches kernels that the SIMT machine runs."""
    if rung.kind == "raw":
        raise DeviceError(f"{rung.name} is CUDA C++, which runs on a GPU alone; {recordable(technique)}")
    if rung.kind == "numpy":
        raise ArgumentsError(f"{rung.name} is NumPy and launches no kernel; {recordable(technique)}")


def recording(registers):
    """Record every step of a launch's first block, and these variables of its first two threads."""
    return simt.record(registers=registers, lanes=2)


def recordable(technique):
    """Return the end of an error: which rungs can be recorded."""
    return "these can be recorded: " + ", ".join(rung.name for rung in technique.rungs if rung.kind == "numba")


def chosen(launches, number, what):
    """Return launch ``number`` of those that ``what`` made, or say which there are."""
    if not 0 <= number < len(launches):
        listed = ", ".join(f"{i} {launch.kernel}" for i, launch in enumerate(launches))
        raise ArgumentsError(f"{what} has no launch {number}; it launches {listed}")
    return launches[number]


def write(launches, title, path):
    """Write the page that plays one recorded launch, or two side by side, and return its path."""
    from minikernels.widgets import TilePlayer  # with Jupyter's machinery behind it: a third of a second

    try:
        return TilePlayer(*(launch.trace for launch in launches)).to_html(path, title=title)
    except OSError as error:
        raise ArgumentsError(f"cannot write {path}: {reason(error)}") from None
