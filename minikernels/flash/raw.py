"""The rungs of attention in CUDA C++: which inputs each takes, its tile sizes, and its launch."""

import math

import numpy as np

from minikernels.core.errors import ShapeError
from minikernels.core.limits import GRID_LIMIT, heads_in_cache
from minikernels.core.numerics import LOG2E
from minikernels.core.shapes import bind, same_dtype
from minikernels.launch import HOPPER, architecture, multiprocessors, raw, shared_limit, tensor_map

WIDTH_LIMIT = 128  # wider heads would not fit in a thread's registers
ALIGNMENT = 16  # bytes: the widest load
FLOAT, HALF = 4, 2  # bytes
L2_SHARE = 16 * 2**20  # bytes of K and V that heads at work together may take, of an L2 cache of 50 MB


def check_v4_register_tiles(q, k, v):
    """Raise ShapeError or DtypeError unless v4_register_tiles takes these q, k and v."""
    check(q, k, v, "v4_register_tiles", ("float32", "float16"), multiple=1)


def check_v5_mma(q, k, v):
    """Raise ShapeError or DtypeError unless v5_mma takes these q, k and v."""
    check(q, k, v, "v5_mma", ("float16",), multiple=8)


def launch_v4_register_tiles(q, k, v, causal, scale):
    """Return o and lse; CUDA cores, float32 arithmetic, tiles of scores and outputs in registers.

    Differs from v3_split_rows: a thread owns 8 rows, and an 8 x 8 (D <= 64) or 8 x 4 tile of their scores: a number
    read from shared memory serves 8 or 4 multiply-adds, not 2, and four are read at once.

    Parameters
    ----------
    q : CuPy array of shape (B, H, T, D), float32 or float16
        D up to 128.
    k, v : CuPy array of shape (B, G, S, D)
    causal : bool
    scale : float
    """
    check_v4_register_tiles(q, k, v)
    tile = tile_v4_register_tiles(q.shape[3], q.dtype.itemsize, shared_limit())
    kernel = raw("v4_register_tiles.cu", "v4_register_tiles", constants={**tile, "CAUSAL": causal}, min_arch=(8, 0))
    return run(kernel, q, k, v, scale, causal, tile["BLOCK_T"], 16 * tile["TX"], shared_v4_register_tiles(tile))


def launch_v5_mma(q, k, v, causal, scale):
    """Return o and lse; tensor cores through mma.sync m16n8k16, float32 accumulators.

    Differs from v4_register_tiles: products on the tensor cores, operands in float16; P stays in registers.

    Parameters
    ----------
    q : CuPy array of shape (B, H, T, D), float16
        D a multiple of 8, up to 128.
    k, v : CuPy array of shape (B, G, S, D)
    causal : bool
    scale : float
    """
    check_v5_mma(q, k, v)
    tile = tile_v5_mma(q.shape[3])
    kernel = raw("v5_mma.cu", "v5_mma", constants={**tile, "CAUSAL": causal}, min_arch=(8, 0))
    return run(kernel, q, k, v, scale, causal, tile["BLOCK_T"], 128, shared_v5_mma(tile))


def check_v6_async(q, k, v):
    """Raise ShapeError or DtypeError unless v6_async takes these q, k and v."""
    check(q, k, v, "v6_async", ("float16",), multiple=8)


def launch_v6_async(q, k, v, causal, scale):
    """Return o and lse; as v5_mma, with copies by cp.async into two places for a tile of K and V.

    Differs from v5_mma: the next tile is on its way while this one is multiplied; masks only where a warp needs them.

    Parameters
    ----------
    q, k, v, causal, scale
        As for `launch_v5_mma`.
    """
    check_v6_async(q, k, v)
    tile = tile_v6_async(q.shape[3], architecture())
    q, scale = positive(q, scale)
    kernel = raw("v6_async.cu", "v6_async", constants={**tile, "CAUSAL": causal}, min_arch=(8, 0))
    return run(kernel, q, k, v, scale, causal, tile["BLOCK_T"], 128, shared_v6_async(tile))


