"""ScanTree: a prefix scan level by level, and what its steps cost in work and in depth."""

import numpy as np
import traitlets

from minikernels.figures import scan_tree
from minikernels.widgets.data import checked
from minikernels.widgets.packing import pack
from minikernels.widgets.page import Widget, front_end

__all__ = ["ALGORITHMS", "ScanTree", "levels"]

ALGORITHMS = {"sequential": "one after the other", "hillis_steele": "Hillis-Steele", "blelloch": "Blelloch"}
MOST = 64  # elements that a picture can hold


def levels(algorithm, n):
    """Return the combinations of a scan of n elements, level by level: ``x[right] = x[left] then x[right]``.

    The combinations of a level read what the level before it left, and so can all be made at once.

    Parameters
    ----------
    algorithm : str
        ``"sequential"``; ``"hillis_steele"``, the fewest levels; ``"blelloch"``, up a binary tree and down again, to
        the prefixes up to each element.
    n : int

    Returns
    -------
    list of list of (left, right)
    """
    reaches = [1 << k for k in range((n - 1).bit_length())]
    if algorithm == "sequential":
        steps = [[(t - 1, t)] for t in range(1, n)]
    elif algorithm == "hillis_steele":
        steps = [[(t - reach, t) for t in range(reach, n)] for reach in reaches]
    else:
        up = [[(t - reach, t) for t in range(2 * reach - 1, n, 2 * reach)] for reach in reaches]
        down = [[(t - reach, t) for t in range(3 * reach - 1, n, 2 * reach)] for reach in reversed(reaches)]
        steps = up + down
    return [step for step in steps if step]


class ScanTree(Widget):
    """The scan of h_t = decay_t h_{t-1} + drive_t, drawn as the combinations of each level.

    Parameters
    ----------
    decay, drive : array_like of shape (T,), optional
        Of up to 64 tokens; 16 ones each by default (then the drive of prefix t counts t + 1).
    algorithm : str
        ``"sequential"``, ``"hillis_steele"`` or ``"blelloch"``.
    step : int, optional
        Levels that have been done; all by default.

    Attributes
    ----------
    algorithm, step, element : str, int, int
        `element` is the one whose origin is lit. Synced both ways.
    work, depth : int
        Combinations in all, and levels: what must wait for one another.
    values : ndarray of shape (T, 2)
        What each element holds after the step: (decay, drive) of the tokens it has taken in.

    Raises
    ------
    ShapeError, DtypeError, ValueError
        If decay and drive are not two arrays of as many numbers, at most 64.
    """

    _esm = front_end("shared.js", "frame.js", "scan.js")
    _css = front_end("shared.css", "frame.css", "scan.css")

    algorithm = traitlets.Enum(list(ALGORITHMS), "blelloch").tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)
    element = traitlets.Int(0).tag(sync=True)

    def __init__(self, decay=None, drive=None, *, algorithm="blelloch", step=None):
        given = next((np.asarray(x) for x in (decay, drive) if x is not None), np.ones(16))
        decay = checked("decay", np.ones(given.shape) if decay is None else decay, "T", "fiu")
        drive = checked("drive", np.ones(given.shape) if drive is None else drive, "T", "fiu", decay=(decay, "T"))
        if not 1 <= len(decay) <= MOST:
            raise ValueError(f"a tree is drawn for 1 to {MOST} elements, and these are {len(decay)}")
        self.leaves = np.stack([decay, drive], axis=1).astype(np.float64)
        self.steps = {name: levels(name, len(decay)) for name in ALGORITHMS}
        arrays = {name: np.stack([self._after(name, step) for step in range(len(steps) + 1)]).astype(np.float32)
                  for name, steps in self.steps.items()}
        super().__init__(_packed=pack({"n": len(decay), "names": ALGORITHMS, "levels": self.steps}, arrays),
                         algorithm=algorithm, element=len(decay) - 1)
        self.step = self.depth if step is None else int(step)

    def _after(self, algorithm, step):
        """Return what each element holds after some levels."""
        held = self.leaves.copy()
        for level in self.steps[algorithm][:step]:
            left, right = (list(places) for places in zip(*level, strict=True))
            first, second = held[left], held[right]
            held[right] = np.stack([first[:, 0] * second[:, 0], second[:, 0] * first[:, 1] + second[:, 1]], axis=1)
        return held

    @traitlets.validate("step")
    def _inside(self, proposal):
        return min(max(proposal.value, 0), self.depth)

    @traitlets.validate("element")
    def _there(self, proposal):
        return min(max(proposal.value, 0), len(self.leaves) - 1)

    @traitlets.observe("algorithm")
    def _shortened(self, change):
        self.step = min(self.step, self.depth)

    @property
    def work(self):
        """Combinations in all."""
        return sum(map(len, self.steps[self.algorithm]))

    @property
    def depth(self):
        """Levels."""
        return len(self.steps[self.algorithm])

    @property
    def values(self):
        """(decay, drive) of what each element has taken in so far."""
        return self._after(self.algorithm, self.step)

    @property
    def title(self):
        """The algorithm and its cost."""
        return (f"ScanTree: {ALGORITHMS[self.algorithm]}, {len(self.leaves)} elements, "
                f"work {self.work}, depth {self.depth}")

    def picture(self):
        """Return a matplotlib figure of the tree, the levels done so far filled."""
        axes = scan_tree(self.steps[self.algorithm], len(self.leaves), self.step, title=self.title.split(": ")[1])
        return axes.get_figure(root=True)
