"""PoolView: requests that come, grow, fork and go, and the pages of a pool that hold them."""

import numpy as np
import traitlets

from minikernels.figures import page_pool
from minikernels.widgets.data import size
from minikernels.widgets.packing import pack
from minikernels.widgets.page import Widget, front_end
from minikernels.widgets.pool_model import Pool

__all__ = ["PoolView"]

UNUSED = -1  # in a page table, past a sequence's last page


class PoolView(Widget):
    """Page tables on the left, the pool's pages on the right; requests are issued here, in the page or by Python.

    Parameters
    ----------
    pages, page : int
        Pages of the pool, and P, tokens of a page.
    events : list of tuple
        What happens: ``("allocate", tokens)``, ``("allocate", tokens, like, same)`` for a request whose first `same`
        tokens are those of sequence `like`, ``("append", sequence, tokens)``, ``("fork", sequence)``,
        ``("free", sequence)``. Sequences are numbered from 0 as they come; a refused request gets no number.
    reserve : int, optional
        Tokens that a contiguous cache would set aside for each request; 4 pages by default.
    step : int, optional
        How many of the events have happened; all by default.

    Attributes
    ----------
    events : list
        Synced both ways: a request issued in the browser stands at its end.
    step, selected : int
        Synced both ways; `selected` is the sequence that the buttons act on (-1: none).
    page_table, lengths : ndarray of shape (B, max_pages) and (B,), int32
        Of the sequences at this step, -1 past a sequence's last page: ready for ``paged.decode``.
    references : tuple of int
        How many sequences hold each page.
    utilisation, waste : float
        Share of the slots of pages in use that hold a token, and that hold none.
    says : str
        What the last event did.

    Raises
    ------
    ValueError
        If an event is none, or names a sequence that is not there.
    """

    _esm = front_end("shared.js", "frame.js", "pool_model.js", "pool.js")
    _css = front_end("shared.css", "frame.css", "pool.css")

    events = traitlets.List().tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)

    def __init__(self, pages=24, page=4, events=(("allocate", 9), ("allocate", 6)), *, reserve=None, step=None):
        self.pages, self.P = size("pages", pages, 1, 512), size("page", page, 1, 64)
        self.reserve = size("reserve", 4 * self.P if reserve is None else reserve)
        events = self._checked(events)
        super().__init__(_packed=pack({"pages": self.pages, "P": self.P, "reserve": self.reserve}, {}), events=events)
        self.step = len(self.events) if step is None else int(step)
        self.selected = max(self.pool.held, default=-1)

    def _checked(self, events):
        """Return the events as lists, or say which one cannot be."""
        pool = Pool(self.pages, self.P)
        for number, event in enumerate(events):
            try:
                pool.check(event)
            except ValueError as error:
                raise ValueError(f"event {number}: {error}") from None
            pool.apply(event)
        return [[event[0], *map(int, event[1:])] for event in events]

    @traitlets.validate("events")
    def _possible(self, proposal):
        return self._checked(proposal.value)

    @traitlets.validate("step")
    def _inside(self, proposal):
        return min(max(proposal.value, 0), len(self.events))

    @traitlets.observe("events")
    def _shortened(self, change):
        self.step = min(self.step, len(self.events))

    def _played(self):
        pool, says = Pool(self.pages, self.P), "nothing has happened yet"
        for event in self.events[:self.step]:
            says = pool.apply(event)
        return pool, says

    @property
    def pool(self):
        """The bookkeeping at this step, a copy."""
        return self._played()[0]

    @property
    def says(self):
        """What the last event did."""
        return self._played()[1]

    @property
    def page_table(self):
        """The pages of each sequence, in the order in which they came; -1 past the last."""
        rows = list(self.pool.held.values())
        table = np.full((len(rows), max(map(len, rows), default=0)), UNUSED, np.int32)
        for row, pages in zip(table, rows, strict=True):
            row[:len(pages)] = pages
        return table

    @property
    def lengths(self):
        """The tokens of each sequence."""
        return np.array(list(self.pool.lengths.values()), np.int32)

    @property
    def references(self):
        """How many sequences hold each page."""
        return tuple(self.pool.references)

    @property
    def utilisation(self):
        """Share of the slots of pages in use that hold a token; 0.0 where no page is in use."""
        pool = self.pool
        used = self.P * (self.pages - len(pool.unused))
        return sum(pool.filled) / used if used else 0.0

    @property
    def waste(self):
        """Share of the slots of pages in use that hold no token."""
        return 1 - self.utilisation if any(self.references) else 0.0

    @property
    def title(self):
        """The step and what it did."""
        return f"PoolView: {self.pages} pages of {self.P} tokens, step {self.step}: {self.says}"

    def picture(self):
        """Return a matplotlib figure of the pool and its page tables."""
        pool = self.pool
        return page_pool(pool.held, pool.lengths, pool.references, pool.filled, self.P).get_figure(root=True)
