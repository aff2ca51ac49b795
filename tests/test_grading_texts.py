"""What a submission's text may hold, where it may stand, and what a learner is told of a budget."""

from pathlib import Path

import numpy as np
import pytest

from minikernels.core.traffic import NUMBERS
from minikernels.grading import Failure, check, find, grade, holes, launched, lockstep
from minikernels.grading.launched import Launched
from minikernels.grading.submission import Submission

SOLUTIONS = Path(__file__).resolve().parent.parent / "solutions"


def solved(word, folder, *edits, encoding="utf-8"):
    """Write an exercise's solution with some text replaced; return its report and the path."""
    (exercise,) = find(word)
    text = (SOLUTIONS / exercise.place).read_text("utf-8")
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / exercise.stub.name
    path.write_text(text, encoding)
    return grade([exercise], path)[0], path


@pytest.mark.parametrize("text, value", [
    ("A = 1\n", 1), ("A: int = 1\n", 1), ("A: 'a word' = (1, 2)\n", (1, 2)), ("A: int\n", None), ("B = 1\n", None),
    ("A = 1\nA: int = 2\n", 2), ("A = B = 1\n", None)])
def test_constants_may_be_annotated(text, value):
    assert holes.constant(text, "f.py", "A") == value


def test_annotated_constants_are_set():
    text = holes.with_constants("D: int = 8  # columns\nx = D\n", "f.py", {"D": 5})
    assert text == "D = 5\nx = D\n"
    with pytest.raises(Failure, match="no longer defines D"):
        holes.with_constants("D: int\n", "f.py", {"D": 5})


def test_an_annotated_answer_is_an_answer(tmp_path):
    report, path = solved("02.5", tmp_path, ("\nRACES_ON = ", "\nRACES_ON: str = "))
    assert report.full, str(report)


@pytest.mark.parametrize("word", ["02.2", "02.3"])
def test_a_mark_of_its_encoding_is_no_part_of_a_text(tmp_path, word):
    report, path = solved(word, tmp_path, encoding="utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf") and report.full, str(report)


@pytest.mark.parametrize("character", "\f\v\u2028\u0085\x1c")
def test_lines_are_counted_as_python_counts_them(tmp_path, character):
    (exercise,) = find("02.3")
    text = (SOLUTIONS / exercise.place).read_text("utf-8")
    path = tmp_path / exercise.stub.name
    text = f"# a page{character}another\n{text}"
    path.write_text(text, "utf-8")
    report = grade([exercise], path)[0]
    assert report.full, str(report)
    path.write_text(text.replace("o[t, d] = o_reg[d] / l", "o[t, d] = o_reg[d]"), "utf-8")
    assert ": o[t, d] = o_reg[d]\n" in str(grade([exercise], path)[0])  # the line that wrote the wrong cell


def test_a_budget_of_one_array_names_a_line_of_that_array(tmp_path):
    line = "            value = v[h, first + t, j]"
    report, path = solved("06.5", tmp_path, (line, f"{line}\n{line}\n{line}"))
    number = path.read_text("utf-8").split("\n").index(line) + 1
    assert f"4,096 of it in each of the lines {number}, {number + 1}, {number + 2} of ex5_stage_chunk.py" in str(report)
    report, path = solved("07.3", tmp_path, ("weight *= scales[t]", "weight *= (scales[t] + scales[t]) / float32(2)"))
    assert "weight *= (scales[t] + scales[t]) / float32(2)  (40)" in str(report)


def test_a_budget_of_shared_memory_is_told_in_words(tmp_path):
    first = "column = cuda.local.array(D, float32)  # S[:, j]"
    report, path = solved("06.4", tmp_path, (first, f"{first}\n    kept = cuda.shared.array(1, float32)\n"
                                                    "    kept[0] = float32(0)"))
    assert "store requests to shared memory; the budget is 0: no shared memory." in str(report)


@pytest.mark.parametrize("quantity", NUMBERS)
def test_every_counter_can_have_a_budget(quantity):
    text = """def k(x, y):
    s = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    s[t] = x[t] * float32(2)
    cuda.syncthreads()
    if t < 5:
        cuda.atomic.add(y, 0, s[t * 2] + math.exp(x[t]))
    y[t] = s[0]
"""
    job = lockstep.Job(text, "k.py", "k", (1, 64), {n: np.ones(64, np.float32) for n in "xy"})
    launch, outputs = lockstep.launched(job)
    run = Launched(Submission(Path("k.py")), job, launch, outputs, {})
    for array in (None, "x"):
        with pytest.raises(Failure, match="the budget is -1"):
            run.within("less than nothing", quantity, "-1", array)


def test_a_mistake_in_a_test_is_one_line_for_the_learner(tmp_path, monkeypatch):
    monkeypatch.setattr(launched, "judge", lambda *a, **k: {}["missing"])
    report, path = solved("02.3", tmp_path)
    lost = [t.message for t in report.tasks if not t.passed]
    assert lost and all("ended with KeyError: 'missing' (" in said and "\n" not in said for said in lost), lost


@pytest.mark.parametrize("inside", ["", "02_flash"])
def test_the_subject_is_a_folder_of_chapters_or_a_chapter(tmp_path, inside):
    (tmp_path / "02_flash").mkdir()
    solved("02.2", tmp_path / "02_flash")
    assert check("02.2", tmp_path / inside).full
    assert not check("02.1", tmp_path / inside).begun or "there is no file ex1" in str(check("02.1", tmp_path / inside))
