"""The rungs of attention's backward pass in CUDA C++: which inputs each takes, its tile sizes, and its launch."""

import math

import numpy as np

from minikernels.core.errors import DtypeError, ShapeError
from minikernels.core.numerics import LOG2E
from minikernels.core.shapes import bind, same_dtype
from minikernels.flash.outputs import check_grid, scratch
from minikernels.flash.raw import FLOAT, HALF, WIDTH_LIMIT, aligned, new
from minikernels.launch import HOPPER, architecture, raw, shared_limit, tensor_map

SMALL_ROWS, SMALL_THREADS = 16, 128  # of a block of the two small kernels
ROLES_WIDTH = 64  # v6_roles: wider heads leave no registers for a third warpgroup


def fastest(q, k, v):
    """Return the name of the fastest of these rungs that takes these CuPy arrays on this GPU, or None."""
    found = architecture()
    try:
        check(q, k, v, "v4_mma")  # v5_wgmma takes the same, v6_roles of them up to D = 64
    except (ShapeError, DtypeError):
        return None
    if found != HOPPER["min_arch"]:
        return "v4_mma" if found >= (8, 0) else None
    return "v6_roles" if q.shape[3] <= ROLES_WIDTH else "v5_wgmma"


def check_v4_mma(q, k, v):
    """Raise ShapeError or DtypeError unless v4_mma takes these q, k and v."""
    check(q, k, v, "v4_mma")


def check_v5_wgmma(q, k, v):
    """Raise ShapeError or DtypeError unless v5_wgmma takes these q, k and v."""
    check(q, k, v, "v5_wgmma")


def check_v6_roles(q, k, v):
    """Raise ShapeError or DtypeError unless v6_roles takes these q, k and v."""
    check(q, k, v, "v6_roles", ROLES_WIDTH, "registers suffice for no more; rung v5_wgmma takes D up to 128")


def launch_v4_mma(q, k, v, o, lse, do, causal, scale):
    """Return dq, dk and dv; tensor cores through mma.sync m16n8k16, float32 accumulators, dq by atomics.

    Three kernels: delta, lse in base 2 and a dq_sum of zeros; dk, dv and dq_sum; dq_sum rounded to float16.
    Differs from v3_split_rows: products on the tensor cores; one walk over the tiles, so 5 products and not 7. Blocks
    add to dq in an order that changes from run to run; dk and dv are the same on every run.

    Parameters
    ----------
    q, o, do : CuPy array of shape (B, H, T, D), float16
        D a multiple of 8, up to 128.
    k, v : CuPy array of shape (B, G, S, D), float16
    lse : CuPy array of shape (B, H, T), float32
    causal : bool
    scale : float
    """
    check_v4_mma(q, k, v)
    tile = tile_v4_mma(q.shape[3], shared_limit())
    return run("v4_mma", tile, 32 * tile["WARPS"], shared_bytes(tile), {}, q, k, v, o, lse, do, causal, scale)


def launch_v5_wgmma(q, k, v, o, lse, do, causal, scale):
    """Return dq, dk and dv; Hopper's warpgroup products, float32 accumulators, dq by atomics.

    Differs from v4_mma: products of 64 rows by wgmma, whose operands come from shared memory without passing through
    the threads, and which run while the threads go on.

    Parameters
    ----------
    q, k, v, o, lse, do, causal, scale
        As for `launch_v4_mma`.
    """
    check_v5_wgmma(q, k, v)
    return run_hopper("v5_wgmma", 256, 4, q, k, v, o, lse, do, causal, scale)


def launch_v6_roles(q, k, v, o, lse, do, causal, scale):
    """Return dq, dk and dv; warpgroups with roles: two sum dk and dv, a third sums dq and asks for copies.

    Differs from v5_wgmma: the third warpgroup; K in registers as left operand; the next scores before dK.

    Parameters
    ----------
    q, k, v, o, lse, do, causal, scale
        As for `launch_v4_mma`; D up to 64.
    """
    check_v6_roles(q, k, v)
    return run_hopper("v6_roles", 384, 8, q, k, v, o, lse, do, causal, scale)


def tile_v4_mma(D, limit=227 * 1024):
    """Return the kernel's constants for one head width: the most keys a block whose tiles fit in `limit` bytes.

    >>> tile_v4_mma(64)["WARPS"], tile_v4_mma(128)["WARPS"], tile_v4_mma(128, limit=99 * 1024)["WARPS"]
    (4, 8, 2)
    """
    mtiles, chunk, warps = (2, 32, (4,)) if D <= 64 else (1, 64, (8, 4, 2))
    sizes = ({"D": D, "WARPS": n, "MTILES": mtiles, "BLOCK_T": 64, "CHUNK": chunk} for n in warps)
    return next(tile for tile in sizes if shared_bytes(tile) <= limit)


