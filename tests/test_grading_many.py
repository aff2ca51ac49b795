"""Many submissions in one run: none is lost, none costs another anything, and the run goes on where it was ended."""

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from xml.etree import ElementTree

import pytest

from minikernels.grading import course
from minikernels.grading.intake import handed_in, spelled, take
from minikernels.grading.results import load
from tests import attacks
from tests.attacks import only
from tests.attacks_by_files import FILES

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="makes links and pipes")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """Every attack on the files, side by side in one folder."""
    folder = tmp_path_factory.mktemp("submissions")
    for attack in FILES:
        attack(folder / attack.__name__)
    return folder


@pytest.mark.parametrize("attack", FILES, ids=lambda a: a.__name__)
def test_a_folder_or_zip_gives_its_own_files_and_nothing_else(attacked, tmp_path, attack):
    (one,) = (one for one in handed_in(attacked) if one.student == attack.__name__)
    chosen, lost = course.find("02_flash"), FILES[attack]
    before = set(attacked.rglob("*"))
    said = take(one.path, chosen, tmp_path)
    there = {e.key for e in chosen if (tmp_path / e.place).is_file()}
    right = {e.key for e in chosen if e.key in there
             and (tmp_path / e.place).read_bytes() == (attacks.ROOT / "solutions" / e.place).read_bytes()}
    assert {e.key for e in chosen} - right == ({e.key for e in chosen} if lost == "all" else lost)
    assert {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if not p.is_dir()} == {
        e.place for e in chosen if e.key in there}
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.py")) < 3_000_000
    assert set(attacked.rglob("*")) == before
    assert all(len(text) < 400 for text in said.values())


def test_every_submission_gets_its_own_points(attacked, tmp_path, run_grade):
    out = tmp_path / "results"
    code, said, progress = run_grade(attacked, "--out", out, "--seed", 5, "--jobs", 2, *only("02.2"))
    assert code == 0
    assert said.startswith(f"{len(FILES)} submissions\n")
    assert len(progress.splitlines()) == len(FILES)
    for attack, lost in FILES.items():
        result = load(out / "students" / f"{attack.__name__}.json")
        assert result.earned == (0 if lost == "all" or "02.2" in lost else 10), attack.__name__
        assert result.points == 10 and not result.problem
        assert (out / "students" / f"{attack.__name__}.txt").read_text("utf-8").startswith(attack.__name__)
    rows = list(csv.DictReader(io.StringIO((out / "grades.csv").read_text("utf-8"))))
    assert len(rows) == 3 * len(FILES)
    assert sum(float(r["earned"]) for r in rows) == 10 * sum(not lost for lost in FILES.values())
    suites = ElementTree.parse(out / "junit.xml").getroot()
    assert len(suites) == len(FILES)
    assert len(suites.findall(".//failure")) == 3 * sum(bool(lost) for lost in FILES.values())


def submission(folder, text, place="02_flash/ex2_merge.py"):
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_text(text, "utf-8")


def test_a_second_run_grades_what_has_changed(tmp_path, run_grade):
    folder, out = tmp_path / "handed in", tmp_path / "results"
    right = attacks.SOLUTION.read_text("utf-8")
    for name in ("ann", "bob"):
        submission(folder / name, right)
    words = folder, "--out", out, *only("02.2")
    assert run_grade(*words)[1].startswith("2 submissions\n")
    seed = json.loads((out / "run.json").read_text("utf-8"))["seed"]
    assert seed > 2**32  # a secret one
    assert run_grade(*words)[1].startswith("2 submissions, 2 of them graded before\n")
    submission(folder / "bob", attacks.numpy_attack("returns its input"))
    (out / "students/ann.txt").unlink()
    (out / "students/.half.partial").write_text("{")
    code, said, progress = run_grade(*words)
    assert said.startswith("2 submissions, 1 of them graded before\n") and progress == "bob: 0 of 10\n"
    assert run_grade(*words, "--fresh")[1].startswith("2 submissions\n")
    assert (out / "students/ann.txt").is_file()
    assert json.loads((out / "run.json").read_text("utf-8"))["seed"] == seed
    assert run_grade(*words, "--seed", 1)[1].startswith("2 submissions\n")  # another seed: other inputs


def test_a_grader_that_is_stopped_leaves_a_result(tmp_path, run_grade, monkeypatch):
    from minikernels.grading import many
    from minikernels.grading.process import Ended, Process

    def ended(self, question, seconds):
        if question.source.name == "bob":
            raise Ended(-9, True)
        return real(self, question, seconds)

    real = Process.ask
    monkeypatch.setattr(many.Process, "ask", ended)
    folder, out = tmp_path / "handed in", tmp_path / "results"
    for name in ("ann", "bob"):
        submission(folder / name, attacks.SOLUTION.read_text("utf-8"))
    code, said, _ = run_grade(folder, "--out", out, *only("02.2"))
    assert code == 1 and "bob could not be graded: the grader was stopped" in said
    assert load(out / "students/ann.json").earned == 10
    bob = load(out / "students/bob.json")
    assert (bob.earned, bob.points) == (0, 10) and "could not be graded" in bob.text()


