"""Makes a folder of generated submissions, grades it with the command, and compares all points with what was made.

Usage: python -m tests.crowd [--count 300] [--jobs 2] [--folder DIR]. Right, wrong, cheating, crashing, hanging and
empty ones; folders and zips. Prints time, memory and whatever is not as expected.
"""

import argparse
import itertools
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from minikernels.grading import course
from minikernels.grading.results import load
from tests import attacks, attacks_by_files

CHAPTER = "02_flash"
ROOT = attacks.ROOT


def edited(entry, exercise):
    """Return a wrong solution's text, and the exercise's points that are left to it by test."""
    text = (ROOT / "solutions" / exercise.place).read_text("utf-8")
    for old, new in entry["edits"]:
        text = text.replace(old, new)
    return text, set(entry["loses"])


def kinds():
    """Yield (kind, what makes a folder or zip, what each exercise loses), the kinds in turn and without end."""
    by_name = {e.name: e for e in course.find(CHAPTER)}
    bank = tomllib.loads((ROOT / f"tests/wrong_solutions/{CHAPTER}.toml").read_text("utf-8"))
    wrong = [(by_name[name], entry) for name, entries in bank.items() for entry in entries]

    def one(place, text):
        def make(path):
            (attacks_by_files.solved(path).parent / place).write_text(text, "utf-8")
        return make

    turns = [
        itertools.cycle(("right", attacks_by_files.solved, {}) for _ in range(1)),
        itertools.cycle(("wrong", one(e.place, edited(w, e)[0]), {e.key: edited(w, e)[1]}) for e, w in wrong),
        itertools.cycle(("cheating", one("02_flash/ex2_merge.py", attacks.numpy_attack(n)), {"02.2": None})
                        for n in attacks.NUMPY),
        itertools.cycle(("kernel", one("02_flash/ex3_tile_loop.py", attacks.kernel_attack(n)),
                         {} if n in attacks.HARMLESS else {"02.3": None}) for n in attacks.KERNELS),
        itertools.cycle(("files", a, {e.key: "all" for e in course.find(CHAPTER)} if lost == "all" else dict.fromkeys(
            lost, "all")) for a, lost in attacks_by_files.FILES.items()),
        itertools.cycle([("not begun", lambda path: shutil.copytree(
            course.folder() / CHAPTER, path / CHAPTER, ignore=shutil.ignore_patterns("test_*", "__pycache__")),
            {e.key: "all" for e in course.find(CHAPTER)})])]
    for number in itertools.count():
        yield next(turns[(0, 1, 2, 0, 1, 3, 2, 4, 1, 2, 0, 3, 5 if number % 5 == 0 else 2)[number % 13]])


def expected(report, lost):
    """Return whether a report has the points that were left to it: `lost` is a set of tests, None (some) or "all"."""
    if lost == "all":
        return report.earned == 0
    if lost is None:
        return report.earned < report.points
    return report.lost() == lost


def main():
    """Make, grade, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", help="where to make them (a folder that is removed afterwards)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(args.folder or temporary)
        made = {}
        (base / "submissions").mkdir(parents=True)
        for number, (kind, make, lost) in enumerate(itertools.islice(kinds(), args.count)):
            name = f"s{number:03}-{kind.replace(' ', '-')}"
            path = base / "submissions" / name
            make(path)
            if path.is_dir() and kind in ("right", "wrong", "kernel") and random.Random(name).random() < 0.5:
                shutil.make_archive(str(path), "zip", path)
                shutil.rmtree(path)
            made[name] = kind, lost
        start = time.monotonic()
        command = [sys.executable, "-m", "minikernels", "grade", str(base / "submissions"), "--only", CHAPTER,
                   "--out", str(base / "results"), "--seed", "0", "--jobs", str(args.jobs)]
        done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE)
        seconds = time.monotonic() - start
        print(done.stdout.decode(), end="")
        odd, memory = [], 0
        for name, (_, lost) in made.items():
            result = load(base / "results/students" / f"{name}.json")
            if result is None or result.problem:
                odd.append(f"{name}: {'no result' if result is None else result.problem}")
                continue
            memory = max(memory, result.memory)
            odd += [f"{name} {r.exercise}: {r.earned} of {r.points}, lost {sorted(r.lost())}"
                    for r in result.reports if not expected(r, lost.get(r.exercise, set()))]
        counts = {kind: sum(k == kind for k, _ in made.values()) for kind, _ in made.values()}
        print(json.dumps({"made": counts, "seconds": round(seconds), "jobs": args.jobs, "exit": done.returncode,
                          "most_memory_mib": round(memory / 2**20), "not_as_expected": odd}, indent=1))


if __name__ == "__main__":
    main()
