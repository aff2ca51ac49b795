"""Check exercises: points, what is wrong and where, and hints."""

from pathlib import Path

from minikernels.commands.arguments import ArgumentsError
from minikernels.grading import UnknownExercise, check, course, find
from minikernels.grading.course import LEVELS


def arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("exercise", nargs="?",
                        help="a chapter or an exercise: 02, flash, 02.3 or ex3_tile_loop (every one)")
    parser.add_argument("--hint", nargs="?", type=int, const=1, metavar="LEVEL",
                        help=f"show a hint and grade nothing; 1 is a nudge, {LEVELS} all but the line (1)")
    parser.add_argument("--subject", metavar="PATH", help="a folder of submissions, or one file (exercises/)")
    parser.add_argument("--watch", action="store_true", help="check again whenever a file is saved, until Ctrl-C")


def run(args):
    """Print a report of each exercise; exit with 1 while points are missing."""
    try:
        chosen = list(course.exercises().values()) if args.exercise is None else find(args.exercise)
        if args.hint is not None:
            return hint(chosen, args.hint)
        if args.watch:
            return watch(chosen, args.subject, saved)
        reports = [check(e.key, args.subject) for e in chosen]
    except (UnknownExercise, FileNotFoundError) as error:
        raise ArgumentsError(str(error)) from error
    show(reports)
    return 0 if all(r.full for r in reports) else 1


def show(reports):
    """Print reports, and their sum."""
    print("\n\n".join(map(str, reports)))
    if len(reports) > 1:
        print(f"\n{sum(r.earned for r in reports):g} of {sum(r.points for r in reports):g} points")


def hint(chosen, level):
    """Print one hint of one exercise."""
    if len(chosen) > 1:
        raise ArgumentsError(f"a hint is for one exercise: {', '.join(e.key for e in chosen)}")
    if not 1 <= level <= LEVELS:
        raise ArgumentsError(f"--hint must be in 1..{LEVELS}; got {level}")
    exercise = chosen[0]
    print(f"{exercise.key} {exercise.name}, hint {level} of {LEVELS}\n{exercise.hints[level - 1]}")
    if level < LEVELS:
        print(f"Still stuck? minikernels check {exercise.key} --hint {level + 1}")
    return 0


def watch(chosen, subject, changes):
    """Check once, and again whatever is saved; `changes` yields the paths of saved files."""
    files = {e.handed_in(subject).resolve(): e for e in chosen}
    waiting = chosen
    try:
        show([check(e.key, subject) for e in waiting])
        print("\nWatching: save a file to check it again; Ctrl-C ends.", flush=True)
        for paths in changes({path.parent for path in files}):
            waiting = [files[path] for path in sorted(map(Path.resolve, paths)) if path in files]
            if waiting:
                print()
                show([check(e.key, subject) for e in waiting])
                print(end="", flush=True)
    except KeyboardInterrupt:
        print()
    return 0


def saved(folders):
    """Yield the paths of what is saved in the folders, what is saved together at once."""
    try:
        from watchfiles import watch as changes
    except ImportError:
        raise ArgumentsError("watching needs watchfiles: pip install watchfiles") from None
    there = [folder for folder in folders if folder.is_dir()]
    for batch in changes(*there, recursive=False, raise_interrupt=True):
        yield {Path(path) for _, path in batch}