def check_v7_wgmma(q, k, v):
    """Raise ShapeError or DtypeError unless v7_wgmma takes these q, k and v."""
    check(q, k, v, "v7_wgmma", ("float16",), multiple=8)


def launch_v7_wgmma(q, k, v, causal, scale):
    """Return o and lse; products of whole warpgroups (wgmma), fed by the copy engine (TMA); float32 accumulators.

    Differs from v6_async: the tensor cores read Q, K and V from shared memory by themselves; one thread copies; two or
    three warpgroups take turns, so that one's exponentials hide behind another's products.

    Parameters
    ----------
    q, k, v, causal, scale
        As for `launch_v5_mma`.
    """
    check_v7_wgmma(q, k, v)
    (B, H, T, D), (G, S) = q.shape, k.shape[1:3]
    tile = tile_v7_wgmma(D)
    kernel = raw("v7_wgmma.cu", "v7_wgmma", constants={**tile, "CAUSAL": causal}, options=HOPPER["options"],
                 min_arch=(9, 0))
    o, lse = new(q, q.shape, q.dtype), new(q, (B, H, T), np.float32)
    rows, share = 64 * tile["CONSUMERS"], H // G
    items = B * H * math.ceil(T / rows)
    if items == 0 or S == 0:
        o.fill(0)
        lse.fill(-np.inf)
        return o, lse
    q, scale = positive(q, scale)
    q, k, v = (aligned(x) for x in (q, k, v))
    boxes = (q, rows), (k, tile["BLOCK_S"]), (v, tile["BLOCK_S"]), (o, 16)
    maps = (tensor_map(x, (height, 64)) for x, height in boxes)
    taken = np.zeros_like(q, dtype=np.int32, shape=(1,)) if causal else new(q, (1,), np.int32)
    sizes = (np.int32(size) for size in (B * H, share, bunch(B * H, share, S, HALF * D, causal), T, S))
    grid, threads = min(items, multiprocessors()), 128 * (tile["CONSUMERS"] + 1)
    kernel[grid, threads, None, shared_v7_wgmma(tile)](*maps, lse, taken, *sizes, np.float32(scale * LOG2E))
    return o, lse


def bunch(heads, share, S, row_bytes, causal):
    """Return how many heads' tiles are begun together: under a causal mask as many as L2 holds keys and values of.

    Of these heads the tiles that see the most keys come first. Without a mask tiles are alike, and the heads that share
    keys are enough.

    >>> bunch(64, 4, 4096, 256, causal=True), bunch(64, 4, 4096, 256, causal=False), bunch(2, 2, 1, 16, causal=True)
    (32, 4, 2)
    """
    return min(heads, heads_in_cache(L2_SHARE, share, S, row_bytes) if causal else share)


def tile_v4_register_tiles(D, itemsize, limit=227 * 1024):
    """Return the kernel's constants for one head width: the most rows a block whose tiles fit in `limit` bytes.

    The least `limit` of a GPU of compute capability 8.0 or newer is 99 KB.

    >>> tile_v4_register_tiles(64, 4)["BLOCK_T"], tile_v4_register_tiles(128, 4, limit=99 * 1024)["BLOCK_T"]
    (128, 32)
    """
    constants = {"D": D, "ITEM_BYTES": itemsize, "TX": 8 if D <= 64 else 16, "CHUNK": 1 if D % 4 else 4, "BLOCK_S": 64}
    sizes = (constants | {"BLOCK_T": rows} for rows in (128, 64, 32))
    return next(tile for tile in sizes if shared_v4_register_tiles(tile) <= limit)


def shared_v4_register_tiles(tile):
    """Return the bytes of shared memory of a block: Q, K, V and P in float32, Q, K and P with padded rows."""
    rows, keys, columns = tile["BLOCK_T"], tile["BLOCK_S"], 4 * tile["TX"]
    width = columns * math.ceil(tile["D"] / columns)
    return FLOAT * ((rows + keys) * (width + 4) + keys * width + rows * (keys + tile["TX"]))


def tile_v5_mma(D):
    """Return the kernel's constants for one head width."""
    return {"D": D, "BLOCK_T": 128, "BLOCK_S": 64 if D <= 64 else 32}  # 64 keys of wider heads would spill registers


