"""Right answers keep their points whatever the seed, and answers of any kind and shape are answered with a sentence.

Nearly all of it runs the tests of NumPy exercises here, without pytest and without a process for the submission.
"""

import functools
import importlib.util
import inspect
import tomllib
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minikernels.grading import Failure, course, grade, holes, plugin, worker

ROOT = Path(__file__).resolve().parent.parent
EXERCISES = course.exercises()
NUMPY = [e for e in EXERCISES.values() if "submission.call(" in e.tests.read_text("utf-8")]
RIGHT = [(EXERCISES[key], entry) for key, entries in tomllib.loads(
    (ROOT / "tests/right_solutions.toml").read_text("utf-8")).items() for entry in entries]
NUMPY_RIGHT = [(e, entry) for e, entry in RIGHT if e in NUMPY]
KERNELS_RIGHT = [(e, entry) for e, entry in RIGHT if e not in NUMPY]
# Right answers lost points under most of these while budgets were multiples of what plain NumPy happened to be off by.
SEEDS = [0, 2, 3, 5, 11, 16, 22, 37, 45, 57, 66, 70, 78, 95, 100, 125, 215, 254, 300, 362, 486, 688, 855, 860, 10**9]
ODD = ["()", "1.5", "True", "np.zeros(0)", "np.float32(1), np.float32(2)", "np.zeros((2, 3, 4, 5, 6))", "[]",
       "np.zeros(3, bool)", "np.zeros(3, np.uint8)", "[1, 2], [3]", "*(np.arange(3),) * 3", "*(np.zeros((3, 3)),) * 4",
       "*(np.full((3, 3), np.nan, np.float32),) * 2"]


@pytest.fixture(scope="module", autouse=True)
def markers(request):
    """Declare the markers of the exercises' tests, which are imported here."""
    plugin.pytest_configure(request.config)


class Called:
    """A submission whose functions are called in this process, as the worker calls them in its own."""

    def __init__(self, text, filename):
        self.text, self.filename = text, filename

    def call(self, function, *cases, frozen=False):
        """Return the outputs of a function for every case, each a tuple of arrays."""
        task = {"source": self.text, "filename": self.filename, "function": function, "frozen": frozen}
        reply, arrays = worker.answer(task, [[np.array(x) for x in case] for case in cases], np)
        for answer in reply["cases"]:
            if "error" in answer:
                raise Failure(f"{answer['error']}: {answer['message']}")
        arrays = iter(arrays)
        return [tuple(next(arrays) for _ in range(answer["outputs"])) for answer in reply["cases"]]


@functools.cache
def functions_of(exercise):
    """Return an exercise's test functions by name."""
    spec = importlib.util.spec_from_file_location(exercise.name, exercise.tests)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: test for name, test in vars(module).items() if name.startswith("test_")}


def lost(exercise, text, seeds):
    """Return what went wrong, by test and seed."""
    submission, found = Called(text, exercise.stub.name), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a worker has no place to warn at
        for seed in seeds:
            item = SimpleNamespace(path=exercise.tests, config=SimpleNamespace(getoption=lambda *_, n=seed: n))
            for name, test in functions_of(exercise).items():
                given = {"submission": submission, "rng": plugin.random_numbers(item, name)}
                try:
                    test(**{name: given[name] for name in inspect.signature(test).parameters})
                except Failure as failure:
                    found[name, seed] = str(failure)
    return found


def filled(exercise, lines):
    """Return the stub's text with lines at each of its places."""
    first, *rest = exercise.stub.read_text("utf-8").split(f"{holes.START}\n")
    return first + "".join(f"{holes.START}\n{block}{part}" for block, part in zip(lines, rest, strict=True))


@pytest.mark.parametrize("exercise", NUMPY, ids=lambda e: e.name)
def test_solution_is_right_under_every_seed(exercise):
    assert not lost(exercise, (ROOT / "solutions" / exercise.place).read_text("utf-8"), SEEDS)


@pytest.mark.parametrize("exercise, entry", NUMPY_RIGHT, ids=[f"{e.name}: {w['why']}" for e, w in NUMPY_RIGHT])
def test_another_right_answer_is_right_under_every_seed(exercise, entry):
    assert not lost(exercise, filled(exercise, entry["lines"]), SEEDS)


@pytest.mark.parametrize("exercise, entry", KERNELS_RIGHT, ids=[f"{e.name}: {w['why']}" for e, w in KERNELS_RIGHT])
def test_another_right_kernel_earns_every_point(tmp_path, exercise, entry):
    path = tmp_path / exercise.stub.name
    path.write_text(filled(exercise, entry["lines"]), "utf-8")
    (report,) = grade([exercise], path, seed=SEEDS[-1], brief=True)
    assert report.full, str(report)


@pytest.mark.parametrize("exercise", NUMPY, ids=lambda e: e.name)
def test_an_odd_answer_loses_every_point_and_breaks_no_test(exercise):
    function = next(n.name for n in holes.parsed(exercise.stub.read_text("utf-8"), "").body if hasattr(n, "name"))
    for answer in ODD:
        text = f"import numpy as np\ndef {function}(*given):\n    return {answer}\n"
        messages = lost(exercise, text, [0])
        assert set(messages) == {(name, 0) for name in functions_of(exercise)}, answer
        assert all(message.strip() for message in messages.values())
