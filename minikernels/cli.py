"""The ``minikernels`` command: one subcommand a file in `minikernels.commands`.

Exit codes: 0 done, 1 a rung is wrong or this machine cannot run it, 2 wrong arguments, 130 interrupted.
"""

import argparse
import os
import sys

from minikernels import __version__
from minikernels.commands import bench, check, climb, doctor, figures, grade, lab, listing, trace
from minikernels.commands.arguments import ArgumentsError, closest
from minikernels.core.errors import DeviceError, DtypeError, KernelError, ShapeError

__all__ = ["main"]

COMMANDS = {"list": listing, "climb": climb, "trace": trace, "check": check, "grade": grade, "bench": bench,
            "figures": figures, "doctor": doctor, "lab": lab}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, on standard error, with exit code 2."""

    def error(self, message):
        raise ArgumentsError(message)


def parser():
    """Return the parser of the whole command line."""
    top = Parser(prog="minikernels", description="Climb from a paper's equation to a fast CUDA kernel, rung by rung.")
    top.add_argument("--version", action="version", version=f"minikernels {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, module in COMMANDS.items():
        summary = module.__doc__.splitlines()[0]
        module.arguments(commands.add_parser(name, help=summary, description=summary, allow_abbrev=False))
    return top


def main(arguments=None):
    """Run one command and exit with its code; every expected error is one line."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a file's name may hold what the terminal's encoding lacks
    try:
        code = dispatch(words)
        sys.stdout.flush()  # a reader that closed the pipe is met here, not at interpreter exit
    except ArgumentsError as error:
        code = complain(error, 2)
    except (ShapeError, DtypeError) as error:
        code = complain(error, 2)
    except (DeviceError, KernelError) as error:
        code = complain(error, 1)
    except KeyboardInterrupt:
        code = complain("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the exit does not write to it again
        code = 0
    raise SystemExit(code)


def dispatch(words):
    """Parse the words of the command line and run the command they name."""
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        raise ArgumentsError(f"unknown command {words[0]!r}{closest(words[0], COMMANDS)}")
    top = parser()
    args = top.parse_args(words)
    if args.command is None:
        top.print_help()
        return 0
    return COMMANDS[args.command].run(args)


def complain(error, code):
    """Print one line to standard error and return the exit code."""
    print("minikernels: " + " ".join(str(error).split()), file=sys.stderr)
    return code
