"""Grading one submission of many, in a process that grades one after another and can be stopped at any of them."""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from minikernels.grading import course
from minikernels.grading.intake import take
from minikernels.grading.runner import grade

__all__ = ["Graded", "Order", "answer"]


@dataclass(frozen=True)
class Order:
    """What is to be graded, and how.

    Attributes
    ----------
    source : Path
        A student's folder or zip.
    exercises : tuple of str
        Their keys.
    seed : int
    time_limit : int or None
    hidden : Path or None
    """

    source: Path
    exercises: tuple
    seed: int = 0
    time_limit: int | None = None
    hidden: Path | None = None


@dataclass(frozen=True)
class Graded:
    """A graded submission: its reports, what was wrong with its files by exercise, seconds, bytes of memory."""

    reports: list
    said: dict
    seconds: float
    memory: int


def answer(order):
    """Grade a submission, in a folder that holds nothing but the exercises' own files."""
    start = time.monotonic()
    chosen = [course.exercises()[key] for key in order.exercises]
    with tempfile.TemporaryDirectory() as clean:
        said = take(order.source, chosen, Path(clean))
        reports = grade(chosen, clean, seed=order.seed, time_limit=order.time_limit, hidden=order.hidden)
    return Graded(list(reports), said, time.monotonic() - start, most_memory())


def most_memory():
    """Return the most bytes that this process, or any that it waited for, has held; 0 where that is not known."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
