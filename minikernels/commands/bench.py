"""Time every rung on this machine's GPU beside the production kernels, or read the GPU's counters."""

from pathlib import Path

from minikernels.commands import console
from minikernels.commands.arguments import ArgumentsError, reason, technique


def arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("techniques", nargs="*", metavar="TECHNIQUE", help="which ladders (all)")
    parser.add_argument("--out", metavar="FOLDER", help="where the results go (the package's own recordings)")
    parser.add_argument("--rung", action="append", metavar="NAME",
                        help="only this rung (repeatable) beside the production kernels; others keep what is recorded")
    parser.add_argument("--counters", action="store_true",
                        help="count requests, sectors and bank conflicts with ncu instead of time")
    parser.add_argument("--roofs", action="store_true",
                        help="measure what the machine can copy and multiply, for a roofline")


def run(args):
    """Measure, and say where the results are."""
    from minikernels.bench import counters, record, roofs

    names = [technique(name).name for name in args.techniques]
    out = None if args.out is None else folder(args.out)
    lines = console.out()
    with console.progress() as now:
        def say(line):
            now(line)
            lines.print(line, markup=False, soft_wrap=True)

        if args.counters:
            written = counters.run(names or None, out, say)
        elif args.roofs:
            written = [roofs.run(out)]
        else:
            written = [record.run(names or None, out=out, say=say, rungs=args.rung)]
    for path in written:
        lines.print(f"written: {path}", markup=False, soft_wrap=True)
    return 0


def folder(path):
    """Return the folder of that name, made where there is none."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentsError(f"cannot make the folder {path}: {reason(error)}") from None
    return path
