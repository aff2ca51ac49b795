"""The process in which a NumPy submission runs: it holds inputs, and no test and no answer.

Started as ``python -I -S -c TEXT SETTINGS``, TEXT being this file's, with a request on standard input; its reply goes
to standard output. It imports NumPy and nothing of minikernels. Whatever the submission does to this process, all that
leaves it are arrays, which the grader reads without pickle and compares with answers that were never here.

A request, and a reply, is one line of JSON and then .npy arrays one after the other.
"""

import importlib
import io
import json
import os
import sys
import sysconfig
import traceback
import types

KINDS = "biuf"

# What Python's audit hook refuses by the first words of an event's name, and what is harmless all the same.
CLOSED = ("os.", "subprocess.", "socket.", "ctypes.", "shutil.", "fcntl.", "gc.", "pty.", "signal.", "sqlite3.",
          "tempfile.", "glob.", "resource.", "syslog.", "cpython.PyInterpreterState_New", "_winapi.", "winreg.")
HARMLESS = ("os.putenv", "os.unsetenv", "os.add_dll_directory")

# Modules in C that reach files, shared memory, other code or other interpreters and raise no event for it.
MODULES = {"_ctypes", "_cffi_backend", "_testcapi", "_testinternalcapi", "_xxsubinterpreters", "_interpreters",
           "_interpqueues", "_interpchannels", "_multiprocessing", "_posixshmem", "_tkinter", "_ssl", "_dbm", "_gdbm",
           "readline"}

# Functions that act on other processes or on files and raise no event for it, by the module that has them first.
FUNCTIONS = {
    "posix": ("chroot", "memfd_create", "mkfifo", "mknod", "pidfd_open", "sched_setaffinity", "sched_setparam",
              "sched_setscheduler", "setns", "setpgid", "setpriority", "setsid", "sync", "unshare"),
    "_signal": ("pidfd_send_signal",),
    "_posixsubprocess": ("fork_exec",)}


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
    sys.path.remove(settings["numpy"])  # what else is installed there is not NumPy's and cannot be read
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

    def inside(path):
        if type(path) is bytes:
            path = os.fsdecode(path)
        if not isinstance(path, str):
            return False
        path = real(str.__str__(path)) + sep  # the characters themselves, whatever methods a class of its own has
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
            admit(arguments[0])
        elif event.startswith(CLOSED) and event not in HARMLESS:
            raise PermissionError(f"an exercise does not call {event}")

    take_away()
    for name in MODULES:
        sys.modules[name] = None
    sys.addaudithook(hook)


def admit(name):
    """Refuse to load a module in C that is closed, or once more one that functions were taken from.

    A spec may call it ``a._ctypes``: the last word alone decides which code is loaded.
    """
    last = str.rpartition(name, ".")[2]
    if last in MODULES or last in FUNCTIONS or last == "_imp":
        raise ImportError(f"an exercise does not import {last}")


def take_away():
    """Put a refusal in the place of every function for which Python raises no audit event, wherever it is known."""
    for name, functions in FUNCTIONS.items():
        try:
            module = importlib.import_module(name)
        except ImportError:  # Windows
            continue
        for function in functions:
            taken = vars(module).get(function)
            for holder in list(sys.modules.values()) if taken is not None else ():
                if getattr(holder, function, None) is taken:
                    setattr(holder, function, refusal(function))
    import _imp

    _imp.create_builtin = guarded(_imp.create_builtin)


def refusal(name):
    """Return a function that refuses to be called."""
    def refused(*arguments, **named):
        raise PermissionError(f"an exercise does not call {name}")

    return refused


def guarded(create):
    """Return the maker of built-in modules with a look at the name first: no audit event is raised for it."""
    def create_builtin(spec):
        name = spec.name
        if type(name) is not str:
            raise TypeError("the name of a module is a str")
        admit(name)
        return create(types.SimpleNamespace(name=name))

    return create_builtin


def answer(task, cases, np):
    """Return the reply and the arrays that follow it."""
    # A module that is known by its name, for dataclasses look theirs up; the worker's own is another one.
    module = sys.modules["submission"] = types.ModuleType("submission")
    module.__file__ = task["filename"]
    replies, arrays = [], []
    try:
        exec(compile(task["source"], task["filename"], "exec"), vars(module))
        function = vars(module).get(task["function"])
        if not callable(function):
            raise NameError(f"the file defines no function {task['function']}")
    except BaseException as error:
        return {"cases": [described(error, task)] * len(cases)}, []
    for case in cases:
        try:
            for array in case if task["frozen"] else ():
                array.flags.writeable = False
            outputs = function(*case)
            outputs = [plain(x, np) for x in (outputs if isinstance(outputs, tuple) else (outputs,))]
        except BaseException as error:
            replies.append(described(error, task))
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


def described(error, task):
    """Return an exception as plain data: its type, what it says and the line of the submission it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == task["filename"]]
    line = lines[-1] if lines else getattr(error, "lineno", None)
    said = str(error)[:500]
    if isinstance(error, ImportError) and lines:
        # What is missing or refused may be a module that the learner has never heard of.
        text = task["source"].split("\n")[line - 1].strip()
        said += f"; there are NumPy and most of Python's own modules (in the line: {text[:200]})"
    return {"error": type(error).__name__, "message": said, "line": line}


if __name__ == "__main__":
    main()
