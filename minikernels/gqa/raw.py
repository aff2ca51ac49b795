"""The rungs of decode in CUDA C++: which inputs they take, their tile sizes, and their launches."""

from pathlib import Path

import numpy as np

from minikernels.core.decode import CHUNK, GROUP_KEYS, group_tile, shares
from minikernels.core.limits import check_grid
from minikernels.core.numerics import LOG2E
from minikernels.core.shapes import bind, same_dtype
from minikernels.gqa.outputs import MMA, check_rows, chunks
from minikernels.launch import counters, multiprocessors, raw, shared_limit

NEEDS = (8, 0)  # least compute capability
THREADS = 128
WARPS = 4
UNROLL = 4  # rows of K, and of V, that a lane reads before it waits for the first
RESIDENT = {1: 4, 2: 4, 3: 3, 4: 3}  # blocks of a multiprocessor by heads of a block, where not 2: registers decide
FOLDER = Path(__file__).parent


def launch_v4_wide_loads(q, k, v, lengths, scale):
    """Return o; a block owns up to 8 query heads of a group and all keys of their sequence.

    Differs from v3_warp_dot: 16-byte loads, 4 of K and 4 of V under way in each lane; a maximum and a rescaling serve
    4 keys.

    Parameters
    ----------
    q : CuPy array of shape (B, H, D), float32 or float16
        Rows of D numbers are a multiple of 16 bytes, up to 512.
    k, v : CuPy array of shape (B, G, S, D)
    lengths : CuPy array of shape (B,), int32, or None
        None for S keys of every sequence: the kernel is given a null pointer, and no array has to be written.
    scale : float
    """
    (q, k, v), o, rows, tile = prepared(q, k, v, "v4_wide_loads")
    sizes = np.int32(k.shape[1]), np.int32(k.shape[2]), np.float32(scale * LOG2E)
    kernel("v4_wide_loads", tile)[(rows, q.shape[0]), THREADS](q, k, v, pointer(lengths), o, *sizes)
    return o