def test_a_grader_that_fails_is_replaced_and_its_traceback_is_not_the_student_s(tmp_path, run_grade, monkeypatch):
    from minikernels.grading import many

    def failing(self, question, seconds):
        self.process = self.process or self.start()
        asked.append((question.source.name, self.process.pid))
        if question.source.name == "ann":
            raise RuntimeError("OSError: too many open files\nTraceback (most recent call last):\n  deep inside")
        return real(self, question, seconds)

    asked, real = [], many.Process.ask
    monkeypatch.setattr(many.Process, "ask", failing)
    folder, out = tmp_path / "handed in", tmp_path / "results"
    for name in ("ann", "bob"):
        submission(folder / name, attacks.SOLUTION.read_text("utf-8"))
    code, said, _ = run_grade(folder, "--out", out, "--jobs", 1, *only("02.2"))
    assert code == 1 and "ann could not be graded: the grader failed: OSError: too many open files\n" in said
    assert [name for name, _ in asked] == ["ann", "ann", "bob"] and len({pid for _, pid in asked}) == 3
    assert "deep inside" not in (out / "students/ann.txt").read_text("utf-8")
    assert "deep inside" in load(out / "students/ann.json").problem
    assert load(out / "students/bob.json").earned == 10


@pytest.mark.parametrize("attack", ["bounds the files of its parent", "kills its parent by a descriptor",
                                    "kills the group of its parent by a descriptor"])
def test_a_submission_does_not_reach_the_one_after_it(tmp_path, attack):
    folder, out = tmp_path / "handed in", tmp_path / "results"
    submission(folder / "ann", attacks.numpy_attack(attack))
    submission(folder / "bob", attacks.SOLUTION.read_text("utf-8"))
    words = ["grade", folder, "--out", out, "--jobs", "1", *only("02.2")]
    done = subprocess.run([sys.executable, "-m", "minikernels", *words], cwd=attacks.ROOT, capture_output=True,
                          check=False, start_new_session=True)  # a group of its own, which the attack may end
    assert done.returncode == 0, done.stderr.decode()
    assert [load(out / f"students/{name}.json").earned for name in ("ann", "bob")] == [0, 10]


def test_a_long_name_and_a_result_that_cannot_be_written_end_nothing(tmp_path, run_grade):
    folder, out = tmp_path / "handed in", tmp_path / "results"
    for name in ("ann", "bob", "\u4e2d" * 84):
        submission(folder / name, attacks.SOLUTION.read_text("utf-8"))
    (out / "students/bob.json").mkdir(parents=True)  # a folder stands where the file should
    code, said, _ = run_grade(folder, "--out", out, *only("02.2"))
    assert code == 1 and "bob has no bob.json: " in said
    rows = list(csv.DictReader(io.StringIO((out / "grades.csv").read_text("utf-8"))))
    assert [sum(float(r["earned"]) for r in rows if r["student"].startswith(n)) for n in "ab\u4e2d"] == [10, 10, 10]


def test_results_among_the_submissions_are_none(tmp_path, run_grade, monkeypatch):
    monkeypatch.chdir(tmp_path)
    submission(tmp_path / "ann", attacks.SOLUTION.read_text("utf-8"))
    for said in ("1 submissions\n", "1 submissions, 1 of them graded before\n"):
        code, out, _ = run_grade(".", *only("02.2"))
        assert code == 0 and out.startswith(said)
    assert run_grade(".", "--out", "results/today", *only("02.2"))[0] == 2  # inside what is now taken for a submission
    assert not (tmp_path / "results/today").exists()


HIDDEN = '''
import numpy as np, pytest
from minikernels.grading import Failure

@pytest.mark.points(4, partial=True)
@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_more(submission, rng, rows):
    """A row more"""
    (found,) = submission.call("merge", *[[np.zeros(rows, np.float32), np.ones(rows, np.float32),
                                           np.ones((rows, 2), np.float32)] * 2])
    if rows == 3 or found[1].tolist() != [2] * rows:
        raise Failure("the secret of the hidden test")
'''


