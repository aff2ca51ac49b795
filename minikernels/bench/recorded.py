"""Results recorded on GPUs: every file of ``recorded/``, with the hardware, and ratios to the production kernels.

A file holds ``gpu``, ``compute``, ``driver``, ``cuda``, ``versions``, ``date`` and ``results``; a result holds
``technique``, ``rung`` or ``peer``, ``sizes``, ``dtype``, ``causal``, ``ms`` (median), ``runs`` and ``flop``; where
there is more to say of its case, ``variant``, and where bytes are the measure of speed, ``bytes``.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from minikernels import catalog

__all__ = ["FOLDER", "Recording", "Result", "recordings", "spelled", "spoken_share", "spoken_speed"]

FOLDER = Path(__file__).parent / "recorded"


@dataclass(frozen=True)
class Result:
    """One kernel's time on one case.

    Attributes
    ----------
    technique, name : str
        ``name`` is a rung's, or a peer's.
    is_peer : bool
        Whether it is a production kernel, or a rung of another ladder that this one is held against.
    case : tuple
        What must be equal for two times to be compared: sizes, dtype, mask and variant.
    ms : float
        Median time.
    flop : int
        Work of the case.
    bytes : int
        What any kernel must move, where that is the measure of speed; else 0.
    date : str
        When it was timed.
    """

    technique: str
    name: str
    is_peer: bool
    case: tuple
    ms: float
    flop: int
    bytes: int = 0
    date: str = ""

    @property
    def tflops(self):
        """Speed in TFLOP/s."""
        return self.flop / self.ms / 1e9

    @property
    def is_production(self):
        """Whether it is a peer of another hand: the name of another ladder's rung begins with that of its technique."""
        return self.is_peer and self.name.split()[0] not in catalog.names()

    @property
    def speed(self):
        """Speed in words, in the technique's natural unit."""
        return spoken_speed(self.ms, self.flop, self.bytes)


@dataclass(frozen=True)
class Recording:
    """One file: the results of one GPU; its date is that of the last of them."""

    gpu: str
    compute: tuple
    driver: str
    date: str
    results: tuple

    def case(self, technique, dtype):
        """Return the case of this dtype in which most rungs of a technique were measured, or None.

        Cases with a variant count only where there are no others. Of two cases with as many rungs the one that stands
        first in the file counts.
        """
        ours = (r.case for r in self.results if r.technique == technique and not r.is_peer)
        cases = [case for case in ours if case[1] == dtype]
        cases = [case for case in cases if not case[3]] or cases
        return max(dict.fromkeys(cases), key=cases.count, default=None)

    def of(self, technique, rung, case):
        """Return the result of one rung in one case, or None."""
        wanted = (technique, rung, False, case)
        return next((r for r in self.results if (r.technique, r.name, r.is_peer, r.case) == wanted), None)

    def dates(self, results):
        """Return when results were timed: ``2026-11-22``, or ``2026-11-22 and 2026-11-28``."""
        return " and ".join(sorted({result.date or self.date for result in results})) or self.date

    def production(self, technique, case):
        """Return the fastest production kernel of one case, or None."""
        peers = [r for r in self.results if r.is_production and (r.technique, r.case) == (technique, case)]
        return min(peers, key=lambda r: r.ms, default=None)


def spelled(case):
    """Return a case as a reader writes it: ``B4 H16 G16 T4096 S4096 D64 float16 causal``."""
    sizes, dtype, causal, variant = case
    words = [*(f"{letter}{size}" for letter, size in sizes), dtype, "causal" if causal else "", variant]
    return " ".join(word for word in words if word)


def spoken_speed(ms, flop, moved=0):
    """Return a speed in words: GB/s where bytes are what counts, TFLOP/s else.

    >>> spoken_speed(2.0, flop=4 * 10**12), spoken_speed(2.0, flop=10, moved=10**9)
    ('2e+03 TFLOP/s', '500 GB/s')
    """
    return f"{moved / ms / 1e6:,.0f} GB/s" if moved else f"{flop / ms / 1e9:.3g} TFLOP/s"


def spoken_share(peer, result):
    """Return how fast a result is, in percent of a peer's speed, or nothing without a peer."""
    if peer is None:
        return ""
    percent = 100 * peer.ms / result.ms
    return f"{percent:,.0f} %" if percent >= 100 else f"{percent:.3g} %"


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
            case=(tuple(row["sizes"].items()), row["dtype"], bool(row["causal"]), row.get("variant", "")),
            ms=row["ms"],
            flop=row["flop"],
            bytes=row.get("bytes", 0),
            date=row.get("date", data["date"]),
        )
        for row in data["results"]
    )
    return Recording(data["gpu"], tuple(data["compute"]), data["driver"], data["date"], results)
