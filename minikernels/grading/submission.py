"""One file that a learner hands in: its functions are called in a worker, its kernels run on the SIMT machine."""

import ast
from contextlib import contextmanager

from minikernels.core.errors import KernelError
from minikernels.grading import holes, sandbox
from minikernels.grading.failure import Failure, Overtime
from minikernels.grading.launched import Launched
from minikernels.grading.lockstep import Job, launched

__all__ = ["Kernel", "Submission"]

LONGEST = 100_000  # characters of a file; the longest solution has a fiftieth of them
PATIENCE = 2  # how often one file may have to be stopped before nothing in it is run any more


class Submission:
    """A submission's text.

    Parameters
    ----------
    path : Path
        The file.
    limits : sandbox.Limits, optional
        What a call of one of its NumPy functions may use.
    explains : bool
        Whether to look for the thread that wrote a wrong cell, which takes a recorded launch or two.
    stopped : list, optional
        Grows by one whenever something in this file has to be stopped; the tests of one file share it.

    Attributes
    ----------
    explained : bool
        Whether it has done so.
    bytes_moved : int
        What its launches moved between the chip and HBM, by the SIMT machine's count.
    """

    def __init__(self, path, limits=None, explains=True, stopped=None):
        self.path, self.limits, self.explains = path, limits, explains
        self.stopped = [] if stopped is None else stopped
        self.filename, self.explained, self.bytes_moved = path.name, False, 0

    def text(self):
        """Return the text; NotImplementedError if nobody has begun to write, Failure if there is no such text."""
        if not self.path.is_file() or self.path.is_symlink():
            raise Failure(f"there is no file {self.filename} in {self.path.parent.name}/")
        if self.path.stat().st_size > 4 * LONGEST:
            raise Failure(f"{self.filename} has {self.path.stat().st_size:,} bytes; at most {LONGEST:,} characters are "
                          "read")
        try:
            text = self.path.read_text("utf-8-sig")  # editors on Windows begin a file with a mark
        except (UnicodeDecodeError, OSError) as error:
            raise Failure(f"{self.filename} cannot be read as UTF-8 text: {error}") from None
        if len(text) > LONGEST:
            raise Failure(f"{self.filename} has {len(text):,} characters; at most {LONGEST:,} are read")
        if holes.unwritten(text):
            raise NotImplementedError(f"{self.filename} is not written yet: add lines below `{holes.START}`")
        return text

    def call(self, function, *cases, frozen=False):
        """Return the outputs of a NumPy function for every case, each a tuple of arrays.

        With `frozen`, for exercises whose stub says that the arguments stay as they are, writing to one is a failure.
        """
        text = self.text()
        holes.parsed(text, self.filename)
        with self.patience():
            return sandbox.call(text, self.filename, function, cases, self.limits, frozen)

    @contextmanager
    def patience(self):
        """Run something of the file, unless it had to be stopped too often: a submission has not the whole night."""
        if len(self.stopped) >= PATIENCE:
            raise Failure(f"{self.filename} is not run any more: it had to be stopped {PATIENCE} times")
        try:
            yield
        except Overtime:
            self.stopped.append(self.filename)
            raise
        except KernelError as error:
            if error.kind == "limit":
                self.stopped.append(self.filename)
            raise

    def constant(self, name):
        """Return a constant of the file: the value of ``NAME = literal``, or None."""
        return holes.constant(self.text(), self.filename, name)

    def kernel(self, name, **constants):
        """Return a kernel of the file, with the file's tile sizes set to the given ones."""
        return Kernel(self, holes.with_constants(self.text(), self.filename, constants), name, constants)


class Kernel:
    """A kernel in a submission's text, which is read by the SIMT machine and never executed as Python."""

    def __init__(self, submission, text, name, constants):
        self.submission, self.text, self.name, self.constants = submission, text, name, constants
        self.filename = filename = submission.filename
        functions = {n.name: n for n in holes.parsed(text, filename).body if isinstance(n, ast.FunctionDef)}
        if name not in functions:
            raise Failure(f"{filename} defines no function {name}; keep the stub's lines as they are")
        self.node = functions[name]

    def launch(self, grid, block, *, strict=False, **arguments):
        """Run the kernel on copies of its arguments.

        Parameters
        ----------
        grid, block : int or tuple
            Blocks, and threads of a block.
        strict : bool
            Whether any hazard is a failure; out of bounds, a barrier that not all threads reach and too much shared
            memory always are.
        **arguments : ndarray or number
            By the kernel's own names and in its order.

        Returns
        -------
        Launched
        """
        parameters = [a.arg for a in self.node.args.args]
        if parameters != list(arguments):
            raise Failure(f"{self.filename}:{self.node.lineno}: {self.name} takes ({', '.join(parameters)}); the "
                          f"exercise's arguments are ({', '.join(arguments)})")
        job = Job(self.text, self.filename, self.name, (grid, block), arguments, strict)
        try:
            with self.submission.patience():
                launch, outputs = launched(job)
        except KernelError as error:
            sizes = "".join(f", {n}={v}" for n, v in self.constants.items())
            raise Failure(f"{error}\n(launched with grid {grid}, block {block}{sizes})") from None
        self.submission.bytes_moved += launch.traffic.hbm_bytes + launch.traffic.atomic_bytes
        return Launched(self.submission, job, launch, outputs, self.constants)