def test_hidden_tests_give_points_and_tell_nothing(tmp_path, run_grade):
    folder, out, hidden = tmp_path / "handed in", tmp_path / "results", tmp_path / "hidden"
    submission(folder / "ann", attacks.SOLUTION.read_text("utf-8"))
    submission(hidden, HIDDEN, "02_flash/test_ex2_merge.py")
    assert run_grade(folder, "--out", out, "--hidden", hidden, *only("02.2"))[0] == 0
    result = load(out / "students/ann.json")
    assert (result.earned, result.points) == (13, 14)
    (task,) = (t for t in result.reports[0].tasks if t.hidden)
    assert (task.earned, task.points, task.passed) == (3, 4, False) and "the secret of" in task.message
    text = (out / "students/ann.txt").read_text("utf-8")
    assert "part  4  (hidden) A row more" in text and "the secret of" not in text


def test_gradescope_reads_a_result_of_anything(tmp_path, run_grade):
    folder, file, hidden = tmp_path / "submission", tmp_path / "results.json", tmp_path / "hidden"
    submission(folder, attacks.KERNEL.read_text("utf-8"), "ex3_tile_loop.py")
    submission(folder, attacks.numpy_attack("ends the process"), "ex2_merge.py")
    submission(hidden, HIDDEN, "02_flash/test_ex2_merge.py")
    assert run_grade(folder, "--gradescope", file, "--hidden", hidden, *only("02.2", "02.3"))[0] == 0
    data = json.loads(file.read_text("utf-8"))
    assert data["score"] == 10 and sum(t["score"] for t in data["tests"]) == 10
    assert sum(t["max_score"] for t in data["tests"]) == 24
    assert [t["visibility"] for t in data["tests"]] == ["visible"] * 3 + ["after_published"] + ["visible"] * 3
    assert {t["status"] for t in data["tests"]} == {"passed", "failed"}
    (board,) = data["leaderboard"]
    assert board["name"] == "02.3 bytes moved" and board["value"] > 0 and board["order"] == "asc"


def test_gradescope_zip_grades_where_it_is_unpacked(tmp_path, run_grade):
    hidden, made = tmp_path / "hidden", tmp_path / "autograder.zip"
    submission(hidden, HIDDEN, "02_flash/test_ex2_merge.py")
    assert run_grade("--gradescope-zip", made, "--seed", 9, "--hidden", hidden, *only("02.2"))[0] == 0
    source = tmp_path / "source"
    with zipfile.ZipFile(made) as archive:
        names = archive.namelist()
        archive.extractall(source)
        assert all(archive.getinfo(n).external_attr >> 16 & 0o111 for n in ("setup.sh", "run_autograder"))
    assert not [n for n in names if "solutions" in n or "wrong" in n or "__pycache__" in n]
    assert {"exercises/02_flash/test_ex2_merge.py", "hidden/02_flash/test_ex2_merge.py", "pyproject.toml"} <= set(names)
    assert not subprocess.run(["bash", "-n", source / "setup.sh"], check=False).returncode
    script = (source / "run_autograder").read_text("utf-8")
    assert "--only 02.2 --seed 9 --hidden /autograder/source/hidden" in script
    script = script.replace("/autograder/venv/bin/python", sys.executable).replace("/autograder", str(tmp_path))
    (source / "run_autograder").write_text(script, "utf-8")
    submission(tmp_path / "submission", attacks.SOLUTION.read_text("utf-8"), "ex2_merge.py")
    subprocess.run(["bash", source / "run_autograder"], check=True, capture_output=True,
                   env={**os.environ, "PYTHONPATH": ""})
    assert json.loads((tmp_path / "results/results.json").read_text("utf-8"))["score"] == 13
    broken = script.replace(" -m minikernels", " -m nothing_of_that_name")
    (source / "run_autograder").write_text(broken, "utf-8")
    subprocess.run(["bash", source / "run_autograder"], check=False, capture_output=True)
    assert json.loads((tmp_path / "results/results.json").read_text("utf-8"))["score"] == 0


@pytest.mark.parametrize("name, wanted", [
    ("ann", "ann"), ("Zo\u00eb \u4e2d", "Zo\u00eb \u4e2d"), ("=cmd|'/c calc'!A1", "cmd-c calc-A1"), ("a\nb", "a-b"),
    ("..", "unnamed"), ("\udcff", "unnamed"), ("x" * 300, "x" * 100),
    ("\u4e2d" * 84, "\u4e2d" * 66)])
def test_names_can_be_printed_and_used(name, wanted):
    assert spelled(name) == wanted


def test_two_students_of_one_name_get_a_file_each(tmp_path):
    for name in ("ann", "Ann"):
        (tmp_path / name).mkdir()
    (tmp_path / "ann.zip").write_bytes(b"")
    assert [one.student for one in handed_in(tmp_path)] == ["Ann", "ann~", "ann~~"]
