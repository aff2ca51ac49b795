"""MaskPainter: paint the blocks that attention keeps, and see what is lost and what is saved."""

import numpy as np
import traitlets

from minikernels.core.errors import ShapeError
from minikernels.figures import block_mask
from minikernels.widgets.data import checked, size
from minikernels.widgets.packing import pack
from minikernels.widgets.page import Widget, front_end

__all__ = ["MaskPainter"]


def _by_head(mass):
    """Return attention with an axis of heads, whether it came without one or with one of sequences before it."""
    mass = np.asarray(mass)
    return mass[None] if mass.ndim == 2 else mass[0] if mass.ndim == 4 and len(mass) == 1 else mass


def _to_page(mask, _):
    """Return a mask as a string of 0 and 1, row after row, head after head."""
    return (np.asarray(mask, np.uint8).ravel() + ord("0")).tobytes().decode()


def _from_page(text, painter):
    """Return the mask that the browser painted."""
    cells = np.frombuffer(text.encode(), np.uint8) - ord("0")
    if cells.size != painter.mass.size or (cells > 1).any():
        raise traitlets.TraitError(f"a mask is {painter.mass.size} cells of 0 or 1")
    return cells.astype(bool).reshape(1, *painter.mass.shape)


class MaskPainter(Widget):
    """A block mask over measured attention, painted by mouse, keys or Python.

    Parameters
    ----------
    mass : array_like of shape (rows, columns), (H, rows, columns) or (1, H, rows, columns)
        Attention that falls into each block, 0 or more: rows are blocks of R queries, columns blocks of C keys.
    block : (int, int)
        R and C.
    queries, keys : int, optional
        T and S where the last blocks are not full: ``rows = ceil(T / R)``, ``columns = ceil(S / C)``.
    width, itemsize : int
        D elements a head, bytes an element: for work and traffic.
    causal : bool
        Whether query t sees key s only if s <= t + S - T; blocks that nobody sees cannot be painted.
    mask : array_like of bool, optional
        What to begin with, of shape (rows, columns), (1|H, rows, columns) or (1, 1|H, rows, columns); all by default.

    Attributes
    ----------
    mask : ndarray of shape (1, H, rows, columns), bool
        Ready for ``block_sparse.attention(q, k, v, painter.mask, block=painter.block)``. Synced both ways; set it whole
        (its elements are read only). Blocks that causality hides are False.
    head : int
        The head shown. Synced both ways.
    together : bool
        Whether a stroke paints every head. Synced both ways.
    density, recall : float
        Share of the visible blocks that is kept, and of the attention that lies in them, over all heads.
    flop, hbm_bytes : int
        Work of the kept blocks, and bytes that a kernel moves which keeps q and o of a row of blocks on the chip.

    Raises
    ------
    ShapeError, DtypeError, ValueError
        If the arrays or the sizes do not fit.
    """

    _esm = front_end("shared.js", "frame.js", "painter.js")
    _css = front_end("shared.css", "frame.css", "painter.css")

    mask = traitlets.Instance(np.ndarray).tag(sync=True, to_json=_to_page, from_json=_from_page)
    head = traitlets.Int(0).tag(sync=True)
    together = traitlets.Bool(True).tag(sync=True)

    def __init__(self, mass, *, block=(16, 16), queries=None, keys=None, width=64, itemsize=2, causal=True, mask=None):
        self.mass = checked("mass", _by_head(mass), "Hij", "fiub")
        if not self.mass.size or (self.mass < 0).any():
            raise ValueError("mass is the attention in each of at least one block, 0 or more")
        self.mass = self.mass.astype(np.float32)
        _, rows, columns = self.mass.shape
        R, C = self.block = tuple(size("block", side) for side in block)
        self.queries = size("queries", rows * R if queries is None else queries)
        self.length = size("keys", columns * C if keys is None else keys)
        for name, count, side, letters in (("queries", self.queries, R, "T/R"), ("keys", self.length, C, "S/C")):
            blocks = {"queries": rows, "keys": columns}[name]
            if -(-count // side) != blocks:
                raise ShapeError(f"{name}={count} in blocks of {side} are ceil({letters})={-(-count // side)} blocks; "
                                 f"mass has {blocks}")
        self.width, self.itemsize = size("width", width), size("itemsize", itemsize, 1, 8)
        self.rows = np.minimum(R, self.queries - R * np.arange(rows))  # queries of each row of blocks
        self.columns = np.minimum(C, self.length - C * np.arange(columns))
        last = R * np.arange(rows) + self.rows - 1 + self.length - self.queries  # the last key that a row sees
        self.visible = (C * np.arange(columns) <= last[:, None]) | (not causal)
        header = {"block": self.block, "rows": self.rows.tolist(), "columns": self.columns.tolist(),
                  "heads": len(self.mass), "width": self.width, "itemsize": self.itemsize, "last": last.tolist()}
        arrays = {"mass": self.mass, "visible": self.visible.astype(np.uint8)}
        super().__init__(_packed=pack(header, arrays), mask=self._whole(True if mask is None else mask))

    def _whole(self, mask):
        """Return a mask for every head with nothing hidden in it, read only; or say what does not fit."""
        mask = np.asarray(mask)
        if mask.dtype != bool:
            raise traitlets.TraitError(f"mask holds {mask.dtype.name}; it must hold true or false")
        shape = (1, *self.mass.shape)
        try:
            mask = np.broadcast_to(mask, shape) & self.visible
        except ValueError:
            letters = "(B, H, ceil(T/R), ceil(S/C))"
            raise ShapeError(f"mask has shape {mask.shape}; it must be {letters} = {shape}") from None
        mask.flags.writeable = False
        return mask

    @traitlets.validate("mask")
    def _fits(self, proposal):
        return self._whole(proposal.value)

    @traitlets.validate("head")
    def _there(self, proposal):
        if not 0 <= proposal.value < len(self.mass):
            raise traitlets.TraitError(f"no head {proposal.value}; there are 0 to {len(self.mass) - 1}")
        return proposal.value

    @property
    def density(self):
        """Share of the visible blocks that is kept."""
        seen = self.visible.sum() * len(self.mass)
        return float(self.mask.sum() / seen) if seen else 0.0

    @property
    def recall(self):
        """Share of the visible attention that lies in kept blocks."""
        mass = np.where(self.visible, self.mass, 0).astype(np.float64)
        return float((mass * self.mask[0]).sum() / mass.sum()) if mass.sum() else 1.0

    @property
    def flop(self):
        """4 R C D for every kept block, whose last rows and columns may be fewer."""
        return int(4 * self.width * (self.mask[0] * self.rows[:, None] * self.columns).sum())

    @property
    def hbm_bytes(self):
        """K and V of every kept block, q and o once."""
        tiles = 2 * (self.mask[0] * self.columns).sum()
        return int(self.width * self.itemsize * (tiles + 2 * self.queries * len(self.mass)))

    @property
    def title(self):
        """What is kept, and what that holds."""
        return f"MaskPainter: {self.density:.0%} of the blocks hold {self.recall:.1%} of the attention"

    def picture(self):
        """Return a matplotlib figure of the mask of the head shown."""
        axes = block_mask(self.mass[self.head], self.mask[0, self.head], self.visible)
        return axes.get_figure(root=True)
