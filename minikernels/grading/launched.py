"""A submission's launch under judgement: values against the oracle, traffic against a budget in letters."""

import contextlib
import math

import numpy as np

from minikernels.core import oracle
from minikernels.core.errors import KernelError
from minikernels.grading.failure import Failure
from minikernels.grading.lockstep import ask
from minikernels.grading.writers import lines_of, written_by

__all__ = ["Launched", "judge"]

UNITS = {
    "load_bytes": "bytes loaded",
    "load_sectors": "sectors loaded",
    "load_requests": "load requests",
    "store_bytes": "bytes stored",
    "store_requests": "store requests",
    "store_sectors": "sectors stored",
    "barriers": "barriers passed",
    "branches": "branches of warps",
    "shared_load_requests": "load requests to shared memory",
    "shared_store_requests": "store requests to shared memory",
    "shared_load_conflicts": "bank conflicts on loads",
    "shared_store_conflicts": "bank conflicts on stores",
}


def judge(out, exact, plain, *, name, letters, magnitude=None, exponent=0.0):
    """Return None where an output is within the oracle's budget, else (first wrong cell, message).

    The cell is None where the output has a wrong shape or dtype. The others are as for `oracle.check`.
    """
    verdict = oracle.check(out, exact, plain, name=name, letters=letters, magnitude=magnitude, exponent=exponent)
    if verdict:
        return None
    if verdict.worst is None:
        return None, verdict.message
    wrong = ~(oracle.difference(out, exact) <= verdict.budget)
    cell = tuple(int(i) for i in np.argwhere(wrong)[0])
    where, found = oracle.cell_name(name, cell, letters) if cell else name, out[cell]
    said = f"{where} is {found:.6g} but should be {exact[cell]:.6g}"
    if not np.isnan(found):
        said += f" (off by {abs(found - exact[cell]):.2g}, where {verdict.budget:.2g} is allowed)"
    count = f" It is the first of {wrong.sum()} wrong cells, of {wrong.size}." if wrong.sum() > 1 else ""
    return cell, f"{said}.{count}"


class Launched:
    """One launch of a submission's kernel.

    Attributes
    ----------
    submission : Submission
    job : Job
        What was launched; ``job.arguments`` are the arrays as they were before.
    outputs : dict
        The same arrays as the launch left them.
    launch : simt.Launch
    constants : dict
        The constants that the grader set.
    """

    def __init__(self, submission, job, launch, outputs, constants):
        self.submission, self.job, self.launch, self.outputs = submission, job, launch, outputs
        self.constants = constants

    @property
    def arguments(self):
        """What the kernel was given."""
        return self.job.arguments

    def right(self, name, exact, plain, *, letters, **terms):
        """Fail unless an output array is right; say which block, thread and line wrote its first wrong cell.

        `terms` may give the ``magnitude`` and the ``exponent`` of `oracle.check`: the sizes of what is summed.
        """
        found = judge(self.outputs[name], exact, plain, name=name, letters=letters, **terms)
        if found is not None:
            cell, message = found
            writer = ""
            if cell is not None and self.submission.explains:
                self.submission.explained = True
                with contextlib.suppress(Failure, KernelError):  # the recording of a launch takes more than the launch
                    writer = ask(self.job, written_by, name, cell)
            raise Failure("\n".join(filter(None, (message, writer, self.sizes()))))

    def within(self, says, quantity, formula, array=None, **letters):
        """Fail if the launch moved more than a budget allows.

        Parameters
        ----------
        says : str
            The budget in words: ``k is read at most ceil(T / BLOCK_T) times``.
        quantity : str
            A field of `Traffic`.
        formula : str
            The budget in letters: ``ceil(T / BLOCK_T) * S * D * 4``.
        array : str, optional
            Count this array's traffic alone.
        **letters : int
            What the letters stand for.
        """
        traffic = self.launch.traffic if array is None else self.launch.by_array[array]
        counted = getattr(traffic, quantity) + by_atomics(traffic, quantity)
        allowed = allowance(formula, letters)
        if counted > allowed:
            of = f" of {array}" if array else ""
            sizes = ", ".join(f"{k}={v}" for k, v in letters.items())
            unit = UNITS.get(quantity, quantity.replace("_", " "))
            raise Failure("\n".join(filter(None, (
                f"{counted:,} {unit}{of}; the budget is {allowed:,}: {says}.",
                f"The budget is {formula}, with {sizes}." if not formula.isdigit() else f"({sizes})",
                self.costliest(quantity, array)))))

    def without_float64(self):
        """Fail if a Python constant made arithmetic float64."""
        slips = [f.message for f in self.launch.findings if f.kind == "float64"]
        if slips:
            raise Failure(f"{self.job.filename}: {slips[0]}")

    def costliest(self, quantity, array=None):
        """Say which lines of the submission have most of a quantity, or of one array's, where that is known."""
        if array is None:
            lines = {n: getattr(t, quantity) + by_atomics(t, quantity) for n, t in self.launch.by_line.items()}
        elif self.submission.explains:
            lines, self.submission.explained = {}, True
            with contextlib.suppress(Failure, KernelError):
                lines = ask(self.job, lines_of, array, quantity)
        else:
            return ""
        most = max(lines.values(), default=0)
        line, *others = sorted(n for n in lines if lines[n] == most) or (None,)
        if not most:
            return ""
        if others:
            return f"{most:,} of it in each of the lines {line}, {', '.join(map(str, others))} of {self.job.filename}"
        text = self.job.text.split("\n")[line - 1].strip()
        return f"Most of it in {self.job.filename}:{line}: {text}  ({most:,})"

    def sizes(self):
        """Say what the launch was called with."""
        shapes = [f"{n} {list(x.shape)}" for n, x in self.arguments.items() if hasattr(x, "shape") and x.ndim]
        constants = [f"{n}={v}" for n, v in self.constants.items()]
        return f"(launched with {', '.join(shapes + constants)}, grid {self.job.shape[0]}, block {self.job.shape[1]})"


def by_atomics(traffic, quantity):
    """Return what atomics add to a quantity: an atomic add of 0 is a load, and spends what a load spends."""
    kind, _, unit = quantity.partition("_")
    if kind in ("load", "store"):
        return getattr(traffic, f"atomic_{unit}")
    return traffic.shared_atomic_requests if kind == "shared" else 0


def allowance(formula, letters):
    """Return the value of a budget's formula.

    >>> allowance("ceil(T / BLOCK_T) * S * D * 4", {"T": 70, "BLOCK_T": 32, "S": 10, "D": 8})
    960
    """
    known = {"ceil": math.ceil, "min": min, "max": max, "sum": sum, "range": range, "__builtins__": {}}
    return int(eval(formula, known | letters))  # a test's own text, and never a submission's
