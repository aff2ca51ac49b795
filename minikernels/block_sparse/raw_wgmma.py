"""The rung in CUDA C++ that only sm_90 runs, by wgmma and TMA: its inputs, constants, list of work, and launch."""

from typing import NamedTuple

import numpy as np

from minikernels.block_sparse.lists import BlockLists, block_lists
from minikernels.block_sparse.raw import FOLDER, HALF, aligned
from minikernels.block_sparse.raw import check as check_arrays
from minikernels.block_sparse.tiles import wgmma_tile
from minikernels.core.limits import heads_in_cache
from minikernels.core.numerics import LOG2E
from minikernels.launch import HOPPER, multiprocessors, raw, tensor_map

ROWS = 64  # of a warpgroup's products
WARP_ROWS = 16  # of them, which a warp writes
PANEL = 64  # columns of a box that TMA copies
GROUP = 128  # threads of a warpgroup
TILE_BYTES = 24  # of what the kernel keeps of a query tile
TOGETHER = 32 << 20  # bytes of K and V that are walked over at a time: they stay in an L2 cache of 50 MB


class SortedLists(NamedTuple):
    """The lists of a mask, and the order in which block rows are taken.

    Attributes
    ----------
    lists : BlockLists
    order : array of shape (B * H * ceil(T/R),), int32
        Block rows of all heads, row i of [b, h] being ``(b * H + h) * ceil(T/R) + i``: a few heads at a time, whose K
        and V stay in the L2 cache together, and of those the rows with the most blocks first.
    """

    lists: BlockLists
    order: np.ndarray


def launch_v7_wgmma(q, k, v, mask, block, causal, scale, lists=None):
    """Return o and lse; tensor cores through wgmma, operands by TMA, a persistent grid over rows sorted by work.

    Differs from v6_async: a thread that does nothing but copy, warpgroups that multiply from shared memory, and long
    rows first.

    Parameters
    ----------
    q : CuPy array of shape (B, H, T, D), float16
        D up to 128; where 8 does not divide it, q, k and v are copied to rows that it divides.
    k, v : CuPy array of shape (B, G, S, D)
    mask : CuPy array of shape (B or 1, H or 1, ceil(T/R), ceil(S/C)), bool
    block : (int, int)
        R and C, multiples of 64; 128 is faster.
    causal : bool
    scale : float
    lists : SortedLists, optional
        What `sorted_lists` made of the mask, for callers that use one mask many times.

    Raises
    ------
    DeviceError
        Unless the GPU's compute capability is 9.0.
    """
    check(q, k, v, block)
    (B, H, T, D), (G, S) = q.shape, k.shape[1:3]
    lists, order = sorted_lists(q, k, mask, block, causal) if lists is None else lists
    if scale <= 0:  # the kernel finds maxima before it scales
        q, scale = q * q.dtype.type(np.sign(scale)), -scale or 1.0
    q, k, v = (aligned(x) for x in (q, k, v))
    tile = constants(q.shape[3], block, causal)
    o, lse = np.empty_like(q, order="C"), np.empty_like(q, dtype=np.float32, order="C", shape=q.shape[:3])
    boxes = (q, ROWS), (k, tile["BLOCK_S"]), (v, tile["BLOCK_S"]), (o, WARP_ROWS)
    maps = (tensor_map(x, (rows, PANEL)) for x, rows in boxes)
    tiles = B * H * mask.shape[2] * block[0] // (ROWS * tile["CONSUMERS"])
    grid, threads = min(tiles, multiprocessors() * tile["BLOCKS"]), GROUP * (1 + tile["CONSUMERS"])
    sizes = (np.int32(size) for size in (*mask.shape[:2], B, H, G, T, S))
    launched = kernel(tile)[grid, threads, None, shared_bytes(tile)]
    taken = np.zeros_like(order, shape=1)
    launched(*maps, *lists, order, taken, lse, *sizes, np.float32(scale * LOG2E))
    return o[..., :D], lse


def sorted_lists(q, k, mask, block, causal):
    """Return the SortedLists of a mask, beside it; nothing here makes the host wait for the GPU."""
    (B, H, T, D), (G, S) = q.shape, k.shape[1:3]
    lists, rows = block_lists(mask, T, S, block, causal), mask.shape[2]
    counts = np.broadcast_to((lists.starts[1:] - lists.starts[:-1]).reshape(mask.shape[:3]), (B, H, rows))
    together = heads_in_cache(TOGETHER, H // G, S, HALF * D)
    bunch = np.arange(B * H, dtype=np.int32, like=mask) // together
    least_first = (1 + bunch[:, None]) * (1 + mask.shape[3]) - counts.reshape(B * H, rows)
    return SortedLists(lists, np.argsort(least_first.ravel(), kind="stable").astype(np.int32))


def constants(D, block, causal):
    """Return the kernel's constants for one head width, a multiple of 8, one block of the mask and one causality."""
    return {"D": D, "CAUSAL": bool(causal), "R": block[0], "C": block[1], **wgmma_tile(block)._asdict()}


def shared_bytes(tile):
    """Return the bytes of shared memory of a block: Q of two tiles, O of one, rings of K and V, tiles and barriers.

    >>> shared_bytes(constants(128, (128, 128), False)) <= 227 * 1024
    True
    >>> 2 * (shared_bytes(constants(128, (64, 64), False)) + 1024) <= 228 * 1024  # a block reserves 1 KB beside its own
    True
    """
    panels, rows, keys = -(-tile["D"] // PANEL), ROWS * tile["CONSUMERS"], tile["STAGES"] * tile["BLOCK_S"]
    return HALF * PANEL * panels * (3 * rows + 2 * keys) + 2 * TILE_BYTES + 8 * (4 + 4 * tile["STAGES"])


def kernel(tile):
    """Return the kernel, for sm_90a: what wgmma needs runs on nothing else."""
    return raw(FOLDER / "v7_wgmma.cu", "v7_wgmma", constants=tile, **HOPPER)


def check(q, k, v, block):
    """Raise ShapeError or DtypeError, in letters, unless v7_wgmma takes q, k and v under a mask of such blocks."""
    wgmma_tile(block)
    return check_arrays(q, k, v, "v7_wgmma")
