"""The process in which a NumPy submission runs: it holds inputs, and no test and no answer.

Started as ``python -I -S -c TEXT SETTINGS``, TEXT being this file's, with a request on standard input; its reply goes
to standard output. It imports NumPy and nothing of minikernels. Whatever the submission does to this process, all that
leaves it are arrays, which the grader reads without pickle and compares with answers that were never here.

A request, and a reply, is one line of JSON and then .npy arrays one after the other.
"""

import io
import json
import os
import sys
import sysconfig
import traceback

KINDS = "biuf"


def main():
    """Serve one request."""
    settings = json.loads(sys.argv[1])
    limit(settings)
    sys.path.append(settings["numpy"])
    import numpy as np

    request = io.BytesIO(sys.stdin.buffer.read())
    task = json.loads(request.readline())
    cases = [[np.lib.format.read_array(request, allow_pickle=False) for _ in range(n)] for n in task["arguments"]]
    channel = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # a submission may print as much as it likes
        os.dup2(silence, descriptor)
    fence(settings["numpy"])
    reply, arrays = answer(task, cases, np)
    channel.write(json.dumps(reply).encode() + b"\n")
    for array in arrays:
        np.lib.format.write_array(channel, array, allow_pickle=False)
    channel.close()


def limit(settings):
    """Bound time, memory, file sizes and open files where the system knows how to."""
    try:
        import resource
    except ImportError:  # Windows: the time limit of the grader is all there is
        return
    bounds = {"RLIMIT_CPU": settings["seconds"], "RLIMIT_AS": settings["memory"], "RLIMIT_FSIZE": settings["file"],
              "RLIMIT_CORE": 0, "RLIMIT_NOFILE": 64, "RLIMIT_NPROC": 0}  # root may start processes in spite of it
    for name, bound in bounds.items():
        try:
            resource.setrlimit(getattr(resource, name), (bound, bound))
        except (AttributeError, OSError, ValueError):  # macOS does not bound memory
            continue


def fence(packages):
    """Refuse files, processes and sockets from here on; Python's own modules and NumPy's stay readable.

    A fence, not a vault: it keeps a submission from reading the solutions by accident or by a line of Python.
    """
    real, sep = os.path.realpath, os.sep
    readable = [real(p) + sep for p in {sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["platstdlib"]}]
    installed = tuple(p + name + sep for p in readable for name in ("site-packages", "dist-packages"))
    ours = tuple(real(packages) + sep + name + sep for name in ("numpy", "numpy.libs"))
    readable = tuple(readable)
    closed = ("os.", "subprocess.", "socket.", "ctypes.", "shutil.", "fcntl.", "gc.", "pty.", "signal.", "sqlite3.",
              "tempfile.", "glob.")
    harmless = ("os.putenv", "os.unsetenv", "os.add_dll_directory")
    modules = ("_ctypes", "_posixsubprocess", "_testcapi", "_testinternalcapi", "_xxsubinterpreters", "_cffi_backend")

    def inside(path):
        if not isinstance(path, (str, bytes)):
            return False
        path = real(os.fsdecode(path)) + sep
        return path.startswith(ours) or (path.startswith(readable) and not path.startswith(installed))

    def hook(event, arguments):
        if event == "open":
            path, mode, flags = arguments
            reads = not (flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) if isinstance(flags, int) else False
            if not (reads and inside(path)):
                raise PermissionError("an exercise reads and writes no files")
        elif event in ("os.listdir", "os.scandir"):
            if not inside(arguments[0]):
                raise PermissionError("an exercise lists no folders")
        elif event == "import":
            if arguments[0] in modules:
                raise ImportError(f"an exercise does not import {arguments[0]}")
        elif event.startswith(closed) and event not in harmless:
            raise PermissionError(f"an exercise does not call {event}")

    for name in modules:
        sys.modules[name] = None
    sys.addaudithook(hook)


def answer(task, cases, np):
    """Return the reply and the arrays that follow it."""
    namespace = {"__name__": "submission", "__file__": task["filename"]}
    replies, arrays = [], []
    try:
        exec(compile(task["source"], task["filename"], "exec"), namespace)
        function = namespace.get(task["function"])
        if not callable(function):
            raise NameError(f"the file defines no function {task['function']}")
    except BaseException as error:
        return {"cases": [described(error, task["filename"])] * len(cases)}, []
    for case in cases:
        try:
            outputs = function(*case)
            outputs = [plain(x, np) for x in (outputs if isinstance(outputs, tuple) else (outputs,))]
        except BaseException as error:
            replies.append(described(error, task["filename"]))
        else:
            replies.append({"outputs": len(outputs)})
            arrays += outputs
    return {"cases": replies}, arrays


def plain(value, np):
    """Return an output as an array of numbers."""
    if value is None:
        raise TypeError("it returned None: is there a return?")
    array = np.array(value)
    if array.dtype.kind not in KINDS:
        raise TypeError(f"it returned a {type(value).__name__}, which is no array of numbers")
    return array


def described(error, filename):
    """Return an exception as plain data: its type, what it says and the line of the submission it came from."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == filename]
    line = lines[-1] if lines else getattr(error, "lineno", None)
    return {"error": type(error).__name__, "message": str(error)[:500], "line": line}


if __name__ == "__main__":
    main()
