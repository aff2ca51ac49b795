"""What one more token costs after how many others, measured here: states and windows against a growing cache."""

import time
from typing import NamedTuple

import numpy as np

from minikernels import gqa
from minikernels import linear_attention as la
from minikernels.linear_attention import bounded, continual

__all__ = ["StepCost", "step_costs"]

SLOTS = 16  # of ABC's memory, and landmarks of Nystrom
WINDOW = 128  # tokens


class StepCost(NamedTuple):
    """One token after `length` others: its time, and the bytes that a head keeps between tokens."""

    length: int
    us: float
    state_bytes: int


def step_costs(lengths, D=32, runs=15, seed=0):
    """Return {what: [StepCost at each length]} of one head, on random tokens.

    Parameters
    ----------
    lengths : sequence of int
        Ascending: how many tokens came before.
    D, runs, seed : int
        Head width, repeats of each measurement (the least time counts), and seed of the tokens.
    """
    q, k, v = np.random.default_rng(seed).standard_normal((3, max(lengths) + runs + 1, D)).astype(np.float32)
    marks = continual.landmarks(q[:WINDOW], SLOTS), continual.landmarks(k[:WINDOW], SLOTS)
    kinds = {"softmax, cache": Cache(k, v), "linear attention": State(D), "ABC": Slots(D),
             "retroactive": Moving(continual.Retroactive(WINDOW, D)),
             "Nystrom": Moving(continual.Nystrom(*marks, WINDOW))}
    return {name: [cost(kind, length, q, k, v, runs) for length in lengths] for name, kind in kinds.items()}


def cost(kind, length, q, k, v, runs):
    """Move one kind on to `length` tokens and return what the next ones cost."""
    kind.advance(length, q, k, v)
    times = []
    for t in range(length, length + runs):
        start = time.perf_counter()
        kind.step(t, q[t], k[t], v[t])
        times.append(time.perf_counter() - start)
    return StepCost(length, 1e6 * min(times), kind.nbytes)


class Cache:
    """Softmax attention over all keys and values so far."""

    def __init__(self, k, v):
        self.k, self.v, self.nbytes = k[None, None], v[None, None], 0

    def advance(self, length, q, k, v):
        """Do nothing: the cache is as long as the text."""

    def step(self, t, q, k, v):
        """Attend to the tokens up to t."""
        seen = self.k[:, :, : t + 1], self.v[:, :, : t + 1]
        self.nbytes = sum(x.nbytes for x in seen)
        return gqa.decode(q[None, None], *seen)


class State:
    """Linear attention with one D x D state."""

    def __init__(self, D):
        self.state, self.decay, self.seen = np.zeros((1, 1, D, D), np.float32), np.array([0.99], np.float32), 0
        self.nbytes = self.state.nbytes

    def advance(self, length, q, k, v):
        """Take the tokens up to `length` in one call."""
        part = (x[None, None, self.seen : length] for x in (q, k, v))
        _, self.state = la.attention(*part, decay=self.decay, initial_state=self.state, return_state=True)
        self.seen = length

    def step(self, t, q, k, v):
        """Take one token."""
        part = (x[None, None, None] for x in (q, k, v))
        o, self.state = la.attention(*part, decay=self.decay, initial_state=self.state, return_state=True)
        self.seen = t + 1
        return o


class Slots:
    """ABC's memory, every token written to all slots with random strengths."""

    def __init__(self, D):
        self.memory, self.seen, self.rng = bounded.Memory(SLOTS, D), 0, np.random.default_rng(0)
        self.scale, self.nbytes = D**-0.5, self.memory.nbytes

    def advance(self, length, q, k, v):
        """Take the tokens up to `length`, at most `WINDOW` of them: what is kept is no larger after more."""
        for t in range(max(self.seen, length - WINDOW), length):
            self.step(t, q[t], k[t], v[t])

    def step(self, t, q, k, v):
        """Take one token."""
        self.memory.write(k, v, self.rng.standard_normal(SLOTS).astype(np.float32))
        self.seen = t + 1
        return self.memory.read(q, self.scale)


class Moving:
    """A window that moves."""

    def __init__(self, moving):
        self.moving, self.seen, self.nbytes = moving, 0, 0

    def advance(self, length, q, k, v):
        """Take the tokens up to `length` that the window still holds."""
        for t in range(max(self.seen, length - WINDOW), length):
            self.step(t, q[t], k[t], v[t])

    def step(self, t, q, k, v):
        """Take one token."""
        o = self.moving.step(q, k, v)
        self.seen, self.nbytes = t + 1, self.moving.nbytes
        return o
