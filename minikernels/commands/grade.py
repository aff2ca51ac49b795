"""Grade many submissions, folders or zips: results for each as text and JSON, for all as CSV and JUnit."""

import argparse
import json
import os
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from minikernels.commands.arguments import ArgumentsError, reason
from minikernels.grading import UnknownExercise, course
from minikernels.grading.intake import HandedIn, handed_in
from minikernels.grading.session import Order


def arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("folder", nargs="?", metavar="DIR", help="a folder of submissions, each a folder or a zip")
    parser.add_argument("--out", default="results", metavar="DIR", help="where the results go (results)")
    parser.add_argument("--only", action="append", metavar="EXERCISE", help="a chapter or an exercise; may be repeated")
    parser.add_argument("--hidden", metavar="DIR", help="further tests: DIR/02_flash/test_ex3_tile_loop.py")
    parser.add_argument("--seed", type=int, help="seed of the inputs (a secret one, kept in the results)")
    parser.add_argument("--jobs", type=positive, default=processors(), metavar="N",
                        help="how many at a time (%(default)s)")
    parser.add_argument("--time-limit", type=positive, metavar="SECONDS", help="processor time of a NumPy call (5)")
    parser.add_argument("--fresh", action="store_true", help="grade again what has been graded and is unchanged")
    parser.add_argument("--gradescope", metavar="FILE", help="take DIR for one submission and write results.json")
    parser.add_argument("--gradescope-zip", metavar="FILE", help="write the autograder that Gradescope runs")


def positive(word):
    """Return a whole number that is at least 1."""
    if not word.isdigit() or not int(word):
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number of 1 or more")
    return int(word)


def processors():
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(args):
    """Grade; exit with 1 if a submission could not be graded at all."""
    order = ordered(args)
    if args.gradescope_zip is not None:
        return autograder(args, order)
    if args.folder is None or not Path(args.folder).is_dir():
        raise ArgumentsError(f"there is no folder of submissions at {args.folder}" if args.folder else
                             "which folder of submissions? minikernels grade DIR --out results")
    if args.gradescope is not None:
        return one_for_gradescope(args, order)
    out, found = Path(args.out), handed_in(args.folder)
    submissions = [one for one in found if not out.resolve().is_relative_to(one.path.resolve())]
    if found != submissions and not (out / "run.json").is_file():  # with it, they are the results of a run before
        raise ArgumentsError(f"the results would go into a submission: choose another --out than {args.out}")
    if not submissions:
        raise ArgumentsError(f"there is no submission in {args.folder}: neither a folder nor a zip")
    return many(submissions, out, order, args)


def ordered(args):
    """Return what is to be graded, and how."""
    from minikernels.grading import find

    try:
        chosen = [e for word in args.only or () for e in find(word)] or list(course.exercises().values())
    except UnknownExercise as error:
        raise ArgumentsError(str(error)) from error
    if args.hidden is not None and not Path(args.hidden).is_dir():
        raise ArgumentsError(f"there is no folder of hidden tests at {args.hidden}")
    hidden = None if args.hidden is None else Path(args.hidden).resolve()
    return Order(Path(), tuple(dict.fromkeys(e.key for e in chosen)), args.seed or 0, args.time_limit, hidden)


def many(submissions, out, order, args):
    """Grade the submissions of a folder and say how it went."""
    from dataclasses import replace

    from minikernels.grading.many import grade_many, seed_of

    try:
        out.mkdir(parents=True, exist_ok=True)
        order = replace(order, seed=seed_of(out, args.seed))
    except ValueError as error:
        raise ArgumentsError(str(error)) from error
    except OSError as error:
        raise ArgumentsError(f"cannot write to {out}: {reason(error)}") from error
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())
    there = 0
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("grading", total=len(submissions))

        def tell(result, kept):
            nonlocal there
            there += kept
            bar.update(task, advance=1)
            if not kept and not console.is_terminal:
                said = f"{result.student}: {result.earned:g} of {result.points:g}"
                console.print(said, highlight=False, markup=False)

        try:
            results = grade_many(submissions, out, order, jobs=args.jobs, fresh=args.fresh, tell=tell)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ArgumentsError(f"cannot write {error.filename or out}: {reason(error)}") from error
    show(results, there, out)
    return 1 if any(r.problem for r in results) else 0


def show(results, there, out):
    """Print what every exercise gave on average, what went wrong with whom, and where the results are."""
    from minikernels.grading.sandbox import confined

    print(f"{len(results)} submissions" + (f", {there} of them graded before" if there else ""))
    by_exercise = {}
    for result in results:
        for report in result.reports:
            by_exercise.setdefault((report.exercise, report.name), []).append(report)
    for (key, name), reports in by_exercise.items():
        mean = sum(r.earned for r in reports) / len(reports)
        full = sum(r.full for r in reports)
        print(f"  {key}  {name:24} mean {mean:5.2f} of {reports[0].points:g}, {full} with every point")
    for result in results:
        if result.problem:
            print(f"  {result.student} {result.problem.splitlines()[0]}")
    taken = confined()[1]
    print(f"NumPy submissions ran without {taken}" if taken else
          "NumPy submissions were fenced in by Python alone: see exercises/INSTRUCTORS.md")
    print(f"{out}: grades.csv, junit.xml, students/NAME.txt and .json")


def one_for_gradescope(args, order):
    """Grade one submission and write what Gradescope reads, whatever happens."""
    from minikernels.grading.many import grade_one, stubs
    from minikernels.grading.process import Process
    from minikernels.grading.results import gradescope, write

    process = Process("minikernels.grading.session")
    try:
        result = grade_one(HandedIn("submission", Path(args.folder)), order, process, stubs(order))
    finally:
        process.close()
    try:
        write(args.gradescope, json.dumps(gradescope(result), indent=1) + "\n")
    except OSError as error:
        raise ArgumentsError(f"cannot write {args.gradescope}: {reason(error)}") from error
    print(result.text())
    return 0


def autograder(args, order):
    """Write the zip that Gradescope is given."""
    from minikernels.grading.gradescope import write_zip

    try:
        write_zip(Path(args.gradescope_zip), order)
    except OSError as error:
        raise ArgumentsError(f"cannot write {args.gradescope_zip}: {reason(error)}") from error
    print(f"{args.gradescope_zip}: upload it under Configure Autograder; it grades {', '.join(order.exercises)}")
    return 0
