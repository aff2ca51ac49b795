"""Which pages belong to whom: the bookkeeping of a page pool, with no keys and values in it.

The same few rules stand in ``static/pool_model.js``, so that a page can issue requests without Python.
"""

from minikernels.widgets.data import size

__all__ = ["Pool"]

FIELDS = {"allocate": (1, 3), "append": (2,), "fork": (1,), "free": (1,)}  # event -> how many numbers follow it


class Pool:
    """Pages of P tokens, reference counts, and sequences that hold pages.

    Attributes
    ----------
    held, lengths : dict of int to list of int, int to int
        Pages and tokens of each sequence.
    references, filled : list of int
        Of each page: sequences that hold it, and slots with a token.
    """

    def __init__(self, pages, P):
        self.P = P
        self.unused = list(range(pages))[::-1]  # taken from its end: page 0 first
        self.references, self.filled = [0] * pages, [0] * pages
        self.held, self.lengths, self.next = {}, {}, 0

    def apply(self, event):
        """Do what an event asks, and return the sentence that says what happened; too few pages change nothing."""
        return getattr(self, f"_{event[0]}")(*event[1:])

    def check(self, event):
        """Raise ValueError unless the event can be asked of the pool as it is now."""
        name, *numbers = event if isinstance(event, (list, tuple)) and event else ("nothing",)
        if name not in FIELDS or len(numbers) not in FIELDS[name]:
            raise ValueError("an event is (\"allocate\", tokens), (\"allocate\", tokens, like, same), (\"append\", "
                             f"sequence, tokens), (\"fork\", sequence) or (\"free\", sequence), and not {event!r}")
        if name in ("allocate", "append"):
            size("tokens", numbers[name == "append"], 0)
        sequence = numbers[1] if len(numbers) == 3 else None if name == "allocate" else numbers[0]
        if sequence is not None and (isinstance(sequence, bool) or sequence not in self.held):
            raise ValueError(f"there is no sequence {sequence!r}: it was freed, or never allocated")
        if len(numbers) == 3:
            size("same", numbers[2], 0, min(numbers[0], self.lengths[sequence]))

    def _allocate(self, tokens, like=None, same=0):
        shared = self.held[like][:same // self.P] if like is not None else []  # whole pages alone can be shared
        needed = -(-tokens // self.P) - len(shared)
        if needed > len(self.unused):
            return self._refused(needed, f"a request of {_tokens(tokens)} needs")
        sequence, self.next = self.next, self.next + 1
        self.held[sequence], self.lengths[sequence] = list(shared), len(shared) * self.P
        for page in shared:
            self.references[page] += 1
        self._grow(sequence, tokens - len(shared) * self.P)
        more = f", {_pages(len(shared))} shared with sequence {like}" if shared else ""
        return f"sequence {sequence} begins with {_tokens(tokens)} in {_pages(len(self.held[sequence]))}{more}"

    def _append(self, sequence, tokens):
        pages, room = self.held[sequence], -self.lengths[sequence] % self.P
        copied = min(room, tokens) > 0 and self.references[pages[-1]] > 1
        needed = copied + -(-max(0, tokens - room) // self.P)
        if needed > len(self.unused):
            return self._refused(needed, f"to append {_tokens(tokens)} to sequence {sequence} takes")
        more = ""
        if copied:  # copy on write
            shared, pages[-1] = pages[-1], self._page()
            self.filled[pages[-1]] = self.filled[shared]
            self._release(shared)
            more = f"; page {shared} was shared, so it is copied to page {pages[-1]}"
        self._grow(sequence, tokens)
        return f"sequence {sequence} appends {_tokens(tokens)}, {_pages(needed)} taken{more}"

    def _fork(self, sequence):
        copy, self.next = self.next, self.next + 1
        self.held[copy], self.lengths[copy] = list(self.held[sequence]), self.lengths[sequence]
        for page in self.held[copy]:
            self.references[page] += 1
        return (f"sequence {copy} is a fork of {sequence}: {_pages(len(self.held[copy]))} shared, "
                "nothing copied")

    def _free(self, sequence):
        before = len(self.unused)
        for page in reversed(self.held.pop(sequence)):
            self._release(page)
        del self.lengths[sequence]
        return f"sequence {sequence} is freed: {_pages(len(self.unused) - before)} given back"

    def _grow(self, sequence, tokens):
        while tokens > 0:
            slot = self.lengths[sequence] % self.P
            if not slot:
                self.held[sequence].append(self._page())
            taken = min(tokens, self.P - slot)
            self.filled[self.held[sequence][-1]] = slot + taken
            self.lengths[sequence] += taken
            tokens -= taken

    def _page(self):
        page = self.unused.pop()
        self.references[page] = 1
        return page

    def _release(self, page):
        self.references[page] -= 1
        if not self.references[page]:
            self.filled[page] = 0
            self.unused.append(page)

    def _refused(self, needed, what):
        return f"out of pages: {what} {_pages(needed)}, and {len(self.unused)} are free; nothing has changed"


def _pages(count):
    return f"{count} page{'' if count == 1 else 's'}"


def _tokens(count):
    return f"{count} token{'' if count == 1 else 's'}"
