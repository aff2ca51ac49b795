"""How many small wrong changes to the solutions the exercises' tests notice: run and recorded.

Usage: python -m minikernels.grading.mutation [EXERCISE ...] [--most N] [--jobs N]. It replaces the entries of these
exercises (every one without a name) in tests/mutation.json; tests/test_mutation.py holds the rate and the survivors.
"""

import argparse
import concurrent.futures
import hashlib
import json
import random
import tempfile
import threading
from pathlib import Path

from minikernels.grading import course
from minikernels.grading.mutants import mutants
from minikernels.grading.process import Ended, Process
from minikernels.grading.results import write
from minikernels.grading.runner import grade

__all__ = ["RECORD", "answer", "chosen", "digest", "main"]

ROOT = course.folder().parent
RECORD = ROOT / "tests/mutation.json"
MOST = 60  # mutants of an exercise; where there are more, some are drawn, the same each time


def answer(question):
    """Return whether a mutant loses a point, in a process of its own kind."""
    key, text = question
    exercise = course.exercises()[key]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, exercise.stub.name)
        path.write_text(text, "utf-8")
        (report,) = grade([exercise], path, quick=True, brief=True, time_limit=1)
    return not report.full


def chosen(exercise, most=MOST):
    """Return the mutants of an exercise that are tried."""
    found = mutants((ROOT / "solutions" / exercise.place).read_text("utf-8"), exercise.stub.read_text("utf-8"))
    if len(found) > most:
        found = sorted(random.Random(exercise.key).sample(found, most), key=lambda m: (m.line, m.before, m.after))
    return found


def digest(exercise):
    """Return a digest of what the result of a run rests on: the solution and the exercise's tests."""
    texts = (ROOT / "solutions" / exercise.place).read_bytes(), exercise.tests.read_bytes()
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]


def run(exercises, most, jobs, tell=print):
    """Return the record's entry of every exercise."""
    local, processes = threading.local(), []

    def killed(exercise, mutant):
        if not hasattr(local, "process"):
            local.process = Process(__spec__.name)
            processes.append(local.process)
        try:
            return local.process.ask((exercise.key, mutant.text), 180)
        except Ended:
            return True  # it ended the process: nobody gets points for that

    entries = {}
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for exercise in exercises:
            tried = chosen(exercise, most)
            results = list(pool.map(lambda m, e=exercise: killed(e, m), tried))
            survivors = [{"line": m.line, "kind": m.kind, "before": m.before, "after": m.after}
                         for m, lost in zip(tried, results, strict=True) if not lost]
            entries[exercise.key] = {"digest": digest(exercise), "mutants": len(tried),
                                     "killed": sum(results), "survivors": survivors}
            tell(f"{exercise.key} {exercise.name}: {sum(results)} of {len(tried)} mutants lose points")
            for s in survivors:
                tell(f"    line {s['line']}: {s['before']}  ->  {s['after']}")
    for process in processes:
        process.close()
    return entries


def main(words=None):
    """Run the mutants of the named exercises and record the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("exercises", nargs="*")
    parser.add_argument("--most", type=int, default=MOST, help="mutants of an exercise (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args(words)
    every = list(course.exercises().values())
    wanted = [e for word in args.exercises for e in course.find(word)] or every
    record = json.loads(RECORD.read_text("utf-8")) if RECORD.is_file() else {}
    record |= run(wanted, args.most, args.jobs)
    record = {e.key: record[e.key] for e in every if e.key in record}
    write(RECORD, json.dumps(record, indent=1) + "\n")
    total, killed = (sum(entry[n] for entry in record.values()) for n in ("mutants", "killed"))
    print(f"{killed} of {total} mutants lose points: {100 * killed / total:.1f} %")


if __name__ == "__main__":
    main()
