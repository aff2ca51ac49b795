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
from minikernels.grading.shapes import settled
from minikernels.grading.submission import Submission

__all__ = ["pytest_addoption", "pytest_configure", "pytest_runtest_makereport", "pytest_runtest_setup",
           "pytest_terminal_summary", "rng", "submission"]


def pytest_addoption(parser):
    """Declare what can be chosen about a grading run."""
    group = parser.getgroup("grading")
    group.addoption("--subject", help="the folder that holds the submissions (exercises), or one file")
    group.addoption("--seed", type=int, default=0, help="seed of the inputs (0); a grader may keep its own to itself")
    group.addoption("--brief", action="store_true", help="do not look for the thread that wrote a wrong cell")
    group.addoption("--time-limit", type=int, default=Limits.seconds, metavar="SECONDS",
                    help="processor time of a call of a NumPy exercise")


def pytest_configure(config):
    """Declare the markers."""
    config.addinivalue_line("markers", "points(n, partial=False): what a test is worth if all its cases pass; with "
                            "partial, every case that passes gives its share")
    config.addinivalue_line("markers", "hidden: learners are not told why the test failed, nor shown it beforehand")


EXPLAINED = pytest.StashKey()  # tests of which a case has been explained; the first one is what a learner reads
STOPPED = pytest.StashKey()  # exercise -> how often its submission had to be stopped
HANDED_IN = pytest.StashKey()  # the submission of a test


def pytest_runtest_setup(item):
    """Draw the sizes that a case leaves to the seed."""
    callspec = getattr(item, "callspec", None)
    for name, value in callspec.params.items() if callspec else ():
        # The same for every test of a file: what is judged for its value is judged for its traffic too.
        callspec.params[name] = settled(value, random_numbers(item, callspec.id))


@pytest.fixture
def submission(request):
    """The file that this test grades."""
    explained, function = request.config.stash.setdefault(EXPLAINED, set()), (request.path, request.node.originalname)
    exercise, config = exercise_of(request.path), request.config
    stopped = config.stash.setdefault(STOPPED, {}).setdefault(exercise.key, [])
    path = exercise.handed_in(config.getoption("--subject", None))
    limits = Limits(seconds=config.getoption("--time-limit", Limits.seconds))
    explains = function not in explained and not config.getoption("--brief", False)
    handed_in = Submission(path, limits, explains, stopped)
    request.node.stash[HANDED_IN] = handed_in
    yield handed_in
    if handed_in.explained:
        explained.add(function)


@pytest.fixture
def rng(request):
    """Random numbers of this case and the run's seed: the same in all tests of a file that are given the same sizes."""
    return random_numbers(request.node, request.node.name.partition("[")[2] or request.node.name)


def random_numbers(item, name):
    """Return the random numbers of a name in a test file, under the run's seed."""
    words = f"{item.config.getoption('--seed', 0)} {item.path.name} {name}"
    return np.random.default_rng(zlib.crc32(words.encode()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Keep a learner's view of a failure: what is wrong, where, and the way to a hint."""
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, (Failure, NotImplementedError)):
        call.excinfo.traceback = call.excinfo.traceback[:1]  # no learner reads it, and each entry takes time to draw
    report = yield
    exercise, marker = exercise_of(item.path), item.get_closest_marker("points")
    message = "" if report.passed else str(report.longrepr)
    if isinstance(error, (Failure, NotImplementedError)):
        prefix = "" if isinstance(error, Failure) else "NotImplementedError: "
        message = report.longrepr = f"{prefix}{error}\nStuck? minikernels check {exercise.key} --hint"
    elif error is not None:  # a mistake in the test: its traceback is for pytest's own output
        where = call.excinfo.traceback[-1]
        said = str(error).partition("\n")[0][:200]
        message = (f"The test itself ended with {type(error).__name__}: {said} ({Path(where.path).name}:"
                   f"{where.lineno + 1}); tell whoever set the exercise.")
    if call.when == "call" or (call.when == "setup" and error is not None):
        function, handed_in = getattr(item, "originalname", item.name), item.stash.get(HANDED_IN, None)
        report.graded = Graded(
            exercise=exercise.key, test=function, title=(item.function.__doc__ or function).strip().splitlines()[0],
            points=marker.args[0] if marker else 0, passed=report.passed,
            begun=not isinstance(error, NotImplementedError), message=message,
            case=item.name.removeprefix(function).strip("[]"), hidden=is_hidden(item, exercise),
            partial=bool(marker and marker.kwargs.get("partial")),
            bytes_moved=handed_in.bytes_moved if handed_in else 0)
    return report


def pytest_terminal_summary(terminalreporter):
    """Print points by exercise."""
    graded = [r.graded for rs in terminalreporter.stats.values() for r in rs if hasattr(r, "graded")]
    if graded:
        terminalreporter.section("points")
        terminalreporter.write_line(points_table(graded))


def exercise_of(path):
    """Return the exercise that a test file grades: one beside the stub, or one of that place in a folder of others."""
    place = Path(path).resolve().parts[-2:]
    return next(e for e in exercises().values() if e.tests.resolve().parts[-2:] == place)


def is_hidden(item, exercise):
    """Whether a test is hidden: it says so, or stands apart from the exercises."""
    return item.get_closest_marker("hidden") is not None or item.path.resolve() != exercise.tests.resolve()