def shared_v5_mma(tile):
    """Return the bytes of shared memory of a block: Q, K and V in float16, with padded rows."""
    width = 16 * math.ceil(tile["D"] / 16)
    return HALF * (tile["BLOCK_T"] + 2 * tile["BLOCK_S"]) * (width + 8)


def tile_v6_async(D, found=(9, 0)):
    """Return the kernel's constants for one head width: the most keys for which a compute capability's code spills not.

    >>> tile_v6_async(128)["BLOCK_S"], tile_v6_async(128, found=(8, 9))["BLOCK_S"]
    (48, 32)
    """
    wide = 48 if found >= (9, 0) else 32
    return {"D": D, "BLOCK_T": 128, "BLOCK_S": 96 if D <= 64 else wide}


def shared_v6_async(tile):
    """Return the bytes of shared memory of a block: Q, and K and V twice, in float16, with padded rows."""
    width = 16 * math.ceil(tile["D"] / 16)
    return HALF * (tile["BLOCK_T"] + 4 * tile["BLOCK_S"]) * (width + 8)


def tile_v7_wgmma(D):
    """Return the kernel's constants for one head width."""
    return {"D": D, "BLOCK_S": 128, "CONSUMERS": 3 if D == 64 else 2, "STAGES": 2}


def shared_v7_wgmma(tile):
    """Return the bytes of a block's shared memory: two Q, rings of K and V, rows of output, items, barriers."""
    width, rows, stages = 64 * math.ceil(tile["D"] / 64), 64 * tile["CONSUMERS"], tile["STAGES"]
    return HALF * width * (3 * rows + 2 * stages * tile["BLOCK_S"]) + 2 * 12 + 8 * (4 + 4 * stages)


def run(kernel, q, k, v, scale, causal, block_t, threads, shared_bytes):
    """Launch one block a tile of `block_t` query rows, if there are any, in the order of rows.cuh; return o and lse."""
    (B, H, T, D), (G, S) = q.shape, k.shape[1:3]
    tiles, heads = math.ceil(T / block_t), B * H
    if tiles > GRID_LIMIT:
        raise ShapeError(f"T={T} must be at most {GRID_LIMIT * block_t}: the kernel's grid has no room for more")
    o, lse = new(q, q.shape, q.dtype), new(q, (B, H, T), np.float32)
    if o.size == 0:
        return o, lse
    q, k, v = (aligned(x) for x in (q, k, v))
    together = max(bunch(heads, H // G, S, D * k.itemsize, causal), math.ceil(heads / GRID_LIMIT))
    grid = together, tiles, math.ceil(heads / together)
    sizes = (np.int32(size) for size in (heads, H // G, T, S))
    kernel[grid, threads, None, shared_bytes](q, k, v, o, lse, *sizes, np.float32(scale * LOG2E))
    return o, lse


def positive(q, scale):
    """Return q and scale with the same product, scale > 0: kernels that scale last look for the largest plain score."""
    return (q, scale) if scale > 0 else (q * q.dtype.type(np.sign(scale)), -scale or 1.0)


def new(like, shape, dtype):
    """Return an output array beside the CuPy array `like`; the kernel writes every cell of it."""
    return np.empty_like(like, dtype=dtype, shape=shape, order="C")


def aligned(x):
    """Return the array, copied only where a kernel could not read its rows one after another, 16 bytes at a time."""
    return x if x.flags.c_contiguous and x.data.ptr % ALIGNMENT == 0 else x.copy(order="C")


def check(q, k, v, rung, dtypes, multiple):
    """Raise ShapeError or DtypeError, in letters, unless a rung takes q, k and v."""
    sizes = bind(q=(q, "BHTD"), k=(k, "BGSD"), v=(v, "BGSD"))
    sizes.divides("G", "H")
    same_dtype(dtypes, q=q, k=k, v=v)
    sizes.at_most("D", WIDTH_LIMIT, f"{rung} keeps a row's outputs in registers; rung v1_three_pass takes any D")
    if sizes["D"] == 0 or sizes["D"] % multiple:
        sizes.refuse("D", f"must be a multiple of {multiple}, and not 0, for rung {rung}")
