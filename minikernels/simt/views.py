"""Indexing: from an array and an index to elements, with bounds checked and transactions counted.

What an access costs depends on which lanes touch which elements, and in a loop that repeats: ``k_smem[tx, d]``
has the same lane part for every ``d``. A `Pattern` keeps the lane part of one source access together with what
it counts as, and holds as long as the index arrays, the array and the mask are the same objects.
"""

import numpy as np

from minikernels.core.traffic import Traffic
from minikernels.simt.findings import Finding, short
from minikernels.simt.lanes import WARP
from minikernels.simt.transactions import SECTOR_BYTES, sectors, wavefronts

__all__ = ["Pattern", "Site", "Tally", "View", "locate"]


class Site:
    """One array access in the source: its line, and the pattern it saw last."""

    __slots__ = ("line", "pattern", "tallies")

    def __init__(self, line):
        self.line, self.pattern, self.tallies = line, None, {}


class Tally:
    """What one site did to one storage with one kind of operation."""

    __slots__ = ("bytes", "ideal", "requests", "units")

    def __init__(self):
        self.requests = self.units = self.ideal = self.bytes = 0

    def traffic(self, space, op):
        """Return the tally as the fields of `Traffic` it belongs to."""
        if space == "global":
            return Traffic(**{f"{op}_requests": self.requests, f"{op}_sectors": self.units, f"{op}_bytes": self.bytes})
        if op == "atomic":
            return Traffic(shared_atomic_requests=self.requests)
        return Traffic(**{f"shared_{op}_requests": self.requests, f"shared_{op}_wavefronts": self.units,
                          f"shared_{op}_conflicts": self.units - self.ideal})


class View:
    """An array as the kernel sees it: a storage with shape, strides and a start.

    Attributes
    ----------
    storage : GlobalStorage, SharedStorage, LocalStorage or ConstStorage
    shape : tuple
        Extents; NumPy integers, or lane arrays where a slice's ends differ between lanes.
    strides : tuple of int
        In elements.
    start : int or ndarray
        Flat element of index (0, ..., 0); an array where it differs between lanes.
    """

    __slots__ = ("shape", "start", "storage", "strides")

    def __init__(self, storage, shape, strides, start=0):
        self.storage, self.shape, self.strides, self.start = storage, shape, strides, start

    @classmethod
    def whole(cls, storage, shape, strides=None, start=0):
        """Return a view of all of a storage, C order where no strides are given."""
        if strides is None:
            strides, step = [], 1
            for n in reversed(shape):
                strides.insert(0, step)
                step *= n
        return cls(storage, tuple(map(np.int64, shape)), tuple(strides), start)

    def __repr__(self):
        return f"<{self.storage.space} array {self.storage.name}, {len(self.shape)}-D>"

    @property
    def ndim(self):
        """Number of axes."""
        return len(self.shape)

    def part(self, machine, site, index):
        """Return the view that a partial index or a slice selects."""
        start, shape, strides = self.start, [], []
        index = list(index) + [slice(None)] * (self.ndim - len(index))
        for axis, (i, n, stride) in enumerate(zip(index, self.shape, self.strides)):
            if isinstance(i, slice):
                low, extent, step = _slice(i, n)
                start = start + low * stride
                shape.append(extent)
                strides.append(stride * step)
            else:
                _check(machine, site, self, axis, i, n)
                start = start + (i.astype(np.int64) if i.ndim else int(i)) * stride
        if isinstance(start, np.generic):
            start = int(start)
        return View(self.storage, tuple(shape), tuple(strides), start)


class Pattern:
    """The lane part of an access, and what it counts as."""

    __slots__ = ("arrays", "base", "distinct", "lane", "located", "mask", "parts", "positions", "scalars", "tally",
                 "units", "view")


