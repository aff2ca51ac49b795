"""Small wrong changes to the solutions: nearly all lose points, and those that do not are no mistakes.

``python -m minikernels.grading.mutation`` writes tests/mutation.json; here nothing is run but the making of mutants.
"""

import json
import tomllib
from pathlib import Path

import pytest

from minikernels.grading import course, mutation
from minikernels.grading.mutants import mutants, written

ROOT = Path(__file__).resolve().parent.parent
RECORD = json.loads(mutation.RECORD.read_text("utf-8"))
EXPLAINED = tomllib.loads((ROOT / "tests/mutation_survivors.toml").read_text("utf-8"))
STUB = "import math\ndef f(k, n):\n    total = 0\n    return total\n"
SOLUTION = """import math
def f(k, n):
    total = 0
    for i in range(0, n, 2):
        if i < n and not k[i, 0] == 3:
            total += min(k[0, i], -1.5) * 2
            cuda.syncthreads()
    return total
"""


@pytest.mark.parametrize("exercise", course.exercises().values(), ids=lambda e: e.name)
def test_record_is_of_these_files(exercise):
    entry = RECORD.get(exercise.key)
    if entry is None or entry["digest"] != mutation.digest(exercise):
        pytest.skip(f"not run since it changed: python -m minikernels.grading.mutation {exercise.key}")
    assert entry["mutants"] == len(mutation.chosen(exercise))
    assert entry["killed"] + len(entry["survivors"]) == entry["mutants"]


def test_at_least_95_of_100_mutants_lose_points():
    tried, killed = (sum(entry[name] for entry in RECORD.values()) for name in ("mutants", "killed"))
    assert killed / tried >= 0.95


@pytest.mark.parametrize("key", RECORD)
def test_every_survivor_is_explained_and_nothing_else(key):
    survivors = {(s["before"], s["after"]) for s in RECORD[key]["survivors"]}
    explained = {(e["before"], after): e["why"] for e in EXPLAINED.get(key, ()) for after in e["after"]}
    assert survivors == set(explained)
    assert all(len(why.split()) > 5 for why in explained.values())


def test_mutants_change_the_learners_lines_alone():
    own = written(SOLUTION, STUB)
    assert own == {4, 5, 6, 7}
    for mutant in mutants(SOLUTION, STUB):
        assert mutant.line in own
        compile(mutant.text, "mutant.py", "exec")
        rest = [line for line in mutant.text.splitlines() if line in STUB.splitlines()]
        assert rest == STUB.splitlines()


@pytest.mark.parametrize("kind, after", [
    ("operator", "min(k[0, i], -1.5) + 2"), ("operator", "max"), ("operator", "1.5"), ("bound", "range(0, n + 1, 2)"),
    ("bound", "range(0, n - 1, 2)"), ("bound", "range(0 + 1, n, 2)"), ("index", "k[0, i]"), ("index", "k[i, 0]"),
    ("condition", "i <= n"), ("condition", "k[i, 0] != 3"), ("condition", "i < n or not k[i, 0] == 3"),
    ("constant", "4"), ("barrier", "pass"), ("barrier", "cuda.syncwarp"), ("statement", "pass")])
def test_mutants_of_every_kind_are_made(kind, after):
    assert (kind, after) in {(m.kind, m.after) for m in mutants(SOLUTION, STUB)}


def test_no_two_mutants_are_the_same_program():
    texts = [m.text for m in mutants(SOLUTION, STUB)]
    assert len(texts) == len(set(texts)) and SOLUTION not in texts


def test_a_run_records_what_survives(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mutation, "RECORD", tmp_path / "mutation.json")
    mutation.main(["01.1", "--most", "2"])
    record = json.loads((tmp_path / "mutation.json").read_text("utf-8"))
    assert record["01.1"]["mutants"] == 2 == record["01.1"]["killed"]
    assert "2 of 2 mutants lose points: 100.0 %" in capsys.readouterr().out
