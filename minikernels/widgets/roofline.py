"""Roofline: where each kernel stands under what a machine was measured to reach."""

import math
from collections.abc import Mapping

import traitlets

from minikernels.figures import roofline
from minikernels.widgets.packing import pack
from minikernels.widgets.page import Widget, front_end

__all__ = ["Roofline"]


class Roofline(Widget):
    """Measured kernels by intensity (FLOP for each byte asked of HBM) and speed, under measured ceilings.

    Parameters
    ----------
    points : list of dict
        Each with ``name``, ``flop``, ``bytes`` (of global memory) and ``ms``; ``peer`` (a production kernel) and
        ``compute`` (the name of the ceiling it works under; the highest by default) are optional.
    machine : dict
        ``{"name", "source", "bandwidth": [{"name", "gb_per_s"}], "compute": [{"name", "tflop_per_s"}]}``: ceilings that
        a program measured on that machine, and in ``source`` when and how.
    selected : str, optional
        The kernel to begin with.

    Attributes
    ----------
    selected : str
        Synced both ways.
    standing : dict
        Of each kernel: ``intensity``, ``tflop_per_s``, ``roof`` (TFLOP/s above it), ``share`` of that, and ``bound``:
        ``"memory"`` or ``"compute"``.

    Raises
    ------
    TypeError, ValueError
        If a point or a ceiling lacks a number above 0, or the ceilings have no source.
    """

    _esm = front_end("shared.js", "frame.js", "roofline.js")
    _css = front_end("shared.css", "frame.css", "roofline.css")

    selected = traitlets.Unicode("").tag(sync=True)

    def __init__(self, points, machine, selected=""):
        self.machine = _machine(machine)
        self.points = [_point(point, self.machine) for point in points]
        names = [point["name"] for point in self.points]
        if not names or len(set(names)) < len(names):
            raise ValueError("a roofline shows at least one kernel, each once; this list names "
                             f"{', '.join(names) or 'none'}")
        standing = self.standing
        rows = [{**point, **standing[point["name"]]} for point in self.points]
        super().__init__(_packed=pack({"points": rows, "machine": self.machine}, {}))
        self.selected = selected

    @traitlets.validate("selected")
    def _named(self, proposal):
        names = [point["name"] for point in self.points]
        if proposal.value not in ("", *names):
            raise traitlets.TraitError(f"no kernel {proposal.value!r}; there are {', '.join(names)}")
        return proposal.value

    @property
    def standing(self):
        """How each kernel stands under its roof."""
        fastest = max(one["gb_per_s"] for one in self.machine["bandwidth"])
        ceilings = {one["name"]: one["tflop_per_s"] for one in self.machine["compute"]}
        found = {}
        for point in self.points:
            intensity, speed = point["flop"] / point["bytes"], point["flop"] / point["ms"] / 1e9
            slope, ceiling = intensity * fastest / 1e3, ceilings[point["compute"]]
            found[point["name"]] = {
                "intensity": intensity, "tflop_per_s": speed, "roof": min(slope, ceiling),
                "share": speed / min(slope, ceiling), "bound": "memory" if slope < ceiling else "compute"}
        return found

    @property
    def title(self):
        """The machine, and how many kernels."""
        return f"Roofline: {len(self.points)} kernels on {self.machine['name']}"

    def picture(self):
        """Return a matplotlib figure of the roofs and the kernels under them."""
        rows = [{**point, **self.standing[point["name"]]} for point in self.points]
        return roofline(rows, self.machine).get_figure(root=True)


def _machine(machine):
    """Return the machine as plain data, or say what it lacks."""
    if not isinstance(machine, Mapping):
        raise TypeError("a machine is {\"name\", \"source\", \"bandwidth\", \"compute\"}, and this is a "
                        f"{type(machine).__name__}")
    source = str(machine.get("source") or "")
    if not source:
        raise ValueError("these ceilings have no source: say in machine[\"source\"] when and how they were measured")
    kinds = {"bandwidth": "gb_per_s", "compute": "tflop_per_s"}
    plain = {kind: [{"name": str(one["name"]), unit: _number(f"{kind} {unit}", one.get(unit))}
                    for one in machine.get(kind, ())] for kind, unit in kinds.items()}
    for kind, listed in plain.items():
        if not listed:
            raise ValueError(f"the machine has no {kind} ceiling: a roof needs one of each")
    return {"name": str(machine.get("name", "")), "source": source, **plain}


def _point(point, machine):
    """Return a point as plain data, or say what it lacks."""
    if not isinstance(point, Mapping) or "name" not in point:
        raise TypeError(f"a kernel is {{\"name\", \"flop\", \"bytes\", \"ms\"}}, and not {point!r}")
    name = str(point["name"])
    numbers = {key: _number(f"{key} of {name}", point.get(key)) for key in ("flop", "bytes", "ms")}
    ceilings = {one["name"]: one["tflop_per_s"] for one in machine["compute"]}
    compute = point.get("compute", max(ceilings, key=ceilings.get))
    if compute not in ceilings:
        raise ValueError(f"{name} works under {compute!r}; the machine's ceilings are {', '.join(ceilings)}")
    return {"name": name, **numbers, "peer": bool(point.get("peer", False)), "compute": compute}


def _number(what, value):
    """Return a finite number above 0."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"{what} is a number above 0, and not {value!r}")
    return number
