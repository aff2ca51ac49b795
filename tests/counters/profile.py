"""Profile every case on a GPU with Nsight Compute and record what its counters say.

    python -m tests.counters.profile OUT.json        (on a machine with a GPU, ncu and numba-cuda)

The script runs itself under ncu, one kernel launch a case, and writes counts with their provenance.
"""

import csv
import datetime
import io
import json
import subprocess
import sys
from pathlib import Path

METRICS = {
    "load_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum",
    "load_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum",
    "store_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_st.sum",
    "store_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum",
    "shared_load_wavefronts": "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_ld.sum",
    "shared_load_conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum",
    "shared_store_wavefronts": "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_st.sum",
    "shared_store_conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum",
    "shared_load_instructions": "smsp__inst_executed_op_shared_ld.sum",
    "shared_store_instructions": "smsp__inst_executed_op_shared_st.sum",
    "atomic_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_atom.sum",
    "reduction_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_red.sum",
}


def launch_all():
    """Launch every case once, in order."""
    from numba import cuda

    from tests.counters.cases import CASES

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
    command = ["ncu", "--clock-control", "none", "--csv", "--metrics", ",".join(METRICS.values()), sys.executable, "-m",
               "tests.counters.profile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = done.stdout
    start = text.find('"ID"')
    if start < 0:
        sys.exit(f"ncu printed no table\n{text[-2000:]}\n{done.stderr[-2000:]}")
    from tests.counters.cases import CASES

    back = {v: k for k, v in METRICS.items()}
    counts = {}
    for row in csv.DictReader(io.StringIO(text[start:])):
        if row["Metric Name"] in back:
            value = row["Metric Value"].replace(",", "")
            counts.setdefault(int(row["ID"]), {})[back[row["Metric Name"]]] = int(float(value)) if value else None
    if len(counts) != len(CASES):
        sys.exit(f"{len(counts)} launches were profiled and {len(CASES)} were made\n{text[-2000:]}")
    result = {"provenance": provenance(), "metrics": METRICS,
              "counts": {case.name: counts[i] for case, i in zip(CASES, sorted(counts))}}
    Path(out).write_text(json.dumps(result, indent=1) + "\n")
    print(f"{len(counts)} cases written to {out}")


def provenance():
    """Return the hardware, the versions and the date."""
    import numba
    import numba_cuda
    from numba import cuda

    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    gpu, driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().split(", ")
    version = subprocess.run(["ncu", "--version"], capture_output=True, text=True, check=True)
    ncu = version.stdout.strip().split("\n")[-1]
    return {"gpu": gpu, "driver": driver, "compute_capability": list(cuda.get_current_device().compute_capability),
            "numba": numba.__version__, "numba_cuda": numba_cuda.__version__, "ncu": ncu,
            "date": datetime.date.today().isoformat()}


if __name__ == "__main__":
    main(sys.argv[1]) if len(sys.argv) > 1 else launch_all()
