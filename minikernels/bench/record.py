"""Time every rung on the GPU at hand, beside every production kernel that can be imported, and write the results.

``minikernels bench`` measures all cases; ``run`` some of them. A rung is held to the oracle on the very input
that it is timed on, and a wrong one is not timed.
"""

import datetime
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from minikernels import catalog, launch
from minikernels.bench import attention, decode, linear, paged, quantized, scan, sparsity
from minikernels.bench.recorded import FOLDER, spoken_speed
from minikernels.core.errors import DeviceError, DtypeError, ShapeError

__all__ = ["Case", "measure", "run"]

SUITES = {  # technique -> suites(technique, shapes)
    "gqa": decode.suites,
    "flash": attention.suites,
    "block_sparse": sparsity.suites,
    "paged": paged.suites,
    "selective_scan": scan.suites,
    "linear_attention": linear.suites,
    "kv_compression": quantized.suites,
}
SERIES = 2  # runs of many repeats each: the difference between their medians is the noise
SERIES_MS = 60  # about as long as one series takes
FEWEST, MOST = 3, 100  # repeats of a series
LONGEST_MS = 1000  # a kernel that takes longer is timed once
METHOD = (
    "CUDA events around each call, queued while the GPU waits, L2 flushed before it; ms is the median over two series, "
    "runs the median of each; error is the largest difference from the float64 oracle on samples of the same input"
)


@dataclass(frozen=True)
class Case:
    """A shape to measure: sizes by letter, dtype and mask."""

    sizes: dict
    dtype: str = "float16"
    causal: bool = False


def run(techniques=None, shapes=None, out=None, say=print, rungs=None):
    """Measure techniques on this machine's GPU, and write ``<gpu>.json``.

    Parameters
    ----------
    techniques : sequence of str, optional
        Names in the catalog; all that have something to time by default.
    shapes : sequence of Case, optional
        The cases that stand in each technique's suite by default.
    out : str or Path, optional
        Folder or .json file; ``minikernels/bench/recorded`` by default.
    say : callable
        Hears one line for each kernel as it is done.
    rungs : sequence of str, optional
        Names of rungs: of each case that has one these alone are measured, beside all peers; of other cases nothing is.

    Returns
    -------
    Path
        The file written. Rows of cases that are not measured now stay in it, if GPU, driver and versions are the same.

    Raises
    ------
    DeviceError
        If there is no GPU to measure.
    ValueError
        If a technique has no suite.
    """
    launch.require_gpu("measuring", numba=True)
    about = {**launch.provenance(), "date": datetime.date.today().isoformat()}
    path = target(out, about["gpu"])
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = kept(path, about)
    for name in SUITES if techniques is None else techniques:
        if name not in SUITES:
            raise ValueError(f"nothing of {name!r} is timed; there are {', '.join(SUITES)}")
        for suite in SUITES[name](catalog.technique(name), shapes):
            left_out = others(suite, rungs)
            if len(left_out) == sum(entry.kind == "rung" for entry in suite.entries):
                continue
            entries = tuple(entry for entry in suite.entries if entry.name not in left_out)
            results, not_run = measure(replace(suite, entries=entries), say)
            rows = replaced(rows, suite, results, not_run, left_out)
            path.write_text(lines({**about, "method": METHOD, **rows}), "utf-8", newline="\n")
    return path


def kept(path, about):
    """Return the rows of an earlier recording that still hold: same GPU, same driver, same versions."""
    empty = {"results": [], "not_run": []}
    if not path.exists():
        return empty
    earlier = json.loads(path.read_text("utf-8"))
    same = all(earlier.get(name) == value for name, value in about.items() if name != "date")
    return {name: earlier[name] for name in empty} if same else empty


def others(suite, rungs):
    """Return the names of a suite's rungs that are not among the ones to measure; none where all are."""
    return {e.name for e in suite.entries if e.kind == "rung" and rungs is not None and e.name not in rungs}