def launch_v5_split_kv(q, k, v, lengths, scale, count=None):
    """Return o; the keys of every sequence are split into equal shares, as many as fill the GPU soonest.

    Differs from v4_wide_loads: a block owns a share of the keys; a second kernel merges the states. One share is v4.

    Parameters
    ----------
    q, k, v, lengths, scale
        As for `launch_v4_wide_loads`.
    count : int, optional
        Shares of a sequence; by default from S and the GPU's multiprocessors (lengths stay on the GPU, unread).
    """
    (q, k, v), o, rows, tile = prepared(q, k, v, "v5_split_kv")
    (B, _, D), (G, S), H = q.shape, k.shape[1:3], tile["HEADS"]
    if count is None:
        count = shares(B * rows, -(-S // tile_keys(tile)), multiprocessors() * tile["RESIDENT"])
    if count == 1:
        return launch_v4_wide_loads(q, k, v, lengths, scale)
    ml, part = (scratch(q, (B, rows, count, H, width)) for width in (2, D))
    sizes = np.int32(G), np.int32(S), np.float32(scale * LOG2E)
    kernel("v5_split_kv", tile)[(count, rows, B), THREADS](q, k, v, pointer(lengths), ml, part, *sizes)
    kernel("v5_split_kv", tile, "merge_splits")[(rows, B, H), THREADS](ml, part, o, np.int32(G), np.int32(count))
    return o


def launch_v6_stream_k(q, k, v, lengths, scale, blocks=None):
    """Return o; the tiles of all sequences stand in one list, of which every block takes an equal run.

    Differs from v5_split_kv: the cuts fall where the work is, so that on ragged lengths all blocks end together.

    Parameters
    ----------
    q, k, v, lengths, scale
        As for `launch_v4_wide_loads`.
    blocks : int, optional
        Runs; as many as the GPU holds at once by default.
    """
    (q, k, v), o, rows, tile = prepared(q, k, v, "v6_stream_k")
    (B, _, D), (G, S), H = q.shape, k.shape[1:3], tile["HEADS"]
    keys = tile_keys(tile)
    blocks = min(blocks or multiprocessors() * tile["RESIDENT"], B * rows * -(-S // keys))
    told = np.full_like(q, S, dtype=np.int32, shape=(B,)) if lengths is None else lengths
    ends = np.cumsum((told + (keys - 1)) // keys, dtype=np.int32)  # on the GPU, where the lengths are
    ml, part = (scratch(q, (blocks, 2, H, width)) for width in (2, D))
    sizes = np.int32(B), np.int32(G), np.int32(S), np.float32(scale * LOG2E)
    kernel("v6_stream_k", tile)[blocks, THREADS](q, k, v, pointer(lengths), ends, o, ml, part, *sizes)
    merge = kernel("v6_stream_k", tile, "merge_runs")
    merge[(rows, B, H), THREADS](ends, ml, part, o, np.int32(B), np.int32(G), np.int32(blocks))
    return o


def launch_v7_mma_group(q, k, v, lengths, scale, count=None):
    """Return o; the heads of a group are columns of one small matrix product, and keys arrive while others are used.

    Differs from v5_split_kv: a key costs the same for 1 to 8 heads, is read once for up to 32, and takes no registers
    on its way.

    Parameters
    ----------
    q : CuPy array of shape (B, H, D), float16
        D is a multiple of 8, up to 128.
    k, v, lengths, scale, count
        As for `launch_v5_split_kv`.
    """
    (q, k, v), o, rows, tile = prepared(q, k, v, "v7_mma_group")
    (B, _, D), (G, S), H = q.shape, k.shape[1:3], tile["HEADS"]
    count = count or shares(B * rows, -(-S // GROUP_KEYS), multiprocessors() * tile["RESIDENT"])
    ml, part = (scratch(q, (B, rows, count if count > 1 else 0, H, width)) for width in (2, D))
    arrays = q, k, v, pointer(lengths), o, ml, part, counters(B * rows)
    main = kernel("v7_mma_group", tile)[(count, rows, B), THREADS, None, tile["SHARED_BYTES"]]
    main(*arrays, np.int32(G), np.int32(S), np.float32(scale * LOG2E))
    return o


def launch_v8_mma_stream_k(q, k, v, lengths, scale, blocks=None):
    """Return o; every block takes an equal run of the list of all tiles.

    Differs from v7_mma_group: the schedule of v6_stream_k, which each block now finds for itself.

    Parameters
    ----------
    q, k, v, lengths, scale
        As for `launch_v7_mma_group`.
    blocks : int, optional
        Runs; as many as the GPU holds at once by default.
    """
    (q, k, v), o, rows, tile = prepared(q, k, v, "v8_mma_stream_k")
    (B, _, D), (G, S), H = q.shape, k.shape[1:3], tile["HEADS"]
    blocks = min(blocks or multiprocessors() * tile["RESIDENT"], B * rows * -(-S // GROUP_KEYS))
    ml, part = (scratch(q, (blocks, 2, H, width)) for width in (2, D))
    arrays = q, k, v, pointer(lengths), o, ml, part, counters(B * rows)
    main = kernel("v8_mma_stream_k", tile)[blocks, THREADS, None, tile["SHARED_BYTES"]]
    main(*arrays, np.int32(B), np.int32(G), np.int32(S), np.float32(scale * LOG2E))
    return o


def constants(R, D, itemsize):
    """Return the kernels' constants where R query heads share a key/value head.

    >>> constants(4, 64, 2)
    {'D': 64, 'ITEM_BYTES': 2, 'R': 4, 'HEADS': 4, 'UNROLL': 4, 'RESIDENT': 3}
    """
    heads = chunks(R)[0]
    found = {"D": D, "ITEM_BYTES": itemsize, "R": R, "HEADS": heads}
    return found | {"UNROLL": UNROLL, "RESIDENT": RESIDENT.get(heads, 2)}


def tile_keys(tile):
    """Return the keys that a block absorbs in a step.

    >>> tile_keys(constants(4, 64, 2)), tile_keys(constants(4, 128, 4))
    (64, 16)
    """
    row = tile["D"] * tile["ITEM_BYTES"] // CHUNK
    return WARPS * (32 // (1 << (row - 1).bit_length())) * tile["UNROLL"]


def kernel(file, tile, name=None):
    """Return a kernel of one of this folder's files."""
    return raw(FOLDER / f"{file}.cu", name or file, constants=tile, min_arch=NEEDS)


def prepared(q, k, v, rung):
    """Return (q, k, v), an output, rows of a sequence and the kernels' constants, or raise as `check` does."""
    sizes = check(q, k, v, rung)
    R, D = sizes["H"] // sizes["G"], sizes["D"]
    tile = group_tile(R, D, shared_limit()) if rung in MMA else constants(R, D, q.dtype.itemsize)
    rows = sizes["G"] * -(-R // tile["HEADS"])
    check_grid(H=rows, B=sizes["B"])
    return [aligned(x) for x in (q, k, v)], np.empty_like(q, order="C"), rows, tile


def check(q, k, v, rung):
    """Raise ShapeError or DtypeError, in letters, unless the rung takes q, k and v; return the sizes."""
    sizes = bind(q=(q, "BHD"), k=(k, "BGSD"), v=(v, "BGSD"))
    sizes.divides("G", "H")
    same_dtype(("float16",) if rung in MMA else ("float32", "float16"), q=q, k=k, v=v)
    check_rows(sizes, q.dtype, rung)
    return sizes


def pointer(lengths):
    """Return what a kernel is given for lengths: the array, or a null pointer."""
    return np.uintp(0) if lengths is None else lengths


def scratch(like, shape):
    """Return an uninitialised float32 CuPy array, for what passes between blocks."""
    return np.empty_like(like, dtype=np.float32, shape=shape, order="C")


def aligned(x):
    """Return the array, copied only where a kernel could not read its rows one after another, 16 bytes at a time."""
    return x if x.flags.c_contiguous and x.data.ptr % CHUNK == 0 else x.copy(order="C")