def tile_v5_wgmma(D):
    """Return the kernel's constants for one head width."""
    return {"D": D, "BLOCK_T": 128 if D <= 64 else 64}


def keys_of_block(tile):
    """Return how many keys a block owns."""
    return 16 * tile["MTILES"] * tile["WARPS"] if "WARPS" in tile else 128


def shared_bytes(tile, stages=2, halves=1, barriers=0):
    """Return a block's bytes of shared memory: K, V, `stages` tiles of q, do and stats, `halves` of dS, barriers."""
    pitch, rows, keys = 64 if tile["D"] <= 64 else 128, tile["BLOCK_T"], keys_of_block(tile)
    tiles = HALF * (2 * keys * pitch + 2 * stages * rows * pitch + halves * keys * rows)
    return tiles + stages * 2 * FLOAT * rows + 8 * barriers


def run_hopper(rung, threads, barriers, q, k, v, o, lse, do, causal, scale):
    """Launch a rung whose tiles the copy engine fetches; a block has so many mbarriers."""
    tile = tile_v5_wgmma(q.shape[3])
    shared = shared_bytes(tile, stages=3, halves=2, barriers=barriers)
    return run(rung, tile, threads, shared, HOPPER, q, k, v, o, lse, do, causal, scale, by_boxes)


def by_boxes(tile, q, k, v, do):
    """Return tensor maps of q, k, v and do: boxes of a tile's rows and 64 columns."""
    boxes = ((q, tile["BLOCK_T"]), (k, keys_of_block(tile)), (v, keys_of_block(tile)), (do, tile["BLOCK_T"]))
    return tuple(tensor_map(x, (rows, 64)) for x, rows in boxes)


def run(rung, tile, threads, shared, needs, q, k, v, o, lse, do, causal, scale, operands=lambda tile, *x: x):
    """Launch the three kernels of a rung and return dq, dk and dv; `operands` makes arguments of q, k, v and do."""
    (B, H, T, D), (G, S) = q.shape, k.shape[1:3]
    check_grid(H, B)
    if 0 in (B, H, T, S):
        return tuple(np.zeros_like(x) for x in (q, k, v))
    kernels = ("backward_delta", f"{rung}_backward", "backward_round")
    constants = {**tile, "CAUSAL": causal}
    delta, backward, rounded = (raw(f"{rung}_backward.cu", name, constants=constants, **needs) for name in kernels)
    q, k, v, o, lse, do = (aligned(x) for x in (q, k, v, o, lse, do))
    dq, dk, dv = (new(x, x.shape, q.dtype) for x in (q, k, v))
    rows = tile["BLOCK_T"] * math.ceil(T / tile["BLOCK_T"])
    stats, dq_sum = scratch(q, (B, H, rows, 2)), scratch(q, (B, H, rows, 16 * math.ceil(D / 16)))
    sizes = (np.int32(size) for size in (H // G, G, T, S))
    scales = np.float32(scale), np.float32(scale * LOG2E)
    grid, small = (math.ceil(S / keys_of_block(tile)), G, B), (rows // SMALL_ROWS, H, B)
    delta[small, SMALL_THREADS](o, do, lse, stats, dq_sum, np.int32(T))
    backward[grid, threads, None, shared](*operands(tile, q, k, v, do), stats, dq_sum, dk, dv, *sizes, *scales)
    last, tiles = (math.ceil(T / SMALL_ROWS), H, B), np.int32(rows // SMALL_ROWS)
    rounded[last, SMALL_THREADS](dq_sum, dq, np.int32(T), tiles, scales[0])
    return dq, dk, dv


def check(q, k, v, rung, limit=WIDTH_LIMIT, reason=None):
    """Raise ShapeError or DtypeError, in letters, unless a rung takes q, k and v."""
    sizes = bind(q=(q, "BHTD"), k=(k, "BGSD"), v=(v, "BGSD"))
    sizes.divides("G", "H")
    same_dtype(("float16",), q=q, k=k, v=v)
    sizes.at_most("D", limit, reason or f"{rung} holds dk and dv in registers; rung v3_split_rows takes D up to 256")
    if sizes["D"] == 0 or sizes["D"] % 8:
        sizes.refuse("D", f"must be a multiple of 8, and not 0, for rung {rung}")
