"""Nsight Compute: run a module under it, and read the table that it prints."""

import csv
import io
import shutil
import subprocess
import sys

from minikernels.core.errors import DeviceError

__all__ = ["METRICS", "profiled", "version"]

METRICS = {  # field of Traffic -> hardware counter
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


def profiled(module, *arguments, kernels=()):
    """Run ``python -m module arguments`` under ncu; return (kernel name, {metric: count}) a launch, in order.

    With `kernels`, names, launches of others are passed over; ncu takes longest over them where there are many.

    Raises
    ------
    DeviceError
        If there is no ncu, or it fails: what it said ends the message.
    """
    if shutil.which("ncu") is None:
        raise DeviceError("counting needs ncu, NVIDIA's Nsight Compute, which comes with the CUDA toolkit")
    command = ["ncu", "--clock-control", "none", "--csv", "--metrics", ",".join(METRICS.values())]
    command += ["--kernel-name", f"regex:{'|'.join(kernels)}"] if kernels else []
    done = subprocess.run([*command, sys.executable, "-m", module, *arguments], capture_output=True, text=True,
                          check=False)
    start = done.stdout.find('"ID"')
    if start < 0 or done.returncode:
        raise DeviceError(f"ncu failed: {done.stdout[-1000:]} {done.stderr[-1000:]}")
    return launches(done.stdout[start:])


def launches(table):
    """Return what `profiled` does from ncu's table, which has one row for every launch and metric."""
    names, found = {metric: name for name, metric in METRICS.items()}, {}
    for row in csv.DictReader(io.StringIO(table)):
        if row["Metric Name"] in names:
            _, counts = found.setdefault(int(row["ID"]), (row["Kernel Name"], {}))
            counts[names[row["Metric Name"]]] = int(float(row["Metric Value"].replace(",", "")))
    return [found[key] for key in sorted(found)]


def version():
    """Return the version that ncu states."""
    done = subprocess.run(["ncu", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1].strip()
