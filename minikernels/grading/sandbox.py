"""Calling a function of a submission in a worker process, and reading what comes back without trusting it."""

import contextlib
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minikernels.grading.failure import Failure, Overtime

__all__ = ["Limits", "call", "confined"]

WORKER = Path(__file__).with_name("worker.py")
START_UP = 5  # seconds that starting Python and importing NumPy may take on a busy machine


@dataclass(frozen=True)
class Limits:
    """What one call may use.

    Attributes
    ----------
    seconds : int
        Processor time of all its cases; the clock on the wall gets twice that, and the start-up.
    memory, file : int
        Bytes of address space, and bytes of any file it writes, its reply included.
    """

    seconds: int = 5
    memory: int = 2**30
    file: int = 2**25


def call(source, filename, function, cases, limits=None, frozen=False):
    """Return the outputs of ``function(*case)`` for every case: a list of tuples of arrays.

    Parameters
    ----------
    source, filename : str
        The submission's text, and what its messages call it.
    function : str
    cases : list of tuple of array_like
    limits : Limits, optional
    frozen : bool
        Whether the arguments are handed over read-only: NumPy raises where the function writes to one.

    Raises
    ------
    Failure
        If a call raises, returns no numbers, runs too long or ends the process; with the line where that is known.
    """
    limits = limits or Limits()
    cases = [[np.asarray(x) for x in case] for case in cases]
    request = io.BytesIO()
    task = {"source": source, "filename": filename, "function": function, "arguments": [len(c) for c in cases],
            "frozen": frozen}
    request.write(json.dumps(task).encode() + b"\n")
    for case in cases:
        for array in case:
            np.lib.format.write_array(request, array, allow_pickle=False)
    reply = io.BytesIO(exchange(request.getvalue(), limits, f"{filename}: {function}"))
    try:
        return outputs(reply, cases, filename, function)
    except (ValueError, KeyError, TypeError, UnicodeDecodeError, EOFError):
        raise Failure(f"{filename}: {function} ended the process before it had answered") from None


@functools.cache
def confined():
    """Return (command to start a worker with, what it takes from the worker), the strongest that works here.

    The worker's own fence is Python; what a program of the system takes away stays away from more than Python.
    """
    nobody = "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"
    # In a namespace of processes a worker can name no other one. Its first process is a shell, for unshare would not
    # tell which signal ended the worker.
    alone = "--net", "--pid", "--fork", "--kill-child", "sh", "-c", '"$@"; exit $?', "sh"
    root = getattr(os, "geteuid", lambda: 1)() == 0
    known = [
        (("unshare", *alone, *nobody), "the network, other processes and the user's rights"),
        (("unshare", "--net", *nobody), "the network and the user's rights"),
        (nobody, "the user's rights"),
        (("unshare", *alone), "the network and other processes"),
        (("unshare", "--net"), "the network"),
    ] if root else [
        (("unshare", "--map-root-user", *alone), "the network and other processes"),
        (("unshare", "--map-root-user", "--net"), "the network"),
    ]
    trial = [sys.executable, "-I", "-S", "-c", "import sys; sys.path.append(sys.argv[1]); import numpy", packages()]
    for command, taken in known:
        if all(shutil.which(program) for program in {"unshare", "setpriv", "sh"} & set(command)):
            done = subprocess.run([*command, *trial], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, env=environment())
            if done.returncode == 0:
                return command, taken
    return (), ""


def packages():
    """Return the folder that NumPy is installed in."""
    return str(Path(np.__file__).parent.parent)


def environment():
    """Return the variables that a worker sees."""
    kept = {"SYSTEMROOT": os.environ["SYSTEMROOT"]} if "SYSTEMROOT" in os.environ else {}  # Windows needs it to start
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def exchange(request, limits, who):
    """Return the bytes that the worker wrote; stop it, and all it started, at its time limit."""
    settings = json.dumps({"numpy": packages(), **vars(limits)})
    # Files and not pipes: a reply's size is then bounded by the file limit, and no child can hold a pipe open.
    with (tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile() as incoming,
          tempfile.TemporaryFile() as outgoing):
        incoming.write(request)
        incoming.seek(0)
        process = subprocess.Popen(
            [*confined()[0], sys.executable, "-I", "-S", "-c", WORKER.read_text("utf-8"), settings], stdin=incoming,
            stdout=outgoing, stderr=subprocess.DEVNULL, cwd=home, env=environment(), start_new_session=True)
        try:
            process.wait(2 * limits.seconds + START_UP)
        except subprocess.TimeoutExpired:
            raise Overtime(f"{who} ran for more than {2 * limits.seconds} seconds; is there a loop that never ends?"
                           ) from None
        finally:
            stop(process)
        killed = getattr(signal, "SIGXCPU", 24), getattr(signal, "SIGKILL", 9)
        if process.returncode in [code for number in killed for code in (-number, 128 + number)]:  # a shell adds 128
            raise Overtime(f"{who} used more than {limits.seconds} seconds of processor time; is there a loop that "
                           "never ends?")
        outgoing.seek(0)
        return outgoing.read(limits.file)


def stop(process):
    """End the worker and whatever it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError, AttributeError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()


def outputs(reply, cases, filename, function):
    """Read a reply."""
    found = json.loads(reply.readline())["cases"]
    results = []
    for number, (case, answer) in enumerate(zip(cases, found, strict=True), 1):
        if "error" in answer:
            raise Failure(complaint(answer, case, number, filename, function))
        results.append(tuple(read(reply) for _ in range(int(answer["outputs"]))))
    return results


def complaint(answer, case, number, filename, function):
    """Say what a call raised, where, and what it was given."""
    line = answer["line"]
    where = f"{filename}:{line}" if isinstance(line, int) else filename
    said = str(answer["message"])
    if said.endswith("is read-only"):
        said += "; the arguments must stay as they are, so write to a copy"
    shapes = ", ".join(f"{x.dtype}{list(x.shape)}" if x.ndim else f"{x.dtype} {x}" for x in case)
    return (f"{where}: {function} raised {str(answer['error'])[:80]}: {said[:900]}\n"
            f"(case {number}, called with {shapes})")


def read(stream):
    """Read one .npy array whose header claims no more than what follows it."""
    version = np.lib.format.read_magic(stream)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, fortran, dtype = header(stream)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    data = stream.read(size) if dtype.kind in "biuf" and 0 <= size <= len(stream.getbuffer()) else b""
    if len(data) != size:
        raise ValueError("an output is not whole")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
