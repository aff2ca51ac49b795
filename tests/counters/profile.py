"""Profile every case on a GPU with Nsight Compute and record what its counters say.

    python -m tests.counters.profile OUT.json        (on a machine with a GPU, ncu and numba-cuda)

The script runs itself under ncu, one kernel launch a case, and writes counts with their provenance.
"""

import datetime
import json
import subprocess
import sys
from pathlib import Path

from minikernels.bench.ncu import METRICS, profiled, version
from tests.counters.cases import CASES


def launch_all():
    """Launch every case once, in order."""
    from numba import cuda

    for case in CASES:
        cuda.jit(case.kernel)[case.grid, case.block](*[on_device(cuda, a) for a in case.arguments()])
    cuda.synchronize()


def on_device(cuda, array):
    """Copy an array to the device, a view together with its root, so that strides and alignment stay."""
    root = array
    while root.base is not None:
        root = root.base
    device = cuda.to_device(root)
    if root is array:
        return device
    if array.flags.f_contiguous and root.T.shape == array.shape and array.ndim > 1:
        return device.T
    offset = (array.__array_interface__["data"][0] - root.__array_interface__["data"][0]) // array.itemsize
    return device[offset :: array.strides[0] // array.itemsize][: array.shape[0]]


def main(out):
    """Run the launches under ncu and write the counts."""
    launches = profiled("tests.counters.profile")
    if len(launches) != len(CASES):
        sys.exit(f"{len(launches)} launches were profiled and {len(CASES)} were made")
    result = {"provenance": provenance(), "metrics": METRICS,
              "counts": {case.name: counts for case, (_, counts) in zip(CASES, launches)}}
    Path(out).write_text(json.dumps(result, indent=1) + "\n")
    print(f"{len(launches)} cases written to {out}")


def provenance():
    """Return the hardware, the versions and the date."""
    import numba
    import numba_cuda
    from numba import cuda

    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    gpu, driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().split(", ")
    return {"gpu": gpu, "driver": driver, "compute_capability": list(cuda.get_current_device().compute_capability),
            "numba": numba.__version__, "numba_cuda": numba_cuda.__version__, "ncu": version(),
            "date": datetime.date.today().isoformat()}


if __name__ == "__main__":
    main(sys.argv[1]) if len(sys.argv) > 1 else launch_all()
