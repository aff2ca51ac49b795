"""Profile the rungs of flash on a GPU with Nsight Compute, and record what its counters say.

    python -m tests.recorded.profile_flash tests/recorded/ncu_flash.json    (a GPU, ncu, CuPy and numba-cuda)

The script runs itself under ncu and writes the counts of each rung, summed over its kernels, with their provenance.
"""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

from minikernels import catalog, launch

METRICS = {
    "load_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum",
    "load_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum",
    "store_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_st.sum",
    "store_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum",
    "shared_load_wavefronts": "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_ld.sum",
    "shared_load_conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum",
    "shared_store_wavefronts": "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_st.sum",
    "shared_store_conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum",
}
KERNELS = "regex:v[0-9]_|scores_kernel|softmax_kernel|values_kernel"  # and not CuPy's own, which fill outputs
LAUNCHES = {"v1_three_pass": 3}  # kernels of a rung, where not one
WHOLE = {"B": 1, "H": 4, "G": 2, "T": 200, "S": 300, "D": 64}  # ragged in T and S, two query heads a group
ODD = {**WHOLE, "T": 70, "S": 45}  # the first rows see no key
CASES = [(rung, WHOLE, dtype, causal) for dtype in ("float32", "float16") for causal in (True, False)
         for rung in ("v1_three_pass", "v2_tiled", "v2_keys_outside", "v3_split_rows", "v4_register_tiles")]
CASES += [("v5_mma", {**WHOLE, "D": D}, "float16", causal) for D in (40, 64, 128) for causal in (True, False)]
CASES += [("v4_register_tiles", {**ODD, "D": D}, "float32", True) for D in (7, 100, 128)]
CASES += [(rung, {**ODD, "D": 40}, "float16", True) for rung in ("v2_tiled", "v3_split_rows", "v5_mma")]


def launch_all():
    """Run every case once, in order."""
    technique = catalog.technique("flash")
    for rung, sizes, dtype, causal in CASES:
        inputs = technique.random(sizes, dtype, causal=causal)
        there = {name: launch.to_gpu(x) if hasattr(x, "shape") else x for name, x in inputs.items()}
        outputs = technique.run(technique.rung(rung), there)
        launch.to_numpy(outputs["o"])  # waits for the GPU


def counted():
    """Return one {metric: count} a kernel launch, in order, as ncu saw them."""
    command = ["ncu", "--clock-control", "none", "--csv", "--kernel-name", KERNELS]
    command += ["--metrics", ",".join(METRICS.values()), sys.executable, "-m", "tests.recorded.profile_flash"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    start = done.stdout.find('"ID"')
    if start < 0:
        sys.exit(f"ncu printed no table\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    names, launches = {metric: name for name, metric in METRICS.items()}, {}
    for row in csv.DictReader(io.StringIO(done.stdout[start:])):
        if row["Metric Name"] in names:
            value = int(float(row["Metric Value"].replace(",", "")))
            launches.setdefault(int(row["ID"]), {})[names[row["Metric Name"]]] = value
    return [launches[key] for key in sorted(launches)]


def main(out):
    """Write the counts of every case."""
    launches = iter(rows := counted())
    expected = sum(LAUNCHES.get(rung, 1) for rung, *_ in CASES)
    if len(rows) != expected:
        sys.exit(f"{len(rows)} launches were profiled and {expected} were made")
    version = subprocess.run(["ncu", "--version"], capture_output=True, text=True, check=True).stdout.split("\n")
    lines = []
    for rung, sizes, dtype, causal in CASES:
        parts = [next(launches) for _ in range(LAUNCHES.get(rung, 1))]
        total = {name: sum(part[name] for part in parts) for name in METRICS}
        lines.append(json.dumps({"rung": rung, "sizes": sizes, "dtype": dtype, "causal": causal, "counts": total}))
    about = {**launch.provenance(), "ncu": next(line for line in reversed(version) if line.strip()).strip()}
    head = json.dumps({"provenance": about, "metrics": METRICS}, indent=1).removesuffix("\n}")
    cases = ",\n".join(f"  {line}" for line in lines)
    Path(out).write_text(f'{head},\n "cases": [\n{cases}\n ]\n}}\n', "utf-8", newline="\n")
    print(f"{len(lines)} cases written to {out}")


if __name__ == "__main__":
    main(sys.argv[1]) if len(sys.argv) > 1 else launch_all()
