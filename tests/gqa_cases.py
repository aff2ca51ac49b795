"""The sizes that every test of gqa runs at: 1, primes, a tile less and more one, ragged lengths, G from 1 to H."""

import numpy as np

CASES = [  # B, H, G, S, D, lengths (None: all S)
    (1, 1, 1, 1, 1, None),
    (2, 8, 2, 70, 64, (70, 33)),
    (3, 12, 1, 37, 33, (0, 1, 37)),  # a length of 0; two blocks of heads, the last of them ragged
    (1, 32, 1, 50, 128, None),  # H / G = 32
    (2, 6, 6, 33, 16, (32, 33)),  # multi-head
    (1, 6, 3, 129, 40, (127,)),
    (4, 4, 1, 65, 32, (0, 64, 65, 31)),
    (1, 2, 1, 31, 7, None),
    (1, 3, 3, 64, 130, (63,)),  # wider than a block of 128 threads
    (1, 9, 1, 40, 24, (40,)),  # a second block for one head
    (2, 2, 1, 5, 100, (0, 0)),  # no key at all
    (1, 16, 4, 100, 60, (97,)),
]
PROMPTS = [  # B, H, G, T, S, D, causal
    (1, 1, 1, 1, 1, 1, False),
    (1, 8, 2, 33, 40, 16, True),
    (1, 12, 1, 40, 33, 8, True),  # T > S: the first 7 rows see no key; two blocks of heads
    (2, 4, 2, 65, 70, 24, False),
    (1, 6, 6, 31, 64, 7, True),
    (1, 2, 1, 100, 20, 5, True),  # whole tiles of queries see no key
    (1, 4, 1, 32, 33, 130, True),
    (1, 2, 1, 1, 50, 32, True),
]


def label(case):
    """Return ``B2-H8-G2-S70-D64-70,33``, or ``B1-H8-G2-T33-S40-D16-causal``."""
    *sizes, last = case
    letters = "BHGSD" if len(sizes) == 5 else "BHGTSD"
    told = {None: [], True: ["causal"], False: []}[last] if not isinstance(last, tuple) else [",".join(map(str, last))]
    return "-".join([*map("{}{}".format, letters, sizes), *told])


def made(case, dtype="float32", seed=0):
    """Return q, k, v and lengths of a decode case; what stands past a length is NaN, and must not be read."""
    B, H, G, S, D, lengths = case
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal(shape).astype(dtype) for shape in ((B, H, D), (B, G, S, D), (B, G, S, D)))
    lengths = np.asarray([S] * B if lengths is None else lengths)
    for b, n in enumerate(lengths):
        k[b, :, n:] = v[b, :, n:] = np.nan
    return q, k, v, lengths


def prompt(case, dtype="float32", seed=0):
    """Return q, k and v of an attention case."""
    B, H, G, T, S, D, _ = case
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(x).astype(dtype) for x in ((B, H, T, D), (B, G, S, D), (B, G, S, D)))


def right(verdicts):
    """Fail with the oracle's words unless every verdict passed."""
    wrong = [verdict.message for verdict in verdicts.values() if not verdict.passed]
    assert not wrong, "\n".join(wrong)
