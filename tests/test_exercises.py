"""The exercises: stubs that nobody has begun, solutions that earn all points, and wrong solutions that do not."""

import tomllib
from pathlib import Path

import pytest

from minikernels.grading import course, find, grade, holes

ROOT = Path(__file__).resolve().parent.parent
SOLUTIONS = ROOT / "solutions"
EXERCISES = list(course.exercises().values())
BANKS = {path.stem: tomllib.loads(path.read_text("utf-8")) for path in (ROOT / "tests/wrong_solutions").glob("*.toml")}
WRONG = [(e, entry) for e in EXERCISES for entry in BANKS[e.stub.parent.name].get(e.name, ())]


def each(test):
    return pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)(test)


@each
def test_solving_only_adds_lines(exercise):
    """The stub's lines, in order and whole, are a subsequence of the solution's."""
    solution = iter((SOLUTIONS / exercise.place).read_text("utf-8").splitlines())
    missing = [line for line in exercise.stub.read_text("utf-8").splitlines() if line not in solution]
    assert not missing


@each
def test_stub_compiles_and_is_not_begun(exercise):
    text = exercise.stub.read_text("utf-8")
    compile(text, exercise.stub.name, "exec")
    assert holes.unwritten(text)
    assert not holes.unwritten((SOLUTIONS / exercise.place).read_text("utf-8"))


@each
def test_there_are_three_hints_and_a_title(exercise):
    assert len(exercise.hints) == course.LEVELS
    assert all(hint.strip() for hint in exercise.hints) and exercise.title
    assert exercise.tests.is_file()


def test_exercises_and_solutions_have_the_same_files():
    below = {root: {p.relative_to(root) for p in root.rglob("ex*.py")} for root in (course.folder(), SOLUTIONS)}
    assert below[SOLUTIONS] == below[course.folder()] == {e.place for e in EXERCISES}
    assert not list(SOLUTIONS.rglob("test_*.py"))


def test_stubs_fail_with_not_implemented_alone():
    for report in grade(EXERCISES):
        assert not report.begun and report.earned == 0
        assert all(t.message.startswith("NotImplementedError: ") for t in report.tasks), str(report)


def test_solutions_earn_every_point():
    for report in grade(EXERCISES, SOLUTIONS):
        assert report.full and report.points == 10, str(report)


def test_solutions_earn_every_point_under_another_seed():
    assert all(report.full for report in grade(find("02"), SOLUTIONS, seed=987654321))


@pytest.mark.parametrize("exercise, entry", WRONG, ids=[f"{e.name}: {w['why']}".replace(" ", "_") for e, w in WRONG])
def test_a_wrong_solution_loses_its_points(tmp_path, exercise, entry):
    text = (SOLUTIONS / exercise.place).read_text("utf-8")
    for old, new in entry["edits"]:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the solution"
        text = text.replace(old, new)
    path = tmp_path / exercise.stub.name
    path.write_text(text, "utf-8")
    (report,) = grade([exercise], path, brief=True)
    assert report.lost() == set(entry["loses"]), str(report)
    assert all(t.message.strip() for t in report.tasks if not t.passed)


@each
def test_there_are_four_wrong_solutions(exercise):
    assert sum(e is exercise for e, _ in WRONG) >= 4


def test_chapter_readme_names_every_exercise():
    for exercise in EXERCISES:
        readme = (exercise.stub.parent / "README.md").read_text("utf-8")
        assert exercise.stub.name in readme and f"minikernels check {exercise.key}" in readme
