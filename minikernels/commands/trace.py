"""Write a page that plays a kernel's launch, step by step: of a rung, or of your own file."""

import runpy
import sys
import traceback
from pathlib import Path

from minikernels import catalog, simt
from minikernels.commands import arguments as read
from minikernels.commands import console, pages
from minikernels.core.errors import KernelError


def arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("what", metavar="TECHNIQUE|FILE.py:kernel",
                        help=f"one of: {', '.join(catalog.names())}; or a file that launches a kernel when it is run")
    parser.add_argument("rung", nargs="?", help="a rung of the technique, such as v2_tiled")
    parser.add_argument("--beside", metavar="RUNG", help="another rung, to play on the same clock")
    parser.add_argument("--launch", type=int, default=0, metavar="N", help="which launch, where there are several (0)")
    parser.add_argument("--registers", default="", metavar="NAME,NAME", help="variables of your kernel to show")
    read.add_input(parser)
    parser.add_argument("-o", "--out", default=".", metavar="DIR|PAGE.html", help="where to write the page (here)")


def run(args):
    """Record, write the page and print its path; the exit code is 1 if the kernel has a hazard."""
    name, title, record = (of_file if ".py" in args.what else of_rung)(args)
    path = read.writable_page(args.out, f"minikernels-{name}.html")
    with console.progress() as working:
        working(f"recording {title}")
        launches = record()
        path = pages.write(launches, title, path)
    for launch in launches:
        print(f"{launch.kernel}: {launch.trace.steps:,} steps of block {launch.trace.blocks[0]}, "
              f"{launch.trace.threads} threads")
    findings = [finding for launch in launches for finding in launch.findings]
    for finding in findings:
        print(finding)
    print(path)
    return 1 if any(finding.kind != "float64" for finding in findings) else 0


def of_rung(args):
    """Return the page's name, its title and a function that records one rung, or two."""
    technique = read.technique(args.what)
    if args.rung is None:
        raise read.ArgumentsError(f"which rung of {technique.name}? {pages.recordable(technique)}")
    rungs = [read.rung(technique, name) for name in (args.rung, args.beside) if name is not None]
    for rung in rungs:
        pages.check_recordable(technique, rung)

    def record():
        inputs = read.made_input(technique, args).inputs
        inputs = technique.cut(inputs) if args.random is None else inputs
        return [pages.record(technique, rung, inputs, args.launch) for rung in rungs]

    names = [rung.name for rung in rungs]
    return "-".join([technique.name, *names]), f"{technique.name}: {' beside '.join(names)}", record


def of_file(args):
    """Return the page's name, its title and a function that runs a file and records the kernel that it launches."""
    file, _, kernel = args.what.rpartition(":") if ".py:" in args.what else (args.what, "", "")
    path = Path(file)
    if not path.is_file():
        raise read.ArgumentsError(f"cannot read {file}: no such file")
    options = ("rung", "beside", "text", "length", "layer", "random")
    needless = [name if name == "rung" else f"--{name}" for name in options if getattr(args, name) is not None]
    if needless:
        raise read.ArgumentsError(f"{file} makes its own input; leave out {', '.join(needless)}")

    def record():
        launches = launched(path, tuple(filter(None, args.registers.split(","))))
        named = [launch for launch in launches if kernel in ("", launch.kernel)]
        if not named:
            names = ", ".join(dict.fromkeys(launch.kernel for launch in launches)) or "none"
            raise read.ArgumentsError(f"{file} launched no {kernel or 'kernel'} on NumPy arrays when it was run "
                                      f"(launched: {names}); launch it in the file, say simt.run({kernel or 'kernel'}, "
                                      "grid, block, ...)")
        return [pages.chosen(named, args.launch, file)]

    return kernel or path.stem, f"{path.name} {kernel}".strip(), record


def launched(path, registers):
    """Run a file as ``python FILE`` does, and return all that it launched on the SIMT machine."""
    with pages.recording(registers), simt.collect() as launches:
        sys.path.insert(0, str(path.resolve().parent))
        given, sys.argv = sys.argv, [str(path)]
        try:
            runpy.run_path(str(path), run_name="__main__")
        except KernelError:
            raise
        except SystemExit as error:
            if error.code not in (None, 0):  # else the file ended as it meant to
                raise read.ArgumentsError(f"{path} ended with exit code {error.code}") from error
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in frames if frame.filename == str(path)]
            line = lines[-1] if lines else getattr(error, "lineno", "?")  # a SyntaxError has run no line
            raise read.ArgumentsError(f"{path}:{line}: {type(error).__name__}: {error}") from error
        finally:
            sys.path.pop(0)
            sys.argv = given
    return launches
