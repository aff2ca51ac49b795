"""A pool of pages for keys and values: allocated on demand, counted, shared, and copied when a sharer writes.

Token t of a sequence lives in page ``pages_of(sequence)[t // P]``, slot ``t % P``. A page has one reference for every
sequence that it is part of, and is free when it has none.
"""

import hashlib

import numpy as np

from minikernels.core.errors import ShapeError
from minikernels.core.shapes import bind, same_dtype
from minikernels.launch import home, to_cupy

__all__ = ["UNUSED", "OutOfPagesError", "PagePool"]

UNUSED = -1  # in a page table, past a sequence's last page: no page at all, so that who follows it is found out


class OutOfPagesError(RuntimeError):
    """A pool has fewer free pages than an operation needs; the pool is as it was before."""


class PagePool:
    """Pages of P tokens for the keys and values of any number of sequences.

    Parameters
    ----------
    pages : int
        Pages in the pool.
    P, G, D : int
        Tokens of a page, key/value heads, head width.
    dtype : dtype
        Of keys and values.
    like : array, optional
        An array of the kind that the pages should be: a CuPy array for pages on a GPU; NumPy by default.

    Attributes
    ----------
    k_pages, v_pages : array of shape (pages, P, G, D)
        The memory. A slot that no sequence holds may contain anything.

    Notes
    -----
    No operation changes what another sequence reads, and one that fails changes nothing. Which pages are whose is kept
    on the host. On a GPU a page that becomes full is read by the host, once, to find its like.

    References
    ----------
    .. [1] Kwon et al., Efficient Memory Management for Large Language Model Serving with PagedAttention,
       arXiv:2309.06180, sections 4.2 to 4.4.

    Examples
    --------
    >>> pool = PagePool(pages=4, P=2, G=1, D=1, dtype=np.float32)
    >>> prompt = np.ones((3, 1, 1), np.float32)
    >>> first = pool.allocate(prompt, prompt)
    >>> second = pool.fork(first)  # shares both pages
    >>> pool.append(second, 5 * prompt[0], prompt[0])  # would write to a shared page: gets a copy
    >>> pool.pages_of(first), pool.pages_of(second), pool.used_pages
    ((0, 1), (0, 2), 3)
    >>> page_table, lengths = pool.table([first, second])
    >>> page_table.tolist(), lengths.tolist()
    ([[0, 1], [0, 2]], [3, 4])
    """

    def __init__(self, pages, P, G, D, dtype=np.float16, *, like=None):
        if P < 1 or min(pages, G, D) < 0:
            raise ShapeError(f"a pool of pages={pages}, P={P}, G={G}, D={D}: P must be at least 1, no size negative")
        self.k_pages, self.v_pages = (np.zeros((pages, P, G, D), dtype, like=like) for _ in "kv")
        self.P = P
        self.unused = list(range(pages))[::-1]  # taken from its end: page 0 first
        self.references = [0] * pages
        self.filled = [0] * pages  # slots of a page that hold a token
        self.held = {}  # sequence -> its pages
        self.lengths = {}  # sequence -> its tokens
        self.page_with = {}  # digest -> a full page with that content
        self.digest_of = {}  # the other way round
        self.next_sequence = 0

    def allocate(self, k=None, v=None):
        """Return a new sequence, an int: empty, or of the tokens k and v (n, G, D), taken in as by `append`."""
        sequence = self.next_sequence
        self.held[sequence], self.lengths[sequence] = [], 0
        try:
            if k is not None or v is not None:
                self.append(sequence, k, v)
        except Exception:
            del self.held[sequence], self.lengths[sequence]
            raise
        self.next_sequence += 1
        return sequence

    def append(self, sequence, k, v):
        """Add one token, k and v of shape (G, D), or several, (n, G, D), to the end of a sequence.

        Where the tokens make a whole page whose like is in the pool, that page is shared and nothing is written: equal
        prompts, and prompts that begin alike, are held once. A last page that others share is copied first.

        Raises
        ------
        OutOfPagesError
            If too few pages are free; nothing has changed.
        ShapeError, DtypeError, DeviceError
            If k and v do not fit the pool's pages.
        ValueError
            If there is no such sequence.
        """
        pages, length, (k, v) = self.pages_of(sequence), self.length(sequence), self.tokens(k, v)
        slot = length % self.P
        into_last = min(len(k), -length % self.P)  # tokens for which the last page has room
        copied = into_last > 0 and self.references[pages[-1]] > 1
        plan = self.planned(k, v, into_last)
        self.require(copied + sum(new for *_, new in plan), f"append {len(k)} tokens to sequence {sequence}")
        if into_last:
            self.write(self.own(sequence, len(pages) - 1), slot, k[:into_last], v[:into_last])
        for first, digest, new in plan:
            page = self.unused.pop() if new else self.page_with[digest]
            self.references[page] += 1
            self.held[sequence].append(page)
            if new:
                self.write(page, 0, k[first : first + self.P], v[first : first + self.P])
        self.lengths[sequence] += len(k)

    def overwrite(self, sequence, position, k, v):
        """Put one token, k and v of shape (G, D), in the place of another; a page that others share is copied first.

        Raises
        ------
        IndexError
            If `position` is not one of the sequence's tokens; -1 is the last.
        OutOfPagesError
            If a copy is needed and no page is free; nothing has changed.
        """
        pages, length = self.pages_of(sequence), self.length(sequence)
        if not -length <= position < length:
            raise IndexError(f"sequence {sequence} has {length} tokens; there is no token {position}")
        k, v = self.tokens(k, v)
        if len(k) != 1:
            raise ShapeError(f"k and v hold {len(k)} tokens; overwrite takes one")
        index, slot = divmod(position % length, self.P)
        self.require(self.references[pages[index]] > 1, f"copy a shared page of sequence {sequence}")
        self.write(self.own(sequence, index), slot, k, v)

    def fork(self, sequence):
        """Return a new sequence of the same tokens, which shares every page; no page is needed and none is written."""
        pages, length = self.pages_of(sequence), self.length(sequence)
        copy, self.next_sequence = self.next_sequence, self.next_sequence + 1
        self.held[copy], self.lengths[copy] = list(pages), length
        for page in pages:
            self.references[page] += 1
        return copy

    def free(self, sequence):
        """Forget a sequence; its pages without another owner are free. Its number is never given out again."""
        for page in reversed(self.pages_of(sequence)):
            self.release(page)
        del self.held[sequence], self.lengths[sequence]

    def length(self, sequence):
        """Return how many tokens a sequence has."""
        self.pages_of(sequence)
        return self.lengths[sequence]

    def pages_of(self, sequence):
        """Return the pages of a sequence in order, a tuple of ints."""
        if sequence not in self.held:
            raise ValueError(f"there is no sequence {sequence!r} in the pool: it was freed, or never allocated")
        return tuple(self.held[sequence])

    def table(self, sequences):
        """Return ``page_table`` (B, max_pages) and ``lengths`` (B,), both int32, as `minikernels.paged.decode` wants.

        Entries past a sequence's last page are `UNUSED`. Both arrays are of the kind of the pages.
        """
        rows = [self.pages_of(sequence) for sequence in sequences]
        page_table = np.full((len(rows), max(map(len, rows), default=0)), UNUSED, np.int32)
        for row, pages in zip(page_table, rows, strict=True):
            row[: len(pages)] = pages
        lengths = np.array([self.lengths[sequence] for sequence in sequences], np.int32)
        return tuple(np.asarray(x, like=self.k_pages) for x in (page_table, lengths))

    def gather(self, sequence):
        """Return copies of a sequence's keys and values, both of shape (length, G, D)."""
        length = self.length(sequence)
        pages = np.asarray(np.array(self.pages_of(sequence), np.int64), like=self.k_pages)
        return tuple(x[pages].reshape(-1, *x.shape[2:])[:length] for x in (self.k_pages, self.v_pages))

    @property
    def sequences(self):
        """The sequences that are allocated, a tuple of ints."""
        return tuple(self.held)

    @property
    def used_pages(self):
        """Pages that belong to at least one sequence."""
        return len(self.references) - len(self.unused)

    @property
    def free_pages(self):
        """Pages that belong to none."""
        return len(self.unused)

    @property
    def utilisation(self):
        """Share of all the pool's slots that hold a token, a shared one counted once; 0.0 in a pool without slots."""
        return sum(self.filled) / max(1, self.P * len(self.filled))

    @property
    def internal_waste(self):
        """Share of the slots of the pages in use that hold no token: at most P - 1 slots a sequence."""
        slots = self.P * self.used_pages
        return (slots - sum(self.filled)) / max(1, slots)

    def tokens(self, k, v):
        """Return k and v as arrays (n, G, D) of the pages' kind, or raise."""
        if home(k_pages=self.k_pages, k=k, v=v) == "gpu":
            k, v = to_cupy(k, "k"), to_cupy(v, "v")
        layout = "GD" if getattr(k, "ndim", 3) == 2 else "nGD"
        bind(k_pages=(self.k_pages, ("pages", "P", "G", "D")), k=(k, layout), v=(v, layout))
        same_dtype([str(self.k_pages.dtype)], k=k, v=v)
        return (k[None], v[None]) if layout == "GD" else (k, v)

    def planned(self, k, v, begin):
        """Return (first token, digest, whether it needs a new page) of every page from token `begin` on."""
        plan, met = [], set()
        for first in range(begin, len(k), self.P):
            digest = None
            if first + self.P <= len(k):
                digest = fingerprint(k[first : first + self.P], v[first : first + self.P])
            plan.append((first, digest, digest is None or (digest not in self.page_with and digest not in met)))
            met.add(digest)
        return plan

    def require(self, pages, purpose):
        """Raise OutOfPagesError unless so many pages are free."""
        if pages > self.free_pages:
            total = len(self.references)
            raise OutOfPagesError(f"{pages} pages are needed to {purpose}, and {self.free_pages} of {total} are free")

    def own(self, sequence, index):
        """Return page `index` of a sequence, replaced by a copy where others share it: copy on write."""
        page = self.held[sequence][index]
        if self.references[page] == 1:
            return page
        copy = self.unused.pop()
        for pages in (self.k_pages, self.v_pages):
            pages[copy] = pages[page]
        self.references[copy], self.filled[copy] = 1, self.filled[page]
        self.release(page)
        self.held[sequence][index] = copy
        return copy

    def write(self, page, slot, k, v):
        """Put tokens into a page of one owner, from `slot` on; a full page can be found by its content from then on."""
        self.forget(page)
        end = slot + len(k)
        self.k_pages[page, slot:end], self.v_pages[page, slot:end] = k, v
        self.filled[page] = max(self.filled[page], end)
        if self.filled[page] == self.P:
            digest = fingerprint(self.k_pages[page], self.v_pages[page])
            if digest not in self.page_with:
                self.page_with[digest], self.digest_of[page] = page, digest

    def release(self, page):
        """Take one reference from a page; without any it is free."""
        self.references[page] -= 1
        if self.references[page] == 0:
            self.forget(page)
            self.filled[page] = 0
            self.unused.append(page)

    def forget(self, page):
        """Let the page be found by its content no more."""
        self.page_with.pop(self.digest_of.pop(page, None), None)


def fingerprint(k, v):
    """Return 16 bytes that equal pages share; two different pages share them with a chance of 2^-128."""
    return hashlib.blake2b(k.tobytes() + v.tobytes(), digest_size=16).digest()
