"""WarpView: the sectors or banks that 32 lanes touch with one request, and what it costs."""

import numpy as np
import traitlets

from minikernels.figures import warp_lanes
from minikernels.simt.transactions import sectors, wavefronts
from minikernels.widgets.expression import LARGEST, ExpressionError, evaluate
from minikernels.widgets.packing import pack
from minikernels.widgets.page import Widget, front_end

__all__ = ["WarpView"]


class WarpView(Widget):
    """One warp's request on the sectors of global memory or the banks of shared memory.

    Parameters
    ----------
    expression : str
        The index that each lane asks for: ``lane``, ``lane * 2 + 1``, ``(lane % 8) * D + lane // 8`` (see
        `minikernels.widgets.expression`). Can be edited in the browser.
    itemsize : int
        Bytes of an element: 1, 2, 4 or 8.
    space : str
        ``"global"`` shows sectors of 32 bytes, ``"shared"`` the 32 banks of 4 bytes.
    names : dict of str to int, optional
        What names other than ``lane`` stand for: ``{"D": 64}``.

    Attributes
    ----------
    expression, itemsize, space, names
        Synced both ways.
    indices : tuple of int
        Each lane's index.
    sectors, wavefronts, conflicts : int
        What the request costs, as the SIMT machine counts it: sectors in global memory; wavefronts in shared memory,
        and how many of them are beyond what the width of the element needs.

    Raises
    ------
    ExpressionError
        If the expression cannot be read or an index is negative.
    """

    _esm = front_end("shared.js", "expression.js", "warp.js")
    _css = front_end("shared.css", "warp.css")

    expression = traitlets.Unicode("lane").tag(sync=True)
    itemsize = traitlets.Int(4).tag(sync=True)
    space = traitlets.Unicode("global").tag(sync=True)
    names = traitlets.Dict(key_trait=traitlets.Unicode(), value_trait=traitlets.Int()).tag(sync=True)
    indices = traitlets.Tuple(read_only=True)
    sectors = traitlets.Int(read_only=True)
    wavefronts = traitlets.Int(read_only=True)
    conflicts = traitlets.Int(read_only=True)

    def __init__(self, expression="lane", itemsize=4, space="global", names=None):
        # Names first: the expression is checked against them.
        super().__init__(_packed=pack({}, {}), names=dict(names or {}))
        self.itemsize, self.space, self.expression = itemsize, space, expression
        self._count()

    @traitlets.validate("itemsize", "space")
    def _known(self, proposal):
        allowed = {"itemsize": (1, 2, 4, 8), "space": ("global", "shared")}[proposal.trait.name]
        if proposal.value not in allowed:
            raise traitlets.TraitError(f"{proposal.trait.name} is one of {', '.join(map(str, allowed))}, "
                                       f"and not {proposal.value!r}")
        return proposal.value

    @traitlets.validate("expression")
    def _readable(self, proposal):
        self._indices(proposal.value, self.names)
        return proposal.value

    @staticmethod
    def _indices(expression, names):
        """Return each lane's index; no lane may reach before the array's start."""
        indices = evaluate(expression, names)
        for lane, index in enumerate(indices):
            if index < 0:
                raise ExpressionError(f"lane {lane}: index {index} is before the array's start")
        return indices

    @traitlets.validate("names")
    def _whole(self, proposal):
        for name, value in proposal.value.items():
            if not name.isidentifier() or not name.isascii() or name in ("lane", "min", "max"):
                raise traitlets.TraitError(f"{name!r} cannot be a name in an expression")
            if abs(value) > LARGEST:
                raise traitlets.TraitError(f"{name} = {value} does not fit in 31 bits")
        self._indices(self.expression, proposal.value)  # the expression must keep its meaning
        return proposal.value

    @traitlets.observe("expression", "itemsize", "space", "names")
    def _count(self, change=None):
        indices = self._indices(self.expression, self.names)
        addresses = np.array([indices], np.int64) * self.itemsize
        waves, needed = wavefronts(addresses, None, self.itemsize)
        values = {"indices": tuple(indices), "sectors": int(sectors(addresses, None)[0]),
                  "wavefronts": int(waves[0]), "conflicts": int(waves[0] - needed[0])}
        for name, value in values.items():
            self.set_trait(name, value)

    @property
    def title(self):
        """The expression and what it costs."""
        cost = (f"{self.sectors} sectors" if self.space == "global"
                else f"{self.wavefronts} wavefronts, bank conflicts: {self.conflicts}")
        return f"WarpView: {self.expression} on {self.itemsize}-byte elements, {cost}"

    def picture(self):
        """Return a matplotlib figure of the request."""
        return warp_lanes(self.indices, self.itemsize, self.space, self.title).get_figure(root=True)
