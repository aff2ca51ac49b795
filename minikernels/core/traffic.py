"""Memory traffic and work: the one data class that predictions and counts share.

A rung's closed form (``traffic.py`` in its folder) returns a `Traffic`; a launch on the SIMT machine
counts one. A prediction fills in the fields it predicts and leaves the rest at zero.
"""

from dataclasses import dataclass, field, fields

__all__ = ["Traffic"]


@dataclass(slots=True)
class Traffic:
    """What a kernel moved and did, summed over a whole launch.

    A *request* is one load or store instruction executed by one warp with at least one active lane. A
    *sector* is 32 aligned bytes of global memory, the unit that HBM and L2 move. *Bytes* are what the
    active lanes asked for, whatever the sectors carried. A *wavefront* is one pass of a warp's request
    through the 32 banks of shared memory; a *conflict* is a wavefront beyond those that the width of the
    access needs. ``flop`` counts additions, subtractions, multiplications, divisions, minima and maxima as one
    and a fused multiply-add as two; ``special`` counts exp, log, sqrt, sin and their kin. ``barriers`` counts
    one for each block that passes one. ``by_array`` and ``by_line`` split a counted total by array name and by
    source line.
    """

    load_requests: int = 0
    load_sectors: int = 0
    load_bytes: int = 0
    store_requests: int = 0
    store_sectors: int = 0
    store_bytes: int = 0
    atomic_requests: int = 0
    atomic_sectors: int = 0
    atomic_bytes: int = 0
    shared_atomic_requests: int = 0
    shared_load_requests: int = 0
    shared_load_wavefronts: int = 0
    shared_load_conflicts: int = 0
    shared_store_requests: int = 0
    shared_store_wavefronts: int = 0
    shared_store_conflicts: int = 0
    barriers: int = 0
    flop16: int = 0
    flop32: int = 0
    flop64: int = 0
    special: int = 0
    branches: int = 0
    divergent_branches: int = 0
    lane_steps: int = 0
    warp_steps: int = 0

    by_array: dict = field(default_factory=dict, compare=False, repr=False)
    by_line: dict = field(default_factory=dict, compare=False, repr=False)

    @property
    def flop(self):
        """Float operations of every width."""
        return self.flop16 + self.flop32 + self.flop64

    @property
    def hbm_bytes(self):
        """Bytes that lanes asked of global memory: loads and stores (atomics stand apart)."""
        return self.load_bytes + self.store_bytes

    @property
    def mean_active_lanes(self):
        """Mean number of active lanes in a warp that executes a statement; 0 where nothing ran."""
        return self.lane_steps / self.warp_steps if self.warp_steps else 0.0

    def __add__(self, other):
        if not isinstance(other, Traffic):
            return NotImplemented
        total = Traffic(**{n: getattr(self, n) + getattr(other, n) for n in NUMBERS})
        for split in ("by_array", "by_line"):
            mine, theirs = getattr(self, split), getattr(other, split)
            getattr(total, split).update({k: mine.get(k, NOTHING) + theirs.get(k, NOTHING) for k in {**mine, **theirs}})
        return total

    def __radd__(self, other):
        return self if isinstance(other, int) and other == 0 else NotImplemented  # lets sum() start from its 0

    def as_dict(self):
        """Return every number as a plain int, for JSON."""
        return {n: int(getattr(self, n)) for n in NUMBERS}


NUMBERS = tuple(f.name for f in fields(Traffic) if not f.name.startswith("by_"))
NOTHING = Traffic()
