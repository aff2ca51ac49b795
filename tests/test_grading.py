"""The grader: what a submission can do to it (lose its own points), and what a learner reads."""

import os
import re
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minikernels import cli, commands
from minikernels.core.errors import KernelError
from minikernels.grading import UnknownExercise, check, course, find, grade, lockstep
from minikernels.grading.failure import Overtime
from minikernels.grading.shapes import drawn, settled
from tests import attacks

ROOT = Path(__file__).resolve().parent.parent
SOLUTION = ROOT / "solutions/02_flash/ex2_merge.py"

@pytest.mark.parametrize("name", attacks.KERNELS)
def test_a_kernel_is_never_run_as_python(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lockstep, "SECONDS", 1)
    path = tmp_path / "ex3_tile_loop.py"
    path.write_text(attacks.kernel_attack(name), "utf-8")
    (report,) = grade(find("02.3"), path, brief=True, quick=name not in attacks.HARMLESS)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert report.full if name in attacks.HARMLESS else report.earned < report.points, str(report)
    assert all(0 < len(t.message) < 3000 for t in report.tasks if not t.passed)


def test_a_cheat_does_not_stop_the_run(tmp_path):
    folder = tmp_path / "02_flash"
    folder.mkdir()
    for exercise in find("02"):
        (folder / exercise.stub.name).write_text((ROOT / "solutions" / exercise.place).read_text("utf-8"), "utf-8")
    (folder / "ex1_online_row.py").write_text("import os\nos._exit(0)\n", "utf-8")
    (folder / "ex3_tile_loop.py").unlink()
    reports = grade(find("02"), tmp_path)
    assert [r.earned for r in reports] == [0, 10, 0, 10, 10, 10]


@pytest.mark.parametrize("text, said", [
    ("def tile_loop(q:\n", "ex3_tile_loop.py:1: Python cannot read this"),
    ("x" * 200_000, "at most 100,000 are read"),
    ("D = 8\nBLOCK_T = 32\nBLOCK_S = 16\n", "defines no function tile_loop"),
    ("D = 8\nBLOCK_T = 32\nBLOCK_S = 16\ndef tile_loop(q, k):\n    return\n", "the exercise's arguments are (q, k, v"),
    ("def tile_loop(q, k, v, scale, o):\n    return\n", "no longer defines BLOCK_S, BLOCK_T, D"),
])
def test_a_file_that_is_no_solution_says_what_is_missing(tmp_path, text, said):
    path = tmp_path / "ex3_tile_loop.py"
    path.write_text(text, "utf-8")
    (report,) = grade(find("02.3"), path)
    assert report.earned == 0 and said in str(report)


def test_a_link_is_no_submission(tmp_path):
    (tmp_path / "02_flash").mkdir()
    os.symlink(SOLUTION, tmp_path / "02_flash/ex2_merge.py")
    (report,) = grade(find("02.2"), tmp_path)
    assert report.earned == 0 and "there is no file ex2_merge.py" in str(report)


def test_a_wrong_cell_names_block_thread_turn_and_line(tmp_path):
    text = (ROOT / "solutions/02_flash/ex3_tile_loop.py").read_text("utf-8")
    path = tmp_path / "ex3_tile_loop.py"
    path.write_text(text.replace("o[t, d] = o_reg[d] / l", "o[t, d] = o_reg[d] / (l + (t == 37) * (d == 5))"), "utf-8")
    line = next(i for i, row in enumerate(path.read_text("utf-8").splitlines(), 1) if "t == 37" in row)
    (report,) = grade(find("02.3"), path)
    said = str(report)
    assert "o[t=37, d=5] is " in said and "should be" in said and "Stuck? minikernels check 02.3 --hint" in said
    writer = rf"Written by thread 5 of block 1, whose tile is o\[32:\d+, 0:8\] at d=5, in ex3_tile_loop.py:{line}: o\[t"
    assert re.search(writer, said)


def test_an_unwritten_cell_says_so(tmp_path):
    text = (ROOT / "solutions/02_flash/ex3_tile_loop.py").read_text("utf-8")
    path = tmp_path / "ex3_tile_loop.py"
    last = "for d in range({}D):\n            o[t, d] ="
    path.write_text(text.replace(last.format(""), last.format("1, ")), "utf-8")
    assert "No thread stores to o[0, 0]" in str(grade(find("02.3"), path))


def test_words_that_name_exercises():
    assert [e.key for e in find("02.3")] == ["02.3"] == [e.key for e in find("ex3_tile_loop")]
    chapter = [e for e in course.exercises().values() if e.key.startswith("02.")]
    assert find("02") == find("flash") == find("02_flash") == chapter
    with pytest.raises(UnknownExercise, match="did you mean ex3_tile_loop"):
        find("ex3_tileloop")


def test_check_shows_a_report_in_a_notebook():
    assert repr(check("02.1")).startswith("02.1 ex1_online_row: 0 of 10 points.")
    assert repr(check("02.1", SOLUTION.parent.parent)).count("\n  ok ") == 3
    with pytest.raises(FileNotFoundError):
        check("02.1", "no such folder")


@pytest.mark.parametrize("words, code, said", [
    (["02.1", "--hint"], 0, "hint 1 of 3"),
    (["02.1", "--hint", "3"], 0, "hint 3 of 3"),
    (["02.1", "--hint", "4"], 2, "--hint must be in 1..3"),
    (["02", "--hint"], 2, "a hint is for one exercise"),
    (["02.9"], 2, "there is no exercise '02.9'"),
    (["02.1", "--subject", "nowhere"], 2, "there is no submission at nowhere"),
    (["02.1"], 1, "ex1_online_row.py is not written yet"),
    (["02.1", "--subject", str(ROOT / "solutions")], 0, "10 of 10 points"),
])
def test_check_command(capsys, words, code, said):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["check", *words])
    assert exit_.value.code == code
    assert said in "".join(capsys.readouterr())


