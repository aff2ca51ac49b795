"""The sizes that every test of flash runs at: 1, primes, a tile less and more one, T != S, G = 1 and G = H."""

import numpy as np

CASES = [  # B, H, G, T, S, D, causal
    (1, 1, 1, 1, 1, 1, False),
    (1, 1, 1, 5, 9, 130, True),
    (1, 2, 1, 33, 37, 7, True),
    (1, 3, 1, 70, 31, 3, True),  # T > S: the first 39 rows see no key
    (1, 2, 2, 63, 63, 63, True),
    (1, 2, 1, 64, 64, 64, True),
    (2, 4, 2, 65, 70, 16, False),
    (1, 2, 2, 130, 129, 28, True),
    (1, 6, 3, 17, 97, 8, False),
    (2, 2, 1, 31, 200, 24, True),
    (1, 1, 1, 200, 20, 5, True),  # whole tiles of queries see no key
    (1, 1, 1, 20, 33, 250, True),  # wide rows: tiles of 16 keys
    (1, 1, 1, 129, 1, 32, False),
    (1, 2, 1, 257, 65, 12, True),  # a second tile of queries for every rung
]


def label(case):
    """Return ``B2-H4-G2-T63-S65-D32-causal``."""
    *sizes, causal = case
    return "-".join([*map("{}{}".format, "BHGTSD", sizes), *(["causal"] if causal else [])])


def made(case, dtype="float32", seed=0):
    """Return q, k, v and do."""
    B, H, G, T, S, D, _ = case
    rng = np.random.default_rng(seed)
    return tuple(
        rng.standard_normal(shape).astype(dtype) for shape in ((B, H, T, D), (B, G, S, D), (B, G, S, D), (B, H, T, D)))


def right(verdicts):
    """Fail with the oracle's words unless every verdict passed."""
    wrong = [verdict.message for verdict in verdicts.values() if not verdict.passed]
    assert not wrong, "\n".join(wrong)
