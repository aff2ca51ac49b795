"""HeadGroups: which query heads read which key/value head, and what that saves of the cache and of its traffic."""

import traitlets

from minikernels.core.errors import ShapeError
from minikernels.figures import head_groups
from minikernels.widgets.data import size
from minikernels.widgets.packing import pack
from minikernels.widgets.page import Widget, front_end

__all__ = ["HeadGroups"]


class HeadGroups(Widget):
    """H query heads over G key/value heads, for one step of decoding.

    Parameters
    ----------
    heads : int
        H, at most 64.
    groups : int
        G, which divides H: H is multi-head attention, 1 multi-query attention.
    keys, width, itemsize : int
        S keys in the cache, D elements a head, bytes an element.
    shared : bool
        Whether a kernel's block takes all the query heads of a group, so that a key crosses HBM once for them.
    quality : dict of int to float, optional
        G -> a model's bits per byte with that many key/value heads, as measured.

    Attributes
    ----------
    groups, shared : int, bool
        Synced both ways.
    head : int
        The query head that is followed. Synced both ways.
    cache_bytes, read_bytes, intensity : int, int, float
        Bytes of the cache for one token; bytes of it that one step reads from HBM; FLOP for each of these bytes.

    Raises
    ------
    ValueError
        If a size is no whole number in its bounds (ShapeError where G does not divide H).
    """

    _esm = front_end("shared.js", "frame.js", "heads.js")
    _css = front_end("shared.css", "frame.css", "heads.css")

    groups = traitlets.Int(1).tag(sync=True)
    shared = traitlets.Bool(True).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)

    def __init__(self, heads=8, groups=2, *, keys=1024, width=64, itemsize=2, shared=True, quality=None):
        self.heads, self.length = size("heads", heads, 1, 64), size("keys", keys)
        self.width, self.itemsize = size("width", width, 1, 4096), size("itemsize", itemsize, 1, 8)
        quality = {self._divisor(g): float(bits) for g, bits in (quality or {}).items()}
        header = {"heads": self.heads, "keys": self.length, "width": self.width, "itemsize": self.itemsize,
                  "divisors": [g for g in range(1, self.heads + 1) if self.heads % g == 0],
                  "quality": {str(g): bits for g, bits in quality.items()}}
        super().__init__(_packed=pack(header, {}), groups=self._divisor(groups), shared=shared)

    def _divisor(self, groups):
        if size("groups", groups) and self.heads % groups:
            raise ShapeError(f"there are {groups} key/value heads for {self.heads} query heads; "
                             f"G={groups} must divide H={self.heads}")
        return int(groups)

    @traitlets.validate("groups")
    def _divides(self, proposal):
        return self._divisor(proposal.value)

    @traitlets.validate("head")
    def _there(self, proposal):
        if not 0 <= proposal.value < self.heads:
            raise traitlets.TraitError(f"no query head {proposal.value}; there are 0 to {self.heads - 1}")
        return proposal.value

    @property
    def cache_bytes(self):
        """Bytes of keys and values that one token adds to the cache."""
        return 2 * self.groups * self.width * self.itemsize

    @property
    def read_bytes(self):
        """Bytes of keys and values that one step of decoding reads from HBM."""
        readers = self.groups if self.shared else self.heads
        return 2 * readers * self.length * self.width * self.itemsize

    @property
    def intensity(self):
        """FLOP for each byte read: 4 H S D of them."""
        return 4 * self.heads * self.length * self.width / self.read_bytes

    @property
    def title(self):
        """Heads, and what a step reads."""
        return (f"HeadGroups: {self.heads} query heads over {self.groups} key/value heads, "
                f"{self.read_bytes:,} bytes read a step")

    def picture(self):
        """Return a matplotlib figure of the heads and what they read."""
        return head_groups(self.heads, self.groups, self.length, self.width, self.itemsize,
                           self.shared).get_figure(root=True)
