"""What the launchers of this folder share: an output beside the inputs, the limits of their kernels, cache layouts.

The closed forms of traffic ask for the same limits.
"""

from typing import NamedTuple

import numpy as np

from minikernels.core.errors import ShapeError

HEADS_LIMIT = 8  # query heads whose state a thread keeps: 8 * 32 rows of 255 registers are all that an SM has
CHUNK = 16  # bytes of a load of codes of the rungs in CUDA C++
MATRICES = "v6_mma", "v7_matrices", "v8_ring"  # those on tensor cores
WIDEST = 128  # of a head: a block's queries, times the scales of four groups, are 24 KB of shared memory
ALL = 0xFFFFFFFF  # every lane of the warp takes part in a shuffle


class Layout(NamedTuple):
    """What a kernel must know of a cache when it is compiled: bits, and tokens and channels that share a scale."""

    bits: int
    rows: int
    columns: int


def layout(cache):
    """Return a cache's Layout."""
    rows, columns = (cache.group, 1) if cache.axis == "channel" else (1, cache.group)
    return Layout(cache.bits, rows, columns)


def new(q):
    """Return an output array of q's kind, shape and dtype, full of NaN so that an unwritten cell shows."""
    return np.full_like(q, np.nan, order="C")


def chunks(R):
    """Return (heads of a block, blocks of a group) where R query heads share a key/value head.

    >>> chunks(4), chunks(12)
    ((4, 1), (8, 2))
    """
    heads = min(R, HEADS_LIMIT)
    return heads, -(-R // heads)


def check_width(D, limit, rung, other="tiled"):
    """Raise ShapeError where a head is wider than a rung can hold."""
    if D > limit:
        raise ShapeError(f"D={D} must be at most {limit} for rung {rung}; rung {other} takes more")


def check_axes(k_cache, v_cache, rung):
    """Raise ShapeError unless keys share scales by channel and values by token, which is what can be folded."""
    for name, cache, axis in (("k_cache", k_cache, "channel"), ("v_cache", v_cache, "token")):
        if cache.axis != axis:
            raise ShapeError(f"{name} has its scales by {cache.axis} and rung {rung} takes them by {axis}; "
                             "rung v1_dequantize takes both")


def check_codes(sizes, bits, k_group, v_group, rung):
    """Raise ShapeError, in letters, unless a rung in CUDA C++ takes heads of D numbers in these bits and groups."""
    codes = 8 * CHUNK // bits
    if sizes["D"] % codes:
        rule = f"must be a multiple of {codes}, the {bits}-bit codes of a 16-byte load of rung {rung}"
        sizes.refuse("D", f"{rule}; rung v2_folded_scales takes it")
    sizes.at_most("D", WIDEST, f"rung {rung} has no room for more; rung v2_folded_scales takes it")
    run = 32 if rung in MATRICES else codes
    if v_group < sizes["D"] and v_group % run:
        raise ShapeError(f"v_cache has group={v_group}; rung {rung} takes a multiple of {run}, or D and more; "
                         "rung v2_folded_scales takes it")
    if rung in MATRICES and sizes["D"] not in (32, 64, 128):
        sizes.refuse("D", f"must be 32, 64 or 128 for rung {rung}; rung v5_split_kv takes it")
    if rung in MATRICES and k_group % 16:
        raise ShapeError(f"k_cache has group={k_group}; rung {rung} takes a multiple of 16, rung v5_split_kv any")
