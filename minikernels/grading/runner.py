"""Grading from Python: run the exercises' own pytest files on a submission and collect the points."""

import contextlib
import importlib.util
import os
from pathlib import Path

from minikernels.core.errors import DeviceError
from minikernels.grading.course import exercises, find, folder
from minikernels.grading.report import Report, reports_of

__all__ = ["Report", "check", "grade"]


def check(word, subject=None):
    """Return how far an exercise (``check("02.3")``) or a chapter (``check("02")``) is, to be shown in a notebook.

    Parameters
    ----------
    word : str
        An exercise or a chapter.
    subject : str or Path, optional
        A folder of submissions, or one file; the stubs in ``exercises`` without it.

    Returns
    -------
    Report or Reports
    """
    reports = grade(find(word), subject)
    return reports[0] if len(reports) == 1 else reports


def grade(chosen, subject=None, *, seed=0, time_limit=None, hidden=None, quick=False, brief=False):
    """Grade a submission of some exercises.

    Parameters
    ----------
    chosen : list of Exercise
    subject : str or Path, optional
        The folder that holds ``02_flash/ex3_tile_loop.py``, or that file itself; ``exercises`` without it.
    seed : int
        Seed of the inputs.
    time_limit : int, optional
        Seconds of processor time of a call of a NumPy exercise.
    hidden : str or Path, optional
        A folder of further tests, each at the place of the exercise's own: ``02_flash/test_ex3_tile_loop.py``.
    quick : bool
        Whether to end at the first point that is lost.
    brief : bool
        Whether to leave out which thread wrote a wrong cell, which takes a recorded launch or two.

    Returns
    -------
    Reports
        A list of Report, one an exercise.
    """
    if importlib.util.find_spec("pytest") is None:
        raise DeviceError("grading needs pytest: pip install 'pytest>=8'")
    if subject is not None and not Path(subject).exists():
        raise FileNotFoundError(f"there is no submission at {subject}")
    import pytest

    from minikernels.grading import plugin

    root, collector = folder().parent, Collector()
    options = ["-c", str(root / "pyproject.toml"), "--rootdir", str(root), "-o", "addopts=", "-s", "--strict-markers",
               "--import-mode=importlib", "-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:faulthandler",
               "-p", "no:unraisableexception",  # it looks for garbage in all that the caller's process holds
               "-p", "no:xdist", "--noconftest", f"--seed={seed}"]
    options += [f"--subject={Path(subject).resolve()}"] if subject is not None else []
    options += [f"--time-limit={time_limit}"] if time_limit is not None else []
    options += ["-x"] * quick + ["--brief"] * brief
    tests = [e.tests for e in chosen]
    if hidden is not None:
        tests += [path for path in (Path(hidden).resolve() / e.tests.relative_to(folder()) for e in chosen)
                  if path.is_file()]
    with arguments_of_its_own():
        code = pytest.main([*options, *map(str, tests)], plugins=[plugin, collector])
    if collector.broken or code not in (0, 1, 2 if quick else 1):
        said = "\n".join(collector.broken)
        raise RuntimeError(f"the grader itself failed (pytest's exit code {int(code)}):\n{said}")
    return reports_of(collector.graded, exercises())


@contextlib.contextmanager
def arguments_of_its_own():
    """Keep PYTEST_ADDOPTS, which the caller's pytest may have been given, from this one."""
    kept = os.environ.pop("PYTEST_ADDOPTS", None)
    try:
        yield
    finally:
        if kept is not None:
            os.environ["PYTEST_ADDOPTS"] = kept


class Collector:
    """Keeps what the plugin noted on every report."""

    def __init__(self):
        self.graded, self.broken = [], []

    def pytest_runtest_logreport(self, report):
        """Keep a test's outcome."""
        if hasattr(report, "graded"):
            self.graded.append(report.graded)
        elif report.failed:
            self.broken.append(str(report.longrepr))

    def pytest_collectreport(self, report):
        """Keep what kept a test file from being read."""
        if report.failed:
            self.broken.append(str(report.longrepr))
