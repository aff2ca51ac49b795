"""Grading from Python: run the exercises' own pytest files on a submission and collect the points."""

import importlib.util
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


def grade(chosen, subject=None, *, seed=0, time_limit=None):
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

    root, collector = folder().parent, Collector()
    options = ["-c", str(root / "pyproject.toml"), "--rootdir", str(root), "-o", "addopts=", "-s", "--strict-markers",
               "--import-mode=importlib", "-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:faulthandler",
               f"--seed={seed}"]
    options += [f"--subject={Path(subject).resolve()}"] if subject is not None else []
    options += [f"--time-limit={time_limit}"] if time_limit is not None else []
    code = pytest.main([*options, *(str(e.tests) for e in chosen)], plugins=[collector])
    if collector.broken or code not in (0, 1):
        said = "\n".join(collector.broken)
        raise RuntimeError(f"the grader itself failed (pytest's exit code {int(code)}):\n{said}")
    return reports_of(collector.graded, exercises())


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
