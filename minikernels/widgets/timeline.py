"""CacheTimeline: which tokens a compressed cache holds after each step, and the bytes that it takes."""

import numpy as np
import traitlets

from minikernels.core.errors import ShapeError
from minikernels.figures import cache_timeline
from minikernels.widgets.data import checked
from minikernels.widgets.packing import pack
from minikernels.widgets.page import Widget, front_end

__all__ = ["CacheTimeline"]

ABSENT, EVICTED, MERGED, FEWER, HELD = range(5)
LONGEST = 1024


class CacheTimeline(Widget):
    """A token from left to right, a step from top to bottom: held, held in fewer bits, merged or evicted.

    Parameters
    ----------
    held : array_like of shape (steps, tokens)
        What the cache holds after each step: the bits of an element (16, 8, 4, ...; 0 is not held), or true and false.
    cache_bytes, full_bytes : array_like of shape (steps,)
        Bytes of the cache after each step, and of one that keeps everything.
    merged : array_like of shape (tokens,), optional
        The earlier token into whose slot each token went, or -1. A merged token is not held itself.
    arrived : array_like of shape (steps,), optional
        Tokens that had come by each step; by default one comes at every step, after a prompt.
    text : sequence of str, optional
        What each token says.
    step : int, optional
        The step to begin at; the last by default.

    Attributes
    ----------
    step : int
        Synced both ways.
    status : ndarray of shape (steps, tokens), uint8
        0 not come, 1 evicted, 2 merged into a slot that is held, 3 held in fewer bits than the widest, 4 held.
    kept : tuple of int
        The tokens that have a slot after the present step.

    Raises
    ------
    ShapeError, DtypeError, ValueError
        If the arrays do not fit, a token is held before it came, or comes back after it was evicted.
    """

    _esm = front_end("shared.js", "frame.js", "timeline.js")
    _css = front_end("shared.css", "frame.css", "timeline.css")

    step = traitlets.Int(0).tag(sync=True)

    def __init__(self, held, cache_bytes, full_bytes, *, merged=None, arrived=None, text=None, step=None):
        bits = checked("held", held, "st", "biu")
        self.bits = bits.astype(np.int64) * (16 if bits.dtype.kind == "b" else 1)
        steps, tokens = self.bits.shape
        if not (1 <= steps <= LONGEST and 1 <= tokens <= LONGEST):
            raise ValueError(f"a timeline shows 1 to {LONGEST:,} steps and tokens; these are {steps:,} and {tokens:,}")
        self.cache_bytes, self.full_bytes = (checked(name, x, "s", "iu", held=(self.bits, "st")).astype(np.int64)
                                             for name, x in (("cache_bytes", cache_bytes), ("full_bytes", full_bytes)))
        arrived = np.arange(tokens - steps + 1, tokens + 1) if arrived is None else arrived
        self.arrived = checked("arrived", arrived, "s", "iu", held=(self.bits, "st"))
        merged = np.full(tokens, -1) if merged is None else merged
        self.merged = checked("merged", merged, "t", "iu", held=(self.bits, "st")).astype(np.int64)
        self.text = None if text is None else [str(word) for word in text]
        self._check()
        arrays = {"status": self.status, "merged": self.merged.astype(np.int32)}
        header = {"steps": steps, "tokens": tokens, "text": self.text,
                  "bytes": [*self.cache_bytes.tolist(), *self.full_bytes.tolist()],  # to the last byte
                  "bits": sorted({int(b) for b in np.unique(self.bits)} - {0})}
        super().__init__(_packed=pack(header, arrays))
        self.step = steps - 1 if step is None else int(step)

    def _check(self):
        """Raise where the arrays fit each other and still cannot be a cache."""
        steps, tokens = self.bits.shape
        if (self.bits < 0).any() or min(self.cache_bytes.min(), self.full_bytes.min()) < 0:
            raise ValueError("bits and bytes are 0 or more")
        if (np.diff(self.arrived) < 0).any() or self.arrived.min() < 0 or self.arrived.max() > tokens:
            raise ValueError(f"arrived counts tokens: it never falls, from 0 to {tokens}")
        if self.text is not None and len(self.text) != tokens:
            raise ShapeError(f"text has {len(self.text)} words for {tokens} tokens")
        place = np.arange(tokens)
        if (self.merged >= place).any() or (self.merged < -1).any():
            raise ValueError("merged names an earlier token for each token, or -1")
        early = np.argwhere((self.bits > 0) & (place >= self.arrived[:, None]))
        back = np.argwhere((self.bits[1:] > 0) & (self.bits[:-1] == 0) & (place < self.arrived[:-1, None]))
        for found, what, at in ((early, "is held at step {1}, before it came", 0),
                                (back, "comes back at step {1}, after it was evicted", 1)):
            if len(found):
                raise ValueError(f"token {found[0][1]} {what.format(None, found[0][0] + at)}")
        both = np.flatnonzero((self.merged >= 0) & (self.bits > 0).any(axis=0))
        if len(both):
            raise ValueError(f"token {both[0]} is merged into token {self.merged[both[0]]} and held too")

    @traitlets.validate("step")
    def _inside(self, proposal):
        return min(max(proposal.value, 0), len(self.bits) - 1)

    @property
    def status(self):
        """What became of each token after each step."""
        come = np.arange(self.bits.shape[1]) < self.arrived[:, None]
        status = np.where(self.bits > 0, np.where(self.bits < self.bits.max(), FEWER, HELD), EVICTED)
        for token in np.flatnonzero(self.merged >= 0):
            slot = status[:, self.merged[token]]
            status[:, token] = np.where(slot == EVICTED, EVICTED, MERGED)
        return np.where(come, status, ABSENT).astype(np.uint8)

    @property
    def kept(self):
        """The tokens that have a slot after the present step."""
        return tuple(int(t) for t in np.flatnonzero(self.bits[self.step]))

    @property
    def title(self):
        """The step, and what the cache takes."""
        step, kept = self.step, len(self.kept)
        return (f"CacheTimeline: step {step} of {len(self.bits) - 1}, {kept} of {self.arrived[step]} tokens in "
                f"{self.cache_bytes[step]:,} B of {self.full_bytes[step]:,} B")

    def picture(self):
        """Return a matplotlib figure of the whole timeline."""
        return cache_timeline(self.status, self.cache_bytes, self.full_bytes, self.step, self.title.split(": ")[1])
