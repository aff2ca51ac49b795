"""The sizes that every test of block_sparse runs at: ragged blocks, R != C, masks per head, rows that see nothing."""

from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    """Sizes, the block (R, C), whether the mask has a plane for each sequence and head, the density, causality."""

    B: int
    H: int
    G: int
    T: int
    S: int
    D: int
    R: int
    C: int
    per_sequence: bool = True
    per_head: bool = True
    density: float = 0.5
    causal: bool = False

    @property
    def block(self):
        return self.R, self.C

    @property
    def sizes(self):
        return {letter: getattr(self, letter) for letter in "BHGTSD"}


CASES = [
    Case(1, 1, 1, 1, 1, 1, 16, 16, density=1.0),
    Case(2, 4, 2, 63, 65, 32, 16, 16),
    Case(1, 3, 3, 64, 64, 16, 16, 32, causal=True),
    Case(2, 2, 1, 65, 63, 8, 32, 16, per_head=False, causal=True),  # the first two rows see no key
    Case(1, 4, 1, 100, 40, 7, 16, 16, per_sequence=False, causal=True),  # whole blocks of queries see no key
    Case(1, 2, 2, 40, 100, 20, 48, 16, causal=True),  # 48 of 64 threads own a row
    Case(1, 2, 1, 70, 90, 5, 24, 17),  # blocks that no power of two divides
    Case(1, 2, 2, 150, 33, 4, 300, 8),  # a block of queries for three blocks of threads, one of them idle
    Case(2, 2, 2, 50, 50, 16, 16, 16, density=0.0),  # nothing is kept
    Case(1, 2, 1, 33, 47, 64, 16, 64, density=1.0, causal=True),  # a block of keys in two tiles
    Case(3, 6, 2, 17, 19, 12, 1, 1, density=0.4),  # a mask of cells
    Case(2, 4, 2, 48, 48, 16, 16, 16, per_sequence=False, per_head=False),
    Case(1, 2, 1, 20, 30, 130, 16, 16, causal=True),
]


def label(case):
    """Return ``B2-H4-G2-T63-S65-D32-16x16-0.5-causal``."""
    parts = [*(f"{letter}{size}" for letter, size in case.sizes.items()), f"{case.R}x{case.C}", f"{case.density:g}"]
    parts += [] if case.per_sequence else ["sequences"]
    parts += [] if case.per_head else ["heads"]
    return "-".join([*parts, *(["causal"] if case.causal else [])])


def made(case, dtype="float32", seed=0):
    """Return q, k, v and the mask of a case; scores are spread enough for softmax to matter."""
    B, H, G, T, S, D = case.sizes.values()
    rng = np.random.default_rng(seed)
    q, k, v = (rng.normal(0, 1.5, shape).astype(dtype) for shape in ((B, H, T, D), (B, G, S, D), (B, G, S, D)))
    shape = B if case.per_sequence else 1, H if case.per_head else 1, -(-T // case.R), -(-S // case.C)
    return q, k, v, rng.random(shape) < case.density


def right(verdicts):
    """Fail with the oracle's words unless every verdict passed."""
    wrong = [verdict.message for verdict in verdicts.values() if not verdict.passed]
    assert not wrong, "\n".join(wrong)
