"""Check exercises: points, what is wrong and where, and hints."""

from minikernels.commands.arguments import ArgumentsError
from minikernels.grading import UnknownExercise, check, find
from minikernels.grading.course import LEVELS


def arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("exercise", help="a chapter or an exercise: 02, flash, 02.3 or ex3_tile_loop")
    parser.add_argument("--hint", nargs="?", type=int, const=1, metavar="LEVEL",
                        help=f"show a hint and grade nothing; 1 is a nudge, {LEVELS} all but the line (1)")
    parser.add_argument("--subject", metavar="PATH", help="a folder of submissions, or one file (exercises/)")


def run(args):
    """Print a report of each exercise; exit with 1 while points are missing."""
    try:
        chosen = find(args.exercise)
        if args.hint is not None:
            return hint(chosen, args.hint)
        reports = check(args.exercise, args.subject)
    except (UnknownExercise, FileNotFoundError) as error:
        raise ArgumentsError(str(error)) from error
    print(reports)
    reports = reports if isinstance(reports, list) else [reports]
    if len(reports) > 1:
        print(f"\n{sum(r.earned for r in reports)} of {sum(r.points for r in reports)} points")
    return 0 if all(r.full for r in reports) else 1


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
