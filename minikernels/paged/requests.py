"""Requests that come and go, and what becomes of the memory for their keys and values: reserved rows against pages.

A step is one iteration of a server: requests that have arrived and find room are admitted in their order, every running
request gains one token, and those that have all their tokens leave. `Contiguous` and `Pages` say who finds room.

References: [1] Kwon et al., PagedAttention, arXiv:2309.06180, figure 2 and sections 3.1, 4.5 and 6.
"""

from bisect import insort
from collections import deque
from typing import NamedTuple

import numpy as np

__all__ = ["CATEGORIES", "Contiguous", "Pages", "Request", "Timeline", "simulate", "trace"]

LONGEST = 2048  # tokens of a sequence that the model takes, as in [1]
CATEGORIES = ("tokens", "reserved", "internal", "external", "free")


class Request(NamedTuple):
    """One request: when it arrives, the tokens it brings, and the tokens it will have written."""

    step: int
    prompt: int
    output: int


class Timeline(NamedTuple):
    """What `simulate` saw after each step.

    Attributes
    ----------
    slots : int
        The memory, in tokens.
    use : ndarray of shape (steps, 5), int64
        Slots by `CATEGORIES`: *tokens* hold one; *reserved* will hold one of the request that has them; *internal* were
        given to a request that will never use them; *external* are nobody's, while a request waits that they do not
        suffice for; *free* are nobody's and nobody waits. A row's sum is `slots`.
    running : ndarray of shape (steps,), int64
        Requests that are being served.
    finished : int
        Requests that have all their tokens.
    preempted : int
        Times that a request was sent back to the queue because memory ran out.
    """

    slots: int
    use: np.ndarray
    running: np.ndarray
    finished: int
    preempted: int

    @property
    def shares(self):
        """Mean share of the memory by category: {name: share}; 0 of a timeline without steps."""
        total = self.use.sum(axis=0) / max(1, self.slots * len(self.use))
        return dict(zip(CATEGORIES, map(float, total), strict=True))


