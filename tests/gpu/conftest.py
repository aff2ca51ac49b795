"""What GPU tests lean on: memory that is full of NaN, and cases of attention."""

import numpy as np
import pytest

CASES = [  # B, H, G, T, S, D, causal
    (1, 1, 1, 1, 1, 64, False),
    (2, 4, 2, 63, 65, 32, True),
    (1, 3, 3, 128, 128, 64, True),
    (1, 4, 1, 129, 127, 64, True),  # the first two rows see no key
    (2, 2, 2, 127, 257, 128, False),
    (1, 2, 1, 5, 300, 128, True),
    (1, 2, 2, 200, 64, 64, True),  # the first 136 rows, a whole tile of them, see no key
    (1, 2, 2, 70, 0, 64, False),
    (1, 2, 2, 0, 70, 64, True),
    (0, 2, 2, 3, 3, 64, True),
    (1, 6, 2, 191, 193, 40, False),
]
ODD_WIDTHS = [(1, 2, 1, 33, 50, 1, True), (1, 2, 2, 65, 65, 7, False), (1, 2, 1, 64, 100, 100, True)]


def identity(case):
    """Return ``B2-H4-G2-T63-S65-D32-causal``."""
    *sizes, causal = case
    return "-".join([*map("{}{}".format, "BHGTSD", sizes), *(["causal"] if causal else [])])


def inputs(case, dtype, seed=1):
    """Return q, k and v on the CPU; scores are spread enough for softmax to matter."""
    B, H, G, T, S, D, _ = case
    generator = np.random.default_rng(seed)
    shapes = (B, H, T, D), (B, G, S, D), (B, G, S, D)
    return tuple(generator.normal(0, 1.5, shape).astype(dtype) for shape in shapes)


@pytest.fixture
def cp():
    """CuPy, whose next allocations hold NaN: a cell that a kernel leaves unwritten is then seen."""
    import cupy

    arrays = [cupy.full(2**k, np.nan, np.float32) for k in range(7, 22) for _ in range(6)]
    cupy.cuda.Device().synchronize()
    del arrays  # back to the pool, from which the next arrays of these sizes come
    return cupy
