"""What pytest learns in order to grade: points, the submission of a test, a seed, and messages without tracebacks.

``exercises/conftest.py`` takes these hooks and fixtures over by name, so that nothing here acts on any other test.
"""

import zlib
from pathlib import Path

import numpy as np
import pytest

from minikernels.grading.course import exercises
from minikernels.grading.failure import Failure
from minikernels.grading.report import Graded, points_table
from minikernels.grading.sandbox import Limits
from minikernels.grading.submission import Submission

__all__ = ["pytest_addoption", "pytest_configure", "pytest_runtest_makereport", "pytest_terminal_summary", "rng",
           "submission"]


def pytest_addoption(parser):
    """Declare what can be chosen about a grading run."""
    group = parser.getgroup("grading")
    group.addoption("--subject", help="the folder that holds the submissions (exercises), or one file")
    group.addoption("--seed", type=int, default=0, help="seed of the inputs (0); a grader may keep its own to itself")
    group.addoption("--time-limit", type=int, default=Limits.seconds, metavar="SECONDS",
                    help="processor time of a call of a NumPy exercise")


def pytest_configure(config):
    """Declare the marker."""
    config.addinivalue_line("markers", "points(n): what a test is worth; all its cases must pass")


EXPLAINED = pytest.StashKey()  # tests of which a case has been explained; the first one is what a learner reads


@pytest.fixture
def submission(request):
    """The file that this test grades."""
    explained, function = request.config.stash.setdefault(EXPLAINED, set()), (request.path, request.node.originalname)
    exercise, config = exercise_of(request.path), request.config
    subject = config.getoption("--subject", None)
    path = exercise.stub.parent.parent if subject is None else Path(subject)
    path = path / exercise.place if path.is_dir() else path
    limits = Limits(seconds=config.getoption("--time-limit", Limits.seconds))
    handed_in = Submission(path, limits, explains=function not in explained)
    yield handed_in
    if handed_in.explained:
        explained.add(function)


@pytest.fixture
def rng(request):
    """Random numbers of this case and the run's seed."""
    name = f"{request.config.getoption('--seed', 0)} {request.path.name} {request.node.name}"
    return np.random.default_rng(zlib.crc32(name.encode()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Keep a learner's view of a failure: what is wrong, where, and the way to a hint."""
    report = yield
    exercise, marker = exercise_of(item.path), item.get_closest_marker("points")
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, (Failure, NotImplementedError)):
        prefix = "" if isinstance(error, Failure) else "NotImplementedError: "
        report.longrepr = f"{prefix}{error}\nStuck? minikernels check {exercise.key} --hint"
    if call.when == "call" or (call.when == "setup" and error is not None):
        function = getattr(item, "originalname", item.name)
        report.graded = Graded(
            exercise=exercise.key, test=function, title=(item.function.__doc__ or function).strip().splitlines()[0],
            points=marker.args[0] if marker else 0, passed=report.passed,
            begun=not isinstance(error, NotImplementedError), message="" if report.passed else str(report.longrepr),
            case=item.name.removeprefix(function).strip("[]"))
    return report


def pytest_terminal_summary(terminalreporter):
    """Print points by exercise."""
    graded = [r.graded for rs in terminalreporter.stats.values() for r in rs if hasattr(r, "graded")]
    if graded:
        terminalreporter.section("points")
        terminalreporter.write_line(points_table(graded))


def exercise_of(path):
    """Return the exercise that a test file grades."""
    return next(e for e in exercises().values() if e.tests.resolve() == Path(path).resolve())
