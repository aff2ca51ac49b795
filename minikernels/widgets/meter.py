"""TrafficMeter: what each rung moved, array by array, beside what its closed form predicts."""

from collections.abc import Mapping

import traitlets

from minikernels.core.traffic import Traffic
from minikernels.figures import traffic_bars
from minikernels.widgets.packing import pack
from minikernels.widgets.page import Widget, front_end

__all__ = ["TrafficMeter"]

QUANTITIES = {  # what can be metered -> how it is said
    "hbm_bytes": "HBM bytes, loaded and stored",
    "load_bytes": "HBM bytes loaded",
    "store_bytes": "HBM bytes stored",
    "load_sectors": "sectors loaded",
    "store_sectors": "sectors stored",
    "load_requests": "load requests",
    "barriers": "barriers",
    "flop": "float operations",
}


class TrafficMeter(Widget):
    """Bars of several rungs on one scale: counted filled, predicted as a line across.

    Parameters
    ----------
    rungs : list of (name, predicted, counted)
        ``predicted`` and ``counted`` are `Traffic`, or a dict of array name to `Traffic` to split the bar by array
        (``launch.by_array``), or None where there is none (not both).
    quantity : str, optional
        What to show first: one of `QUANTITIES`.

    Attributes
    ----------
    quantity : str
        Synced both ways.
    selected : str
        The rung that the reader pointed at or focused last, "" at first. Synced both ways.
    logarithmic : bool
        Whether bars grow with the logarithm. Synced both ways.

    Raises
    ------
    TypeError, ValueError
        If the rungs are not such a list.
    """

    _esm = front_end("shared.js", "meter.js")
    _css = front_end("shared.css", "meter.css")

    quantity = traitlets.Unicode("hbm_bytes").tag(sync=True)
    selected = traitlets.Unicode("").tag(sync=True)
    logarithmic = traitlets.Bool(False).tag(sync=True)

    def __init__(self, rungs, quantity="hbm_bytes"):
        self.rungs = [_checked(row) for row in rungs]
        if not self.rungs:
            raise ValueError("TrafficMeter needs at least one rung: [(name, predicted Traffic, counted Traffic)]")
        names = [name for name, _, _ in self.rungs]
        if len(set(names)) < len(names):
            raise ValueError(f"each rung is metered once; this list names {', '.join(names)}")
        rows = [{"name": name, "predicted": _plain(predicted), "counted": _plain(counted)}
                for name, predicted, counted in self.rungs]
        super().__init__(_packed=pack({"rungs": rows, "quantities": QUANTITIES}, {}))
        self.quantity = quantity

    @traitlets.validate("quantity")
    def _metered(self, proposal):
        if proposal.value not in QUANTITIES:
            raise traitlets.TraitError(f"quantity is one of {', '.join(QUANTITIES)}, and not {proposal.value!r}")
        return proposal.value

    @traitlets.validate("selected")
    def _named(self, proposal):
        names = [name for name, _, _ in self.rungs]
        if proposal.value not in ("", *names):
            raise traitlets.TraitError(f"no rung {proposal.value!r}; there are {', '.join(names)}")
        return proposal.value

    @property
    def title(self):
        """The rungs' names."""
        return f"TrafficMeter: {QUANTITIES[self.quantity]} of {', '.join(name for name, _, _ in self.rungs)}"

    def picture(self):
        """Return a matplotlib figure of the quantity chosen now."""
        return traffic_bars(self.rungs, self.quantity).get_figure(root=True)


def _checked(row):
    """Return (name, predicted, counted), or say what is wrong with it."""
    if not isinstance(row, (tuple, list)) or len(row) != 3 or not isinstance(row[0], str):
        raise TypeError(f"a rung is (name, predicted Traffic, counted Traffic), and not {row!r}")
    name, *both = row
    for traffic in both:
        parts = traffic.values() if isinstance(traffic, Mapping) else [traffic]
        wrong = [type(part).__name__ for part in parts if not isinstance(part, (Traffic, type(None)))]
        if wrong:
            raise TypeError(f"rung {name!r}: traffic is a Traffic or a dict of array to Traffic, and not {wrong[0]}")
    if both == [None, None]:
        raise ValueError(f"rung {name!r} has neither predicted nor counted traffic")
    return name, *both


def _plain(traffic):
    """Return {array: {quantity: number}} for the page; the array is "" where traffic is not split."""
    if traffic is None:
        return None
    split = traffic if isinstance(traffic, Mapping) else {"": traffic}
    return {str(array): {name: int(getattr(t, name)) for name in QUANTITIES} for array, t in split.items()}
