"""A GPU's ceilings as `minikernels.widgets.Roofline` takes them: measured by ``minikernels bench --roofs``."""

import datetime
import json
from pathlib import Path

import numpy as np

from minikernels import launch
from minikernels.bench.record import target
from minikernels.launch.roofs import limits

__all__ = ["FOLDER", "measure", "roofs", "run"]

FOLDER = Path(__file__).parent / "recorded" / "roofs"
RUNS = 30
UNITS = {"bandwidth": ("gb_per_s", 1e6), "compute": ("tflop_per_s", 1e9)}  # kind -> its unit, and amount a ms in it


def measure(listed, runs=RUNS):
    """Return {kind: [{"name", unit}]} of what `limits` lists, by the median of so many runs."""
    found = {kind: [] for kind in UNITS}
    for kind, name, amount, function in listed:
        unit, scale = UNITS[kind]
        ms = float(np.median(launch.times_ms(function, runs=runs, warm_up=3)))
        found[kind].append({"name": name, unit: float(f"{amount / ms / scale:.4g}")})
    return found


def run(out=None):
    """Measure the GPU at hand and write its file; return the path."""
    launch.require_gpu("measuring")
    about = launch.provenance()
    date = datetime.date.today().isoformat()
    source = f"measured {date}, median of {RUNS} by CUDA events, driver {about['driver']}, CUDA {about['cuda']}"
    machine = {"name": about["gpu"], "source": source, **measure(limits())}
    path = target(FOLDER if out is None else out, about["gpu"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(machine, indent=1) + "\n", "utf-8", newline="\n")
    return path


def roofs(gpu, folder=FOLDER):
    """Return the ceilings of a GPU by the name that its driver gives, or raise KeyError where none were measured."""
    for path in sorted(Path(folder).glob("*.json")):
        machine = json.loads(path.read_text("utf-8"))
        if machine["name"] == gpu:
            return machine
    raise KeyError(f"no ceilings of {gpu} are recorded; `minikernels bench --roofs` measures them on it")