def test_check_without_a_word_checks_every_exercise(capsys, monkeypatch):
    every = list(course.exercises().items())[::6]  # as if these were all: one or so a chapter
    monkeypatch.setattr(course, "exercises", lambda: dict(every))
    with pytest.raises(SystemExit) as end:
        cli.main(["check"])
    said = capsys.readouterr().out
    assert end.value.code == 1 and said.splitlines()[-1].startswith("0 of ")
    assert all(f"{key} " in said for key in course.exercises())


def written_merge(folder):
    path = folder / "02_flash/ex2_merge.py"
    path.parent.mkdir()
    path.write_text((ROOT / "exercises/02_flash/ex2_merge.py").read_text("utf-8"), "utf-8")
    return path


def test_watching_checks_what_is_saved_and_nothing_else(tmp_path, capsys):
    path = written_merge(tmp_path)

    def changes(folders):
        assert folders == {path.parent.resolve()}
        yield {path.with_name("ex1_online_row.py"), path.with_name("notes.txt")}  # not watched
        path.write_text(SOLUTION.read_text("utf-8"), "utf-8")
        yield {path}
        raise KeyboardInterrupt

    assert commands.check.watch(find("02.2"), tmp_path, changes) == 0
    before, after = capsys.readouterr().out.split("Watching: save a file to check it again; Ctrl-C ends.")
    assert before.count("0 of 10 points") == 1 and after.count("10 of 10 points") == 1


def test_a_save_is_noticed(tmp_path):
    pytest.importorskip("watchfiles", reason="watchfiles is not installed")
    path = written_merge(tmp_path)
    noticed = commands.check.saved({path.parent})
    threading.Timer(0.5, path.write_text, ("# saved",)).start()
    assert path in next(noticed)
    noticed.close()


def test_sizes_that_a_test_leaves_to_the_seed_are_drawn():
    rng = np.random.default_rng(1)
    sizes = [settled({"T": drawn(3, 5), "S": [drawn(0, 1), "a"], "D": 8}, rng) for _ in range(60)]
    assert {s["T"] for s in sizes} == {3, 4, 5} and {s["S"][0] for s in sizes} == {0, 1}
    assert all(type(s["T"]) is int and s["S"][1] == "a" and s["D"] == 8 for s in sizes)
    assert str(drawn(3, 5)) == "3to5"  # a case's name does not depend on the seed


def test_another_seed_draws_other_sizes_and_the_same_for_every_test(tmp_path):
    path = tmp_path / "ex6_bank_conflicts.py"  # wrong from the second block on
    text = (ROOT / "solutions/02_flash/ex6_bank_conflicts.py").read_text("utf-8")
    path.write_text(text.replace("score = float32(0)", "score = float32(first // 32)"), "utf-8")
    moved = [grade(find("02.6"), path, seed=seed, brief=True)[0].bytes_moved for seed in (1, 1, 2, 3)]
    assert moved[0] == moved[1] and len(set(moved)) == 3


def test_a_file_that_is_stopped_twice_is_not_run_any_more(tmp_path):
    path = tmp_path / "ex2_merge.py"
    path.write_text(attacks.numpy_attack("loops for ever"), "utf-8")
    (report,) = grade(find("02.2"), path, time_limit=1)
    said = [t.message for t in report.tasks]
    assert "loop that never ends" in said[0] and "loop that never ends" in said[1]
    assert "is not run any more: it had to be stopped 2 times" in said[2]


def test_the_machine_comes_back_after_it_was_ended():
    text = "def k(x):\n    x[0] = float32(2)\n"
    job = lockstep.Job(text, "k.py", "k", (1, 1), {"x": np.zeros(1, np.float32)})
    for _ in range(2):
        assert lockstep.ask(job, lockstep.Job.launch)[1]["x"][0] == 2
        lockstep.machine.process.kill()
        with pytest.raises(Overtime, match="ended the machine"):
            lockstep.ask(job, lockstep.Job.launch)
    assert job.arguments["x"][0] == 0


def test_a_launch_is_not_repeated_and_a_strict_one_still_fails(monkeypatch):
    asked, ask = [], lockstep.ask
    monkeypatch.setattr(lockstep, "ask", lambda job, *rest: asked.append(job) or ask(job, *rest))
    monkeypatch.setattr(lockstep, "remembered", {})
    text = "def k(x):\n    x[{}] = float32(cuda.threadIdx.x)\n"
    x = {"x": np.zeros(64, np.float32)}
    apart, racing = (lockstep.Job(text.format(i), "k.py", "k", (1, 64), x) for i in ("cuda.threadIdx.x", "0"))
    for strict in (False, True, False):
        launch, outputs = lockstep.launched(replace(apart, strict=strict))
        assert outputs["x"].tolist() == list(range(64)) and launch.traffic.store_bytes == 256
        outputs["x"][:] = 7  # a test may write to what it is given
    assert len(asked) == 1
    assert [f.kind for f in lockstep.launched(racing)[0].findings] == ["race"]
    with pytest.raises(KernelError, match="race"):
        lockstep.launched(replace(racing, strict=True))
    lockstep.launched(replace(apart, arguments={"x": np.ones(64, np.float32)}))
    assert len(asked) == 4 and not x["x"].any()
