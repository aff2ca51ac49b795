"""Results recorded on GPUs: every file of ``recorded/``, with the hardware, and ratios to the production kernels.

A file holds ``gpu``, ``compute``, ``driver``, ``cuda``, ``versions``, ``date`` and ``results``; a result holds
``technique``, ``rung`` or ``peer``, ``sizes``, ``dtype``, ``causal``, ``ms`` (median), ``runs`` and ``flop``.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FOLDER", "Recording", "Result", "recordings"]

FOLDER = Path(__file__).parent / "recorded"


@dataclass(frozen=True)
class Result:
    """One kernel's time on one case.

    Attributes
    ----------
    technique, name : str
        ``name`` is a rung's, or a peer's.
    is_peer : bool
        Whether it is a production kernel.
    case : tuple
        What must be equal for two times to be compared: sizes, dtype and mask.
    ms : float
        Median time.
    flop : int
        Work of the case, so that speed is ``flop / ms``.
    """

    technique: str
    name: str
    is_peer: bool
    case: tuple
    ms: float
    flop: int

    @property
    def tflops(self):
        """Speed in TFLOP/s."""
        return self.flop / self.ms / 1e9


@dataclass(frozen=True)
class Recording:
    """One file: the results of one GPU."""

    gpu: str
    compute: tuple
    driver: str
    date: str
    results: tuple

    def case(self, technique, dtype):
        """Return the case of this dtype in which most rungs of a technique were measured, or None.

        Of two cases with as many rungs the one measured first in the file counts.
        """
        cases = [r.case for r in self.results if r.technique == technique and not r.is_peer and r.case[1] == dtype]
        return max(dict.fromkeys(cases), key=cases.count, default=None)

    def of(self, technique, rung, case):
        """Return the result of one rung in one case, or None."""
        wanted = (technique, rung, False, case)
        return next((r for r in self.results if (r.technique, r.name, r.is_peer, r.case) == wanted), None)

    def production(self, technique, case):
        """Return the fastest peer of one case, or None."""
        peers = [r for r in self.results if r.is_peer and (r.technique, r.case) == (technique, case)]
        return min(peers, key=lambda r: r.ms, default=None)


def spelled(case):
    """Return a case as a reader writes it: ``B4 H16 G16 T4096 S4096 D64 float16 causal``."""
    sizes, dtype, causal = case
    return " ".join([*(f"{letter}{size}" for letter, size in sizes), dtype, *(["causal"] if causal else [])])


@functools.cache
def recordings():
    """Return every recording there is, in the order of the files' names."""
    return tuple(read(path) for path in sorted(FOLDER.glob("*.json")))


def read(path):
    """Read one file."""
    data = json.loads(path.read_text("utf-8"))
    results = tuple(
        Result(
            technique=row["technique"],
            name=row.get("rung") or row["peer"],
            is_peer="rung" not in row,
            case=(tuple(row["sizes"].items()), row["dtype"], bool(row["causal"])),
            ms=row["ms"],
            flop=row["flop"],
        )
        for row in data["results"]
    )
    return Recording(data["gpu"], tuple(data["compute"]), data["driver"], data["date"], results)
