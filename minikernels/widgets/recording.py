"""A trace made ready for the page: arrays folded into grids, addresses into cells, and only what is shown."""

import numpy as np

from minikernels.figures import contents_before, grid
from minikernels.simt.trace import LOAD, Trace

__all__ = ["recording"]

PLAYED = ("step_line", "step_kind", "step_active", "access_step", "access_array", "access_op", "access_block",
          "access_requests", "access_units", "access_bytes", "pool_lane")
TOTALS = ("load_bytes", "load_sectors", "store_bytes", "store_sectors", "atomic_requests", "barriers",
          "shared_load_wavefronts", "shared_store_wavefronts", "shared_load_conflicts", "shared_store_conflicts")


def recording(trace):
    """Return (header, arrays) of one trace for `packing.pack`.

    Loaded values are left out: a load shows what the array holds by then, which the page knows from the contents
    before the launch and from every store of the recorded blocks.
    """
    check(trace)
    columns = trace.columns
    header = {key: value for key, value in trace.header().items() if key != "arrays"}
    header["traffic"] = {name: int(trace.traffic.get(name, 0)) for name in TOTALS}
    header["steps"], header["threads"] = trace.steps, trace.threads
    arrays = {name: columns[name] for name in PLAYED}
    arrays["access_start"] = columns["access_start"].astype(np.int32)
    cell = np.full(len(columns["pool_index"]), -1, np.int32)
    header["grids"] = []
    owner = np.repeat(np.arange(len(columns["access_step"])), np.diff(columns["access_start"]))
    for number, info in enumerate(trace.arrays):
        folded = grid(trace, number)
        for block in range(len(trace.blocks)):
            rows = (columns["access_array"][owner] == number) & (columns["access_block"][owner] == block)
            cell[rows] = folded.cells(columns["pool_index"][rows], block)
        places = folded.slices if info.space == "global" else []
        if places:
            before = contents_before(trace, number)
            arrays[f"initial{number}"] = np.stack([folded.values(before, at) for at in places]).astype(np.float32)
        header["grids"].append({
            "name": info.name, "space": info.space, "dtype": info.dtype, "shape": list(info.shape),
            "fixed": list(folded.fixed), "at": [list(at) for at in folded.at],
            "labels": [folded.label(block) for block in range(len(trace.blocks))],
            "slice": [places.index(at) if places else block for block, at in enumerate(folded.at)],
            "rows": folded.rows, "columns": folded.columns, "rowPool": folded.row_pool, "colPool": folded.column_pool,
            "cellRows": folded.cell_rows, "cellColumns": folded.cell_columns,
            "itemsize": np.dtype(info.dtype).itemsize,
            "scale": _scale(columns["pool_value"][columns["access_array"][owner] == number])})
    arrays["pool_cell"] = cell
    arrays["store_value"] = columns["pool_value"][columns["access_op"][owner] != LOAD]
    arrays |= {name: columns[name] for name in ("register_step", "register_name", "register_value")}
    exact = {f"initial{i}" for i, a in enumerate(trace.arrays) if np.dtype(a.dtype).kind in "iub"}
    return header, arrays, exact


def check(trace):
    """Raise where a trace is not one, or is empty, with a sentence that says what to do."""
    if not isinstance(trace, Trace):
        raise TypeError(f"TilePlayer plays a minikernels Trace, and this is a {type(trace).__name__}; record one with "
                        "`with simt.record() as recording:` around a launch, and take recording.trace")
    if not trace.steps:
        raise ValueError(f"the trace of {trace.kernel} has no step: none of the recorded blocks {trace.blocks} ran")
    lost = [a.name for a in trace.arrays if a.space == "global" and a.name not in trace.initial]
    if lost:
        raise ValueError(f"the trace of {trace.kernel} lacks the contents before the launch of {', '.join(lost)}")


def _scale(values):
    """Return the range that the shades of grey span: of the values that moved, all but a hundredth on each side."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return [0.0, 1.0]
    low, high = (float(x) for x in np.percentile(finite, (1, 99)))
    beside = max(1.0, 1e-3 * abs(low))  # of a large number too a step that float32 can tell
    return [low, high] if high > low else [low - beside, high + beside]
