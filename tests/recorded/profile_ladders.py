"""Profile the kernels of every ladder on a GPU with Nsight Compute, and record what its counters say.

    python -m tests.recorded.profile_ladders FOLDER [TECHNIQUE ...]    (a GPU, ncu, CuPy and numba-cuda)

The script runs itself under ncu and writes ``ncu_<technique>.json``: the counts of each case of `CASES`, summed over
the kernels of its rung, with their provenance.
"""

import json
import sys
from pathlib import Path

from minikernels import catalog, launch
from tests.counters.ncu import METRICS, profiled, version
from tests.recorded.cases import CASES

MARK = "between_two_cases"  # an empty kernel
CUPY = ("cupy_", "DeviceScan", "DeviceReduce", "DeviceRadixSort")  # how CuPy's own kernels, which fill and sum, begin
SHOWN = [name for name in METRICS if name.startswith(("load", "store", "shared")) and "instructions" not in name]


def launch_all(names):
    """Run every case once, in order, with a mark before each."""
    import cupy

    mark = cupy.RawKernel(f'extern "C" __global__ void {MARK}() {{}}', MARK)
    for name in names:
        technique = catalog.technique(name)
        for rung, sizes, dtype, options in CASES[name]:
            inputs = technique.random(sizes, dtype, **options)
            there = {name: launch.to_gpu(x) if hasattr(x, "shape") else x for name, x in inputs.items()}
            mark((1,), (1,), ())
            outputs = technique.run(technique.rung(rung), there)
            launch.to_numpy(next(iter(outputs.values())))  # waits for the GPU


def cases(launches):
    """Return the counts of each case, summed over its kernels but CuPy's own."""
    counts = []
    for kernel, found in launches:
        if kernel.startswith(MARK):
            counts.append(dict.fromkeys(SHOWN, 0) | {"kernels": 0})
        elif counts and not kernel.startswith(CUPY):
            counts[-1] = {n: counts[-1][n] + found[n] for n in SHOWN} | {"kernels": counts[-1]["kernels"] + 1}
    return counts


def main(folder, names):
    """Write the counts of every case of every technique."""
    counts = cases(profiled("tests.recorded.profile_ladders", "--launch", *names))
    expected = sum(len(CASES[name]) for name in names)
    if len(counts) != expected:
        sys.exit(f"{len(counts)} cases were profiled and {expected} were made")
    about = {"provenance": {**launch.provenance(), "ncu": version()}, "metrics": {n: METRICS[n] for n in SHOWN}}
    head = json.dumps(about, indent=1).removesuffix("\n}")
    for name in names:
        lines = []
        for rung, sizes, dtype, options in CASES[name]:
            case = {"rung": rung, "sizes": sizes, "dtype": dtype, "options": options, "counts": counts.pop(0)}
            lines.append(f"  {json.dumps(case)}")
        path = Path(folder) / f"ncu_{name}.json"
        path.write_text(f"{head},\n \"cases\": [\n" + ",\n".join(lines) + "\n ]\n}\n", "utf-8", newline="\n")
        print(f"{len(lines)} cases written to {path}")


if __name__ == "__main__":
    first, *rest = sys.argv[1:]
    launch_all(rest) if first == "--launch" else main(first, rest or list(CASES))