def _slice(s, n):
    """Return (start, extent, step) of a slice of an axis of extent n, clipped as Python clips."""
    for end in (s.start, s.stop, s.step):
        if end is not None and (not hasattr(end, "dtype") or end.dtype.kind not in "iu"):
            raise TypeError("the ends of a slice are integers: use // or int(...)")
    if s.step is not None and s.step.ndim:
        raise TypeError("the step of a slice is the same in every thread")
    step = 1 if s.step is None else int(s.step)
    if step < 1:
        raise TypeError("slices with a negative or zero step are not supported; index from the end instead")
    low = np.int64(0) if s.start is None else s.start.astype(np.int64)
    high = n if s.stop is None else s.stop.astype(np.int64)
    low = np.where(low < 0, np.maximum(low + n, 0), np.minimum(low, n))[()]
    high = np.where(high < 0, np.maximum(high + n, 0), np.minimum(high, n))[()]
    return low, np.maximum((high - low + step - 1) // step, 0), step


def _check(machine, site, view, axis, index, extent):
    """Report the first active lane whose index is outside [0, extent)."""
    if index.dtype.kind == "f":
        raise TypeError(f"an index of {view.storage.name} is a {index.dtype}; indices are integers: use // or int(...)")
    if index.ndim == 0 and np.ndim(extent) == 0:
        if 0 <= index < extent:
            return
        bad = machine.mask.full
    else:
        if index.min() >= 0 and (index < extent).all():
            return
        bad = machine.mask.full & ~((index >= 0) & (index < extent))
        if not bad.any():
            return
    row, thread = np.argwhere(bad)[0]
    value = int(np.broadcast_to(index, bad.shape)[row, thread])
    limit = int(np.broadcast_to(extent, bad.shape)[row, thread])
    machine.out_of_bounds(site, view, axis, value, limit, (row, thread))


def locate(machine, site, view, index):
    """Return (lane part or None, uniform offset, pattern) of an access, bounds checked."""
    pattern = site.pattern
    if pattern is not None and pattern.view is view and pattern.mask is machine.mask:
        for position, array in zip(pattern.positions, pattern.arrays):
            if index[position] is not array:
                break
        else:
            offset = pattern.base
            for position, stride, extent in pattern.scalars:
                i = index[position]
                if i.ndim or not 0 <= i < extent:
                    break
                offset += int(i) * stride
            else:
                return pattern.lane, offset, pattern
    return _learn(machine, site, view, index)


def _learn(machine, site, view, index):
    """Build the pattern of an access from nothing."""
    p = Pattern()
    p.view, p.mask = view, machine.mask
    p.positions, p.arrays, p.scalars = [], [], []
    parts = []  # index arrays times strides
    p.base, offset = 0, 0
    if isinstance(view.start, np.ndarray):
        parts.append(view.start)
    else:
        p.base = offset = int(view.start)
    whole_extents = True
    machine.check_index(view, index)
    for axis, (i, n, stride) in enumerate(zip(index, view.shape, view.strides)):
        _check(machine, site, view, axis, i, n)
        if i.ndim:
            p.positions.append(axis)
            p.arrays.append(i)
            inside = i.min() >= 0 and (i < n).all()
            # lanes that are switched off may hold any index; send them to element 0
            parts.append((i if inside else np.where((i >= 0) & (i < n), i, 0)).astype(np.int64) * stride)
        else:
            offset += int(i) * stride
            whole_extents &= not isinstance(n, np.ndarray)
            p.scalars.append((axis, stride, n))
    p.parts = parts
    p.lane = sum(parts[1:], parts[0]) if parts else None
    p.units, p.located, p.distinct = {}, None, None
    p.tally = None
    site.pattern = p if whole_extents else None
    return p.lane, offset, p


def tally(site, pattern, op):
    """Return the counter that the site's accesses of this storage belong to."""
    if pattern.tally is None:
        storage = pattern.view.storage
        key = storage.space, storage.name, op
        if key not in site.tallies:
            site.tallies[key] = Tally()
        pattern.tally = site.tallies[key]
    return pattern.tally


def count(machine, site, pattern, offset, op):
    """Add one access to the counters; return (requests, sectors or wavefronts)."""
    storage, mask = pattern.view.storage, machine.mask
    entry = tally(site, pattern, op)
    if pattern.lane is None or pattern.lane.shape[1] == 1:
        requests = units = ideal = mask.warps
    else:
        period = SECTOR_BYTES if storage.space == "global" else 4
        residue = (offset * storage.itemsize + storage.address) % period
        key = residue, op
        if key not in pattern.units:
            pattern.units[key] = _transactions(pattern, mask, residue, period, op)
        requests, units, ideal = pattern.units[key]
    entry.requests += requests
    entry.units += units
    entry.ideal += ideal
    entry.bytes += mask.lanes * storage.itemsize
    return requests, units


def _transactions(pattern, mask, residue, period, op):
    """Return (requests, sectors or wavefronts, conflict-free wavefronts) over all warps."""
    storage, geometry = pattern.view.storage, mask.geometry
    shift, lane = _split(pattern.parts)
    if shift is not None:
        moved = np.unique(shift * storage.itemsize % period)
        if len(moved) > 1 or lane is None:
            lane = pattern.lane
        else:
            residue = (residue + int(moved[0])) % period
    times = 1
    bits = mask.bits
    if bits is not None and bits.shape[1] == 1:
        per_block = lane.shape[0] == 1  # whole blocks are on or off
        rows = slice(None) if per_block else np.broadcast_to(bits, (geometry.blocks, 1))[:, 0]
        times = int(np.count_nonzero(np.broadcast_to(bits, (geometry.blocks, 1)))) if per_block else 1
        lane, active = np.broadcast_to(lane, (lane.shape[0], geometry.width))[rows], None
    elif lane.shape[0] == 1 and (bits is None or bits.shape[0] == 1):
        times, active = geometry.blocks, bits
    else:
        lane = np.broadcast_to(lane, (geometry.blocks, geometry.width))
        active = None if bits is None else mask.full
    addresses = (lane * storage.itemsize + residue).reshape(-1, WARP)
    if active is not None:
        active = np.ascontiguousarray(active).reshape(-1, WARP)
    if not len(addresses):
        return 0, 0, 0
    if storage.space == "global":
        units = ideal = int(sectors(addresses, active).sum())
    else:
        each, best = wavefronts(addresses, active, storage.itemsize, store=op == "store")
        units, ideal = int(each.sum()), int(best.sum())
    requests = len(addresses) if active is None else int(np.count_nonzero(active.any(axis=1)))
    return requests * times, units * times, ideal * times


def _split(parts):
    """Split the lane part into (what is uniform in a block, what is the same in every block)."""
    shift = lane = None
    for part in parts:
        if part.shape[1] == 1:
            shift = part if shift is None else shift + part
        elif part.shape[0] == 1:
            lane = part if lane is None else lane + part
        else:
            return None, sum(parts[1:], parts[0])
    return shift, lane


def out_of_bounds(machine, site, view, axis, value, extent, at):
    """Build the finding of an index outside its axis."""
    storage = view.storage
    block, thread = machine.geometry.name(*at)
    ordinal = "" if len(view.shape) == 1 else f" on axis {axis}"
    hint = ("numba would wrap round to the array's other end and a raw kernel would read somebody else's memory; "
            "guard the edge") if value < 0 else "guard the ragged edge with an if"
    text = (f"line {site.line}: thread {short(thread)} of block {short(block)} indexes {storage.name} with "
            f"{value}{ordinal}, which has {extent} elements there; {hint}")
    return Finding("out_of_bounds", text, storage.name, (value,), (site.line,), ((block, thread),))
