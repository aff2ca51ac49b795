"""Open the course's notebooks in JupyterLab."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import minikernels
from minikernels import catalog
from minikernels.commands.arguments import ArgumentsError, closest
from minikernels.core.errors import DeviceError

FIRST = "00_how_to_read"


def arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("notebook", nargs="?", default=FIRST, help=f"a notebook, its number or a technique ({FIRST})")
    parser.add_argument("--no-browser", action="store_true", help="print the address instead of opening a browser")
    parser.add_argument("--port", type=int, help="the port to listen on")
    parser.add_argument("--allow-root", action="store_true", help="run as root, in a container say")


def run(args):
    """Start JupyterLab in the repository, at the notebook that was asked for, and wait for it."""
    path = find(args.notebook, notebooks())
    if importlib.util.find_spec("jupyterlab") is None:
        raise DeviceError("JupyterLab is not installed: pip install 'jupyterlab>=4.4'")
    if args.port is not None and not 0 < args.port < 65536:
        raise ArgumentsError(f"--port must be in 1..65535; got {args.port}")
    command = [sys.executable, "-m", "jupyterlab", str(path)]
    command += ["--no-browser"] if args.no_browser else []
    command += ["--allow-root"] if args.allow_root else []
    command += [f"--port={args.port}"] if args.port else []
    return subprocess.call(command, cwd=path.parent.parent)  # the exercises stand beside the notebooks


def notebooks():
    """Return the course's notebooks by name; they live in the repository, not in the installed package."""
    folder = Path(minikernels.__file__).resolve().parent.parent / "notebooks"
    found = {path.stem: path for path in sorted(folder.glob("[0-9]*.ipynb"))}
    if not found:
        raise DeviceError(f"no notebooks in {folder}: run `minikernels lab` in a clone of the repository")
    return found


def find(word, found):
    """Return the notebook that a word names: ``02_flash``, ``02``, ``flash`` or a path to it."""
    stem = Path(word).stem
    if stem in catalog.names():
        stem = Path(catalog.technique(stem).notebook).stem
    for name, path in found.items():
        if stem in (name, name.split("_")[0], name.partition("_")[2]):
            return path
    raise ArgumentsError(f"no notebook {word!r}{closest(stem, found)}")
