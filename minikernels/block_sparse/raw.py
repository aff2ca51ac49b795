"""The rungs in CUDA C++: which inputs they take, their tile sizes, and their launches."""

import math
from pathlib import Path

import numpy as np

from minikernels.block_sparse.lists import block_lists
from minikernels.block_sparse.tiles import mma_tile
from minikernels.core.limits import check_grid
from minikernels.core.numerics import LOG2E
from minikernels.core.shapes import bind, same_dtype
from minikernels.launch import raw

WIDTH_LIMIT = 128  # wider heads would not fit in a thread's registers
CHUNK = 16  # bytes of a copy to shared memory: rows of D are padded to a multiple of 8 float16
HALF = 2  # bytes
FOLDER = Path(__file__).parent


def launch_v5_mma(q, k, v, mask, block, causal, scale, lists=None):
    """Return o and lse; tensor cores through mma.sync m16n8k16, float32 accumulators.

    Differs from v4_full_partial: products on the tensor cores, operands in float16; P stays in registers.

    Parameters
    ----------
    q : CuPy array of shape (B, H, T, D), float16
        D up to 128; where 8 does not divide it, q, k and v are copied to rows that it divides.
    k, v : CuPy array of shape (B, G, S, D)
    mask : CuPy array of shape (B or 1, H or 1, ceil(T/R), ceil(S/C)), bool
    block : (int, int)
        Any R and C; multiples of 16 waste no lane.
    causal : bool
    scale : float
    lists : BlockLists, optional
        What `block_lists` made of the mask, for callers that use one mask many times.
    """
    return run("v5_mma", q, k, v, mask, block, causal, scale, lists)


def launch_v6_async(q, k, v, mask, block, causal, scale, lists=None):
    """Return o and lse; parameters as for `launch_v5_mma`.

    Differs from v5_mma: the next tile is copied to shared memory while this one is multiplied.
    """
    return run("v6_async", q, k, v, mask, block, causal, scale, lists)


def run(rung, q, k, v, mask, block, causal, scale, lists):
    """Launch one block of threads a part of a block row, and return o and lse."""
    check(q, k, v, rung)
    (B, H, T, D), (G, S) = q.shape, k.shape[1:3]
    check_grid(H=H, B=B)
    lists = block_lists(mask, T, S, block, causal) if lists is None else lists
    q, k, v = (aligned(x) for x in (q, k, v))
    tile = constants(q.shape[3], block, causal)
    o, lse = np.empty_like(q, order="C"), np.empty_like(q, dtype=np.float32, order="C", shape=q.shape[:3])
    sizes = (np.int32(size) for size in (*mask.shape[:2], H, G, T, S))
    grid, shared = (mask.shape[2] * tile["PARTS"], H, B), shared_bytes(rung, tile)
    launched = kernel(rung, tile)[grid, 32 * tile["WARPS"], None, shared]
    launched(q, k, v, *lists, o, lse, *sizes, np.float32(scale * LOG2E))
    return o[..., :D], lse


def constants(D, block, causal):
    """Return the kernel's constants for one head width, a multiple of 8, one block of the mask and one causality."""
    return {"D": D, "CAUSAL": bool(causal), "R": block[0], "C": block[1], **mma_tile(D, block)._asdict()}


def shared_bytes(rung, tile):
    """Return the bytes of shared memory of a block: Q, and K and V of one tile or two, in float16, with padded rows."""
    width, stages = 16 * math.ceil(tile["D"] / 16), 2 if rung == "v6_async" else 1
    return HALF * (16 * tile["WARPS"] * tile["MTILES"] + 2 * stages * tile["BLOCK_S"]) * (width + 8)


def kernel(rung, tile):
    """Return a kernel of this folder."""
    return raw(FOLDER / f"{rung}.cu", rung, constants=tile, min_arch=(8, 0))


def check(q, k, v, rung):
    """Raise ShapeError or DtypeError, in letters, unless the raw rungs take q, k and v; return the sizes."""
    sizes = bind(q=(q, "BHTD"), k=(k, "BGSD"), v=(v, "BGSD"))
    sizes.divides("G", "H")
    same_dtype(("float16",), q=q, k=k, v=v)
    sizes.at_most("D", WIDTH_LIMIT, f"{rung} keeps a row's outputs in registers; rung v4_full_partial takes up to 256")
    return sizes


def aligned(x):
    """Return the array, copied only where a kernel could not read its rows one after another, 16 bytes at a time."""
    D, step = x.shape[3], CHUNK // HALF
    if D % step:
        padded = np.zeros_like(x, shape=(*x.shape[:3], step * math.ceil(D / step)), order="C")
        padded[..., :D] = x
        return padded
    return x if x.flags.c_contiguous and x.data.ptr % CHUNK == 0 else x.copy(order="C")
