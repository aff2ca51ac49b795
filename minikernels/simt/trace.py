"""A recorded launch as plain data: what widgets, figures and graders read.

The trace is columnar: one row a step in the ``step_*`` arrays, one row an access (one block's part of one
load, store or atomic) in the ``access_*`` arrays, and one row a touched element in the ``pool_*`` arrays. It
holds no code objects and no references to the machine, and saves to one ``.npz`` file.
"""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minikernels.core.errors import KernelError

__all__ = ["ArrayInfo", "Trace"]

VERSION = 1
LOAD, STORE, ATOMIC = 0, 1, 2
HELD = np.uint32(0x7FC00001).view(np.float32)  # a NaN that a lane holds, told by its bits from that of an inactive one
BROADCAST = -1  # pool_lane of an element that every active lane of the block touched

COLUMNS = {  # name -> dtype
    "step_line": "int32",  # (n,) source line, as numbered in the user's file
    "step_kind": "uint8",  # (n,) 0 statement, 1 block barrier, 2 warp barrier
    "step_active": "uint8",  # (n, blocks, ceil(threads / 8)) active lanes, packbits little
    "access_step": "int32",  # (a,) the step it belongs to, ascending
    "access_array": "int16",  # (a,) index into arrays
    "access_op": "uint8",  # (a,) LOAD, STORE or ATOMIC
    "access_block": "int16",  # (a,) index into blocks
    "access_start": "int64",  # (a + 1,) its rows in the pool
    "access_requests": "int32",  # (a,) warp requests
    "access_units": "int32",  # (a,) sectors (global) or wavefronts (shared)
    "access_bytes": "int32",  # (a,) bytes the active lanes asked for
    "pool_lane": "int16",  # (p,) thread number in its block, or BROADCAST
    "pool_index": "int32",  # (p,) flat index into the array, C order of its shape
    "pool_value": "float32",  # (p,) value loaded, or the array's new value there
    "register_step": "int32",  # (r,) the step that assigned it
    "register_name": "int16",  # (r,) index into registers
    "register_value": "float32",  # (r, blocks, len(register_lanes)) NaN where the lane is inactive; HELD one it has
}


@dataclass(frozen=True)
class ArrayInfo:
    """One array that the kernel touched: its name in the kernel, where it lives and its shape."""

    name: str
    space: str  # "global" or "shared"
    shape: tuple
    dtype: str


@dataclass
class Trace:
    """Every step of the chosen blocks of one launch.

    Attributes
    ----------
    kernel, filename, source : str
        The kernel's name, its file's base name and its source text.
    first_line : int
        The line of ``filename`` on which ``source`` starts; ``step_line`` counts in the file's lines.
    grid, block : tuple of int
        The launch's shape, three axes each.
    blocks : list of tuple
        (x, y, z) of each recorded block.
    arrays : list of ArrayInfo
        What ``access_array`` indexes. A shared array has one copy per block.
    initial : dict of str to ndarray
        Contents of each global array before the launch (shared memory starts unwritten: NaN).
    registers, register_lanes : list
        Names of the kernel's variables that were kept, and the thread numbers they were kept for.
    traffic : dict
        Totals of the *whole* launch, `Traffic.as_dict`.
    columns : dict of str to ndarray
        The arrays named in `COLUMNS`.
    """

    kernel: str
    filename: str
    source: str
    first_line: int
    grid: tuple
    block: tuple
    blocks: list
    arrays: list
    initial: dict
    registers: list
    register_lanes: list
    traffic: dict
    columns: dict = field(repr=False)

    @property
    def steps(self):
        """Number of recorded steps."""
        return len(self.columns["step_line"])

    @property
    def threads(self):
        """Threads of one block."""
        return int(np.prod(self.block))

    def accesses(self, step):
        """Return the access rows (a slice) of one step."""
        steps = self.columns["access_step"]
        return slice(int(np.searchsorted(steps, step)), int(np.searchsorted(steps, step, "right")))

    def contents(self, name, step, block=0):
        """Return array ``name`` as it stands after ``step`` (a copy; NaN where shared memory is unwritten)."""
        number = next((i for i, a in enumerate(self.arrays) if a.name == name), None)
        if number is None:
            raise KeyError(f"no array {name!r} in this trace; it has {[a.name for a in self.arrays]}")
        info, c = self.arrays[number], self.columns
        shared = info.space == "shared"
        flat = (np.full(info.shape, np.nan) if shared else self.initial[name].astype(np.float64)).ravel()
        rows = (c["access_array"] == number) & (c["access_op"] != LOAD) & (c["access_step"] <= step)
        if shared:
            rows &= c["access_block"] == block
        for a in np.flatnonzero(rows):
            part = slice(c["access_start"][a], c["access_start"][a + 1])
            flat[c["pool_index"][part]] = c["pool_value"][part]
        return flat.reshape(info.shape)

    def save(self, path):
        """Write the trace to one ``.npz`` file."""
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        with open(partial, "wb") as file:
            np.savez_compressed(file, header=np.array(json.dumps(self.header())), **self.columns,
                                **{f"initial:{k}": v for k, v in self.initial.items()})
        partial.replace(path)  # a reader never meets half a file
        return path

    def header(self):
        """Return everything but the arrays, ready for JSON."""
        plain = ("kernel", "filename", "source", "first_line", "registers", "register_lanes", "traffic")
        return {"version": VERSION, **{k: getattr(self, k) for k in plain},
                "grid": list(self.grid), "block": list(self.block), "blocks": [list(b) for b in self.blocks],
                "arrays": [{"name": a.name, "space": a.space, "shape": list(a.shape), "dtype": a.dtype}
                           for a in self.arrays]}

    @classmethod
    def load(cls, path):
        """Read a trace that `save` wrote; a file of another kind or version is a `KernelError`."""
        try:
            with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                columns = {k: file[k] for k in COLUMNS}
                initial = {k.removeprefix("initial:"): file[k] for k in file.files if k.startswith("initial:")}
        except FileNotFoundError:
            raise
        except Exception as error:
            raise KernelError(f"{path} is not a minikernels trace ({type(error).__name__}: {error})") from error
        if header.pop("version") != VERSION:
            raise KernelError(f"{path} was written by another version of the trace format; this one reads {VERSION}")
        arrays = [ArrayInfo(a["name"], a["space"], tuple(a["shape"]), a["dtype"]) for a in header.pop("arrays")]
        shapes = {k: tuple(header.pop(k)) for k in ("grid", "block")}
        blocks = [tuple(b) for b in header.pop("blocks")]
        return cls(**header, **shapes, blocks=blocks, arrays=arrays, initial=initial, columns=columns)
