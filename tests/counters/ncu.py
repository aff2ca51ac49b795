"""Nsight Compute: run a module of these tests under it, and read the table that it prints."""

import csv
import io
import subprocess
import sys

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


def profiled(module, *arguments):
    """Run ``python -m module arguments`` under ncu; return (kernel name, {metric: count}) a launch, in order."""
    command = ["ncu", "--clock-control", "none", "--csv", "--metrics", ",".join(METRICS.values())]
    done = subprocess.run([*command, sys.executable, "-m", module, *arguments], capture_output=True, text=True,
                          check=False)
    start = done.stdout.find('"ID"')
    if start < 0 or done.returncode:
        sys.exit(f"ncu failed\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    names, launches = {metric: name for name, metric in METRICS.items()}, {}
    for row in csv.DictReader(io.StringIO(done.stdout[start:])):
        if row["Metric Name"] in names:
            _, counts = launches.setdefault(int(row["ID"]), (row["Kernel Name"], {}))
            counts[names[row["Metric Name"]]] = int(float(row["Metric Value"].replace(",", "")))
    return [launches[key] for key in sorted(launches)]


def version():
    """Return the version that ncu states."""
    done = subprocess.run(["ncu", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1].strip()