def replaced(rows, suite, results, not_run, left_out=()):
    """Return the rows with those of one case exchanged for new ones, which stand where the old ones stood.

    Rows of rungs that were left out stay, and all stand in the order of the suite.
    """
    order = [entry.name for entry in suite.entries]

    def exchanged(old, new):
        at = next((i for i, row in enumerate(old) if of_case(row, suite)), len(old))
        stay = [row for row in old if of_case(row, suite) and row.get("rung") in left_out]
        here = sorted([*new, *stay], key=lambda row: order.index(row.get("rung") or row["peer"]))
        return [*old[:at], *here, *(row for row in old[at:] if not of_case(row, suite))]
    return {"results": exchanged(rows["results"], results), "not_run": exchanged(rows["not_run"], not_run)}


def of_case(row, suite):
    """Return whether a recorded row is of the suite's case."""
    return {name: row.get(name) for name in {*suite.row, "variant"}} == {"variant": None, **suite.row}


def measure(suite, say=print):
    """Check and time every entry of a suite; return rows of results, and rows of what was not run with the reason."""
    results, not_run = [], []
    today = datetime.date.today().isoformat()
    for entry in suite.entries:
        row = {**suite.row, entry.kind: entry.name, "date": today}
        reason = entry.reason or attempt(suite, entry, row)
        if reason:
            not_run.append({**row, "reason": reason})
        else:
            results.append(row)
        speed = "" if reason else f"{row['ms']:.4g} ms, {spoken_speed(row['ms'], suite.flop, suite.bytes)}"
        say(f"{suite}  {entry.name}: {reason or speed}")
    return results, not_run


def attempt(suite, entry, row):
    """Run, judge and time one entry, and fill in its row; return why it was not timed, or an empty string."""
    try:
        with launch.observed() as kernels:
            outputs = entry.run()
        verdicts = suite.judge(outputs)
    except (DeviceError, DtypeError, ShapeError) as error:
        return str(error)
    except RuntimeError as error:  # a peer that does not take the shape, or too little memory
        return without_folders(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
    worst = max(verdicts, key=lambda v: (not v.passed, v.error))
    if entry.kind == "rung" and not worst.passed:
        return f"wrong, so not timed: {worst.message}"
    series = timed(entry.run)
    row["ms"] = round(float(np.median(np.concatenate(series))), 5)
    row["runs"] = [round(float(np.median(times)), 5) for times in series]
    row["repeats"] = len(series[0])
    row["flop"] = suite.flop
    if suite.bytes:
        row["bytes"] = suite.bytes
    row["error"], row["budget"] = float(f"{worst.error:.3g}"), float(f"{worst.budget:.3g}")
    if kernels:
        row["kernels"] = kernels
    return ""


def without_folders(text):
    """Return an error's text with files named without the folders in which this machine has them.

    >>> without_folders("too little at /usr/site/peer/allocator.h:49: 5/4 of it")
    'too little at allocator.h:49: 5/4 of it'
    """
    return re.sub(r"(?<!\w)/(?:[\w.+-]+/)+(?=[\w.+-]+)", "", text)


def timed(function):
    """Return two series of times, or the one time of a kernel that takes long; the caller has warmed it up."""
    first = launch.times_ms(function, runs=1, warm_up=1)
    if first[0] > LONGEST_MS:
        return [first]
    repeats = int(np.clip(SERIES_MS / first[0], FEWEST, MOST))
    return [launch.times_ms(function, runs=repeats, warm_up=1) for _ in range(SERIES)]


def target(out, gpu):
    """Return the file to write: ``nvidia-h200.json`` in the folder, unless a file is named."""
    path = FOLDER if out is None else Path(out)
    return path if path.suffix == ".json" else path / f"{re.sub('[^a-z0-9]+', '-', gpu.lower()).strip('-')}.json"


def lines(data):
    """Return the data as JSON with one line a result."""
    tables = ("results", "not_run")
    head = json.dumps({name: value for name, value in data.items() if name not in tables}, indent=1)
    rows = {name: ",\n".join(f"  {json.dumps(row)}" for row in data[name]) for name in tables}
    tail = [f' "{name}": [\n{text}\n ]' for name, text in rows.items()]
    return head.removesuffix("\n}") + ",\n" + ",\n".join(tail) + "\n}\n"
