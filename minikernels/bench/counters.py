"""What a GPU's own counters say of the ladders' kernels: profiled with Nsight Compute, beside the machine's counts.

``minikernels bench --counters`` records them. The module runs itself under ncu to launch the cases of `CASES`; what is
recorded are the counts of each, summed over the kernels of its rung, with their provenance.
"""

import json
import re
import sys
from pathlib import Path

from minikernels import catalog, launch
from minikernels.bench.counter_cases import CASES
from minikernels.bench.ncu import METRICS, profiled, version
from minikernels.bench.suite import on_gpu
from minikernels.core.errors import DeviceError

__all__ = ["FOLDER", "read", "run"]

FOLDER = Path(__file__).parent / "recorded/counters"
MARK = "between_two_cases"  # an empty kernel, in between_two_cases.cu
PACKAGE = Path(__file__).resolve().parent.parent
DEFINED = re.compile(r'@kernel\s+def (\w+)\(|extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(')
NOT_COUNTED = ("screen", "wait")  # the check of a page table, and what the clock waits for
SHOWN = [name for name in METRICS if name.startswith(("load", "store", "shared")) and "instructions" not in name]


def run(techniques=None, out=None, say=print):
    """Profile techniques on this machine's GPU, and write ``<technique>.json`` for each.

    Parameters
    ----------
    techniques : sequence of str, optional
        Names in the catalog; all by default.
    out : str or Path, optional
        Folder; ``minikernels/bench/recorded/counters`` by default.
    say : callable
        Hears one line for each file.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    DeviceError
        If there is no GPU, or no ncu that may read its counters.
    """
    launch.require_gpu("profiling", numba=True)
    names, folder = list(techniques or CASES), Path(out or FOLDER)
    counts = by_case(profiled("minikernels.bench.counters", *names, kernels=kernels()))
    expected = sum(len(CASES[name]) for name in names)
    if len(counts) != expected:
        raise DeviceError(f"ncu saw {len(counts)} cases, and {expected} were launched")
    about = {"provenance": {**launch.provenance(), "ncu": version()}, "metrics": {n: METRICS[n] for n in SHOWN}}
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in names:
        cases = [{**described(case), "counts": counts.pop(0)} for case in CASES[name]]
        written.append(folder / f"{name}.json")
        written[-1].write_text(lines(about, cases), "utf-8", newline="\n")
        say(f"{len(cases)} cases of {name}: {written[-1]}")
    return written


def read(name):
    """Return what is recorded of a technique: ``provenance``, ``metrics`` and ``cases``."""
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def described(case):
    """Return a case as it stands in a recording."""
    return dict(zip(("rung", "sizes", "dtype", "options"), case, strict=True))


def lines(about, cases):
    """Return a recording as JSON with one line a case."""
    head = json.dumps(about, indent=1).removesuffix("\n}")
    return f'{head},\n "cases": [\n' + ",\n".join(f"  {json.dumps(case)}" for case in cases) + "\n ]\n}\n"


def kernels():
    """Return the names of the project's kernels, in Python and in CUDA C++; CuPy's fill and sum, and are not ours."""
    sources = (path.read_text("utf-8") for kind in ("*.py", "*.cu") for path in sorted(PACKAGE.glob(f"*/{kind}")))
    names = {name for text in sources for pair in DEFINED.findall(text) for name in pair if name}
    return sorted(names.difference(NOT_COUNTED))


def by_case(launches):
    """Return the counts of each case, summed over the kernels of its rung."""
    counts = []
    for kernel, found in launches:
        if MARK in kernel:
            counts.append(dict.fromkeys(SHOWN, 0) | {"kernels": 0})
        elif counts:
            counts[-1] = {n: counts[-1][n] + found[n] for n in SHOWN} | {"kernels": counts[-1]["kernels"] + 1}
    return counts


def launch_all(names):
    """Run every case once, in order, with a mark before each."""
    mark = launch.raw(Path(__file__).parent / "between_two_cases.cu", MARK)
    for name in names:
        technique = catalog.technique(name)
        for rung, sizes, dtype, options in CASES[name]:
            there = on_gpu(technique.random(sizes, dtype, **options))
            mark[1, 1]()
            outputs = technique.run(technique.rung(rung), there)
            launch.to_numpy(next(iter(outputs.values())))  # waits for the GPU


if __name__ == "__main__":
    launch_all(sys.argv[1:])
