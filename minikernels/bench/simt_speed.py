"""How fast the SIMT machine is: against the clock, against numba's simulator, and as lanes and steps grow.

A statement costs the machine about the same for one lane as for thousands, and numba's simulator pays for each
lane: so the ratio grows with the launch, and the largest of the three is held to the limit.

    python -m minikernels.bench.simt_speed

Every figure is taken in one run on this machine and printed with the processor's name.
"""

import json
import os
import platform
import subprocess
import sys
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from minikernels import simt

__all__ = ["main"]

LIMIT_SECONDS, LEAST_RATIO = 10.0, 100.0


def attention(T, D, H=1):
    """Return the seconds of H heads of tiled attention, one thread a row, all counters on."""
    from minikernels.flash.numba_cuda import launch_v2_tiled

    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, H, T, D), np.float32) for _ in range(3))
    start = time.perf_counter()
    with simt.collect() as launches:
        launch_v2_tiled(q, k, v, False, D**-0.5)
    seconds = time.perf_counter() - start
    assert launches[0].findings == []
    return seconds


def simulated(T, D, H):
    """Return the seconds that numba's own simulator takes for the same launch, in a process of its own."""
    code = (
        "import json, time, numpy as np\n"
        "from minikernels import launch, simt\n"
        "from minikernels.flash import numba_cuda\n"
        "from numba import cuda\n"
        "seconds = []\n"
        "def run(function, grid, block, *args, **_):\n"
        "    start = time.perf_counter()\n"
        "    cuda.jit(getattr(function, 'py_func', function))[grid, block](*args)\n"
        "    seconds.append(time.perf_counter() - start)\n"
        "simt.run = run\n"
        "rng = np.random.default_rng(0)\n"
        f"q, k, v = (rng.standard_normal((1, {H}, {T}, {D}), np.float32) for _ in range(3))\n"
        f"numba_cuda.launch_v2_tiled(q, k, v, False, {D}**-0.5)\n"
        "print(json.dumps(seconds))\n"
    )
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    (seconds,) = json.loads(done.stdout)
    return seconds


def main():
    """Print the table; return 1 if a figure misses its limit."""
    attention(64, 16)  # imports and first calls
    whole = attention(1024, 64)
    heads = [(H, min(attention(64, 16, H) for _ in range(3)), simulated(64, 16, H)) for H in (1, 8, 64)]
    steps = [(T, attention(T, 32)) for T in (256, 512, 1024)]
    table = Table(title=f"SIMT machine on {platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    for column in ("launch", "seconds", "limit"):
        table.add_column(column, justify="left" if column == "launch" else "right")
    table.add_row("tiled attention, T=S=1024, D=64, 1 head", f"{whole:.2f}", f"{LIMIT_SECONDS:.0f}")
    for H, here, theirs in heads:
        limit = f"{theirs / here:.0f}x" + (f", at least {LEAST_RATIO:.0f}x" if H == 64 else "")
        name = f"the same, T=S=64, D=16, {H} block{'s'[: H > 1]}; numba's simulator {theirs:.2f}"
        table.add_row(name, f"{here:.3f}", limit)
    for T, seconds in steps:
        table.add_row(f"tiled attention, T=S={T}, D=32", f"{seconds:.2f}", f"{seconds / T**2 * 1e9:.0f} ns a pair")
    Console().print(table)
    return 0 if whole <= LIMIT_SECONDS and heads[-1][2] / heads[-1][1] >= LEAST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