def trace(count, rate, *, prompt=161.31, output=337.99, spread=1.0, seed=0):
    """Return `count` random requests in the order of their arrival.

    Parameters
    ----------
    count : int
    rate : float
        Requests that arrive in a step, on average; arrivals are a Poisson process.
    prompt, output : float
        Mean tokens of each, log-normal; by default those of the ShareGPT data in [1], figure 11. Alpaca has 19.31 and
        58.45.
    spread : float
        Standard deviation of the logarithms.
    seed : int
    """
    generator = np.random.default_rng(seed)
    arrival = np.cumsum(generator.exponential(1 / rate, count)).astype(int)
    size = generator.lognormal(np.log([prompt, output]) - spread**2 / 2, spread, (count, 2))
    tokens = np.clip(np.rint(size).astype(int), 1, LONGEST // 2)  # together at most LONGEST
    return tuple(Request(int(step), int(n), int(m)) for step, (n, m) in zip(arrival, tokens, strict=True))


class Contiguous:
    """Memory that gives each request one row of neighbouring slots, once and for all: the first gap that suffices.

    Parameters
    ----------
    slots : int
        The memory, in tokens.
    reserve : {"max", "pow2", "oracle"}
        How long the row is: the longest sequence there can be; the prompt and the next power of two of the output; or
        exactly what the request will need, which no server knows. The three baselines of [1], section 6.1.
    """

    def __init__(self, slots, reserve="max"):
        if reserve not in RESERVES:
            raise ValueError(f"reserve is {reserve!r}; it must be one of {', '.join(RESERVES)}")
        self.slots, self.reserve, self.rows = slots, RESERVES[reserve], []  # rows: (begin, end, request), in order

    def admit(self, number, request, tokens):
        """Give request `number`, which has these tokens by now, a row if there is a gap; return whether there is."""
        need, begin = self.reserve(request), 0
        for row in [*self.rows, (self.slots, self.slots, None)]:
            if row[0] - begin >= need:
                insort(self.rows, (begin, begin + need, number), key=lambda taken: taken[0])
                return True
            begin = row[1]
        return False

    def grow(self, number, length):
        """Return whether the request may have `length` tokens: its row was made for them."""
        return True

    def leave(self, number):
        """Take a request's row back."""
        self.rows = [row for row in self.rows if row[2] != number]

    def held(self):
        """Return {request: slots that it was given}."""
        return {number: end - begin for begin, end, number in self.rows}


RESERVES = {
    "max": lambda request: LONGEST,
    "pow2": lambda request: min(LONGEST, request.prompt + (1 << (request.output - 1).bit_length())),
    "oracle": lambda request: request.prompt + request.output,
}


class Pages:
    """Memory in pages of P slots: a request has as many as it has tokens for, wherever they lie.

    Parameters
    ----------
    slots : int
        The memory, in tokens; what does not make a whole page is left over.
    P : int
        Slots of a page.
    """

    def __init__(self, slots, P=16):
        self.slots, self.P, self.unused, self.pages = slots, P, slots // P, {}

    def admit(self, number, request, tokens):
        """Give request `number` pages for its tokens and one more if they are free; return whether they are."""
        return self.grow(number, tokens + 1)

    def grow(self, number, length):
        """Give the request what it lacks for `length` tokens if it is free; return whether it is."""
        lacks = -(-length // self.P) - self.pages.get(number, 0)
        if lacks > self.unused:
            return False
        self.unused, self.pages[number] = self.unused - lacks, self.pages.get(number, 0) + lacks
        return True

    def leave(self, number):
        """Take a request's pages back."""
        self.unused += self.pages.pop(number)

    def held(self):
        """Return {request: slots that it was given}."""
        return {number: pages * self.P for number, pages in self.pages.items()}


def simulate(requests, memory, steps=None):
    """Return the timeline of a server that serves `requests` from `memory`.

    Parameters
    ----------
    requests : sequence of Request, in the order of their arrival
    memory : Contiguous or Pages
        Fresh.
    steps : int, optional
        How long; until the last request has left by default.

    Raises
    ------
    ValueError
        If a request has no prompt or no output, or more tokens than `LONGEST` or than there is memory for.

    Notes
    -----
    Where a running request finds no page, the last one that was admitted goes back to the head of the queue. When there
    is room again, the keys and values of the tokens that it had are computed anew, in one step: [1], section 4.5.
    """
    for request in requests:
        if min(request.prompt, request.output) < 1 or request.prompt + request.output > LONGEST:
            raise ValueError(f"{request} must have a prompt and an output of at most {LONGEST} tokens together")
    arriving, waiting = deque(enumerate(requests)), deque()
    tokens = [request.prompt for request in requests]
    length, use, running, finished, preempted, step = {}, [], [], 0, 0, 0  # length: running request -> its tokens
    while (arriving or waiting or length) if steps is None else step < steps:
        while arriving and arriving[0][1].step <= step:
            waiting.append(arriving.popleft()[0])
        while waiting and memory.admit(waiting[0], requests[waiting[0]], tokens[waiting[0]]):
            length[waiting[0]] = tokens[waiting[0]]
            waiting.popleft()
        if waiting and not length:
            raise ValueError(f"request {waiting[0]}, {requests[waiting[0]]}, does not fit into {memory.slots} slots")
        for number in list(length):
            while number in length and not memory.grow(number, length[number] + 1):
                last = list(length)[-1]  # perhaps this request itself
                preempted += 1
                tokens[last] = send_back(last, memory, length, waiting)
                if not length:
                    raise ValueError(f"request {last}, {requests[last]}, does not fit into {memory.slots} slots")
            if number in length:
                length[number] += 1
        use.append(categories(memory, requests, length, waiting))
        running.append(len(length))
        for number in [n for n, count in length.items() if count == requests[n].prompt + requests[n].output]:
            memory.leave(number)
            del length[number]
            finished += 1
        step += 1
    used = np.array(use, np.int64).reshape(-1, len(CATEGORIES))
    return Timeline(memory.slots, used, np.array(running, np.int64), finished, preempted)


def send_back(number, memory, length, waiting):
    """Take all memory from a running request, put it at the head of the queue, and return its tokens."""
    memory.leave(number)
    waiting.appendleft(number)
    return length.pop(number)


def categories(memory, requests, length, waiting):
    """Return the slots by `CATEGORIES` at one moment."""
    held = memory.held()
    tokens = sum(length.values())
    useful = sum(min(slots, requests[n].prompt + requests[n].output) for n, slots in held.items())
    given = sum(held.values())
    idle = memory.slots - given
    return (tokens, useful - tokens, given - useful, *((idle, 0) if waiting else (0, idle)))
