"""Launches of submitted kernels, in one process of their own with bounds on memory and time.

The SIMT machine never executes a submission as Python, but a kernel can still ask it for more than there is: private
arrays of gigabytes, a loop without end, an expression of a hundred thousand terms. So the machine runs in a process
that lives as long as the grader and is replaced where a launch has to be stopped.
"""

import ast
import atexit
import contextlib
import pickle
from dataclasses import dataclass, replace

from minikernels import simt
from minikernels.core.errors import KernelError
from minikernels.grading.failure import Failure, Overtime
from minikernels.grading.process import Ended, Process

__all__ = ["MAX_STEPS", "Job", "answer", "ask", "launched"]

MAX_STEPS = 50_000  # statements of one launch; at the grader's sizes the solutions run a fifth of them or fewer
SECONDS = 8  # processor time of one launch; the solutions' take a tenth of a second
MEMORY = 2 * 2**30  # bytes of address space, of which Python and NumPy take a fifth of a gigabyte
PATIENCE = 3 * SECONDS + 30  # seconds on the clock, on a machine that is busy
KEPT = 32  # launches that are remembered: as many sizes as an exercise has, a few times over
REFUSED = ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError

machine = Process(__name__)
atexit.register(machine.close)
remembered = {}  # pickled Job, not strict -> pickled answer of Job.launch


@dataclass(frozen=True)
class Job:
    """One launch of a kernel in a text.

    Attributes
    ----------
    text, filename, name : str
        The submission with the grader's constants, what messages call it, and the kernel's name.
    shape : (grid, block)
    arguments : dict
        By the kernel's own names and in its order; a launch works on copies.
    strict : bool
        Whether any hazard ends the launch.
    """

    text: str
    filename: str
    name: str
    shape: tuple
    arguments: dict
    strict: bool = False

    @property
    def node(self):
        """The kernel's place in the text."""
        return next(n for n in ast.parse(self.text).body if isinstance(n, ast.FunctionDef) and n.name == self.name)

    def launch(self):
        """Return the machine's launch, and the arguments as they stand after it."""
        outputs = {name: x.copy() if hasattr(x, "copy") else x for name, x in self.arguments.items()}
        launch = simt.run_source(self.text, self.name, *self.shape, *outputs.values(), filename=self.filename,
                                 strict=self.strict, max_steps=MAX_STEPS)
        return launch, outputs


def launched(job):
    """Return the machine's launch of a job, and the arguments as they stand after it; raise as `ask` does.

    A test of values, one of hazards and one of traffic launch the same job, which runs once. What is strict about it is
    told by what a launch found: where that is nothing but float64, a strict one would have ended like it.
    """
    key = pickle.dumps(replace(job, strict=False))
    if key in remembered:
        launch, outputs = pickle.loads(remembered[key])
        if not job.strict or all(finding.kind == "float64" for finding in launch.findings):
            return launch, outputs
    found = ask(job, Job.launch)
    remembered[key] = pickle.dumps(found)
    if len(remembered) > KEPT:
        del remembered[next(iter(remembered))]
    return found


def ask(job, function, *arguments):
    """Return ``function(job, *arguments)``, computed in the process.

    Raises
    ------
    KernelError
        What the machine says of the kernel.
    Overtime
        If it had to be stopped.
    Failure
        If it takes too much memory, or is nothing that a kernel can be.
    """
    who = f"{job.filename}: {job.name}"
    try:
        kind, found = machine.ask((function, job, arguments, SECONDS), PATIENCE)
    except Ended as end:
        if end.overtime:
            raise Overtime(f"{who} ran for more than {SECONDS} seconds; is there a loop that never ends?") from None
        raise Overtime(f"{who} ended the machine that ran it ({end}); is something in it very large or very deep?"
                       ) from None
    if kind == "raises":
        raise found
    if kind == "MemoryError":
        machine.close()
        raise Overtime(f"{who} needs more memory than the {MEMORY // 2**30} GiB of a graded launch")
    if kind != "done":
        raise Failure(f"{who} cannot be run: {kind}: {found}")
    return found


def answer(question):
    """Answer a question of `ask`, in the process."""
    function, job, arguments, seconds = question
    bound(seconds)
    try:
        return "done", function(job, *arguments)
    except KernelError as error:
        return "raises", error
    except REFUSED as error:
        return type(error).__name__, str(error)[:500]


def bound(seconds):
    """Bound the memory of this process and the processor time of its next launch, where the system knows how to."""
    try:
        import resource
    except ImportError:  # Windows: the clock is all there is
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds += int(used.ru_utime + used.ru_stime) + 1
    for name, amount in (("RLIMIT_CPU", seconds), ("RLIMIT_AS", MEMORY), ("RLIMIT_CORE", 0)):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # macOS does not bound memory
            resource.setrlimit(getattr(resource, name), (amount, resource.getrlimit(getattr(resource, name))[1]))
