"""Show what this machine can run, and what to install for the rest."""

import json
import platform
import sys
from dataclasses import asdict, dataclass

from minikernels.bench import machine
from minikernels.commands import console

EXTRA = {12: "cuda12", 13: "cuda13"}


@dataclass(frozen=True)
class Check:
    """One thing looked for: what it gives, what was found, and what to do where it is missing."""

    name: str
    gives: str
    found: str | None
    install: str
    needed: bool = False  # whether the course cannot run without it


def arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args):
    """Print what was looked for and found; the exit code is 1 if something needed is missing."""
    checks = [*base_checks(), *gpu_checks(), *viewer_checks()]
    healthy = all(check.found for check in checks if check.needed)
    if args.json:
        print(json.dumps({"healthy": healthy, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        show(checks)
    return 0 if healthy else 1


def base_checks():
    """Check what every machine needs."""
    python = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Check("Python", "everything", python if sys.version_info >= (3, 11) else None, "Python 3.11 or newer", True)
    yield Check("NumPy", "NumPy rungs, and numba rungs on the SIMT machine", machine.package_version("numpy"),
                "pip install 'numpy>=2,<2.5'", True)
    yield Check("numba", "the names that kernels are written with", machine.package_version("numba"),
                "pip install 'numba>=0.65'", True)


def gpu_checks():
    """Check the chain from the driver up to a kernel on the GPU."""
    cuda, gpus = machine.driver()
    found = f"CUDA {cuda[0]}.{cuda[1]}" if cuda else None
    yield Check("NVIDIA driver", "GPU rungs", found,
                "NVIDIA's driver for your GPU (Linux or Windows); none exists for macOS")
    described = ", ".join(f"{g.name} (sm_{g.compute[0]}{g.compute[1]}, {g.memory_bytes / 2**30:.0f} GiB)" for g in gpus)
    yield Check("GPU", "GPU rungs and measuring", described or None,
                "an NVIDIA GPU, sm_80 or newer for tensor-core rungs; without one, every numba rung still runs here")
    extra = EXTRA.get(cuda[0] if cuda else 13, "cuda13")
    install = f"uv sync --extra {extra}, or conda env create -f environment.yml"
    yield Check("CuPy", "raw CUDA rungs", machine.package_version("cupy-cuda13x", "cupy-cuda12x", "cupy"), install)
    yield Check("numba-cuda", "numba rungs on the GPU", machine.package_version("numba-cuda"), install)


def viewer_checks():
    """Check what shows notebooks and pages."""
    for name, gives in (("jupyterlab", "minikernels lab"), ("anywidget", "the players"), ("matplotlib", "figures")):
        yield Check(name, gives, machine.package_version(name), f"pip install {name}")
    yield Check("Chromium", "the browser tests; pages open in any browser", machine.chromium(),
                "your system's package chromium, or CHROMIUM=/path/to/it")


def show(checks):
    """Print the checks as a table, and in one sentence what they add up to."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("", "", "gives", "found, or what to install"):
        table.add_column(title)
    for check in checks:
        mark = "[green]ok[/green]" if check.found else "[red]missing[/red]" if check.needed else "[yellow]--[/yellow]"
        table.add_row(mark, check.name, f"[dim]{check.gives}[/dim]", check.found or check.install)
    out = console.out()
    out.print(table)
    missing = {check.name for check in checks if not check.found}
    if any(check.needed for check in checks if not check.found):
        out.print("\nThe course cannot run here yet: install what is marked missing.")
    elif missing & {"NVIDIA driver", "GPU", "CuPy", "numba-cuda"}:
        out.print("\nNumPy rungs and every numba rung run here, on the SIMT machine; raw CUDA rungs need a GPU.")
    else:
        out.print("\nEvery rung that this GPU's architecture allows runs here.")
