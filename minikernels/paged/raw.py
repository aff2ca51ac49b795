"""The rungs in CUDA C++: which inputs they take, their tile sizes, and their launches."""

from pathlib import Path

import numpy as np

from minikernels.core.decode import CHUNK, GROUP_KEYS, group_tile, shares
from minikernels.core.limits import check_grid
from minikernels.core.numerics import LOG2E
from minikernels.core.shapes import bind, same_dtype
from minikernels.launch import counters, multiprocessors, raw, shared_limit
from minikernels.paged.outputs import MMA, check_rows, chunks

NEEDS = (8, 0)  # least compute capability
THREADS = 128
WARPS = 4
UNROLL = 4  # rows of K, and of V, that a lane reads before it waits for the first
RESIDENT = {1: 4, 2: 4, 3: 3, 4: 3}  # blocks of a multiprocessor by heads of a block, where not 2: registers decide
MMA_HEADS, MMA_KEYS = 32, 16  # most heads of a block of v6_mma_group, and the keys of a warp's step
FOLDER = Path(__file__).parent


def launch_v4_fetch_ahead(q, k_pages, v_pages, page_table, lengths, scale):
    """Return o; a block owns up to 8 query heads of a group and all keys of their sequence.

    Differs from v3_warp_key: 16-byte loads, 4 of K and 4 of V under way in each lane, whose page was looked up a step
    before.

    Parameters
    ----------
    q : CuPy array of shape (B, H, D), float32 or float16
        Rows of D numbers are a multiple of 16 bytes, up to 512.
    k_pages, v_pages : CuPy array of shape (pages, P, G, D)
    page_table : CuPy array of shape (B, max_pages), int32
    lengths : CuPy array of shape (B,), int32
    scale : float
    """
    arrays, o, tile, sizes = prepared(q, k_pages, v_pages, page_table, lengths, scale, "v4_fetch_ahead")
    kernel("v4_fetch_ahead", tile)[(1, rows(tile, k_pages), len(q)), THREADS](*arrays, o, *sizes)
    return o


def launch_v5_split_kv(q, k_pages, v_pages, page_table, lengths, scale, count=None):
    """Return o; the keys of every sequence are split into equal shares, as many as fill the GPU soonest.

    Differs from v4_fetch_ahead: a block owns a share of the keys; a second kernel merges the states. One share is v4.

    Parameters
    ----------
    q, k_pages, v_pages, page_table, lengths, scale
        As for `launch_v4_fetch_ahead`.
    count : int, optional
        Shares of a sequence; by default from max_pages * P and the GPU's multiprocessors (lengths stay on the GPU,
        unread).
    """
    arrays, o, tile, sizes = prepared(q, k_pages, v_pages, page_table, lengths, scale, "v5_split_kv")
    count = count or chosen(tile, tile_keys(tile), q, k_pages, page_table)
    if count == 1:
        return launch_v4_fetch_ahead(q, k_pages, v_pages, page_table, lengths, scale)
    grid = count, rows(tile, k_pages), len(q)
    ml, part = states(tile, grid, q)
    kernel("v5_split_kv", tile)[grid, THREADS](*arrays, ml, part, *sizes)
    merge = kernel("v5_split_kv", tile, "merge_splits")
    merge[(*grid[1:], tile["HEADS"]), THREADS](ml, part, o, sizes[0], np.int32(count))
    return o


def launch_v6_mma_group(q, k_pages, v_pages, page_table, lengths, scale, count=None):
    """Return o; the heads of a group are columns of one small matrix product on the tensor cores.

    Differs from v5_split_kv: a key costs the same for 1 to 8 heads, and is read once for up to 32.

    Parameters
    ----------
    q : CuPy array of shape (B, H, D), float16
        D is a multiple of 8, up to 128.
    k_pages, v_pages, page_table, lengths, scale, count
        As for `launch_v5_split_kv`.
    """
    arrays, o, tile, sizes = prepared(q, k_pages, v_pages, page_table, lengths, scale, "v6_mma_group")
    count = count or chosen(tile, WARPS * MMA_KEYS, q, k_pages, page_table)
    grid = count, rows(tile, k_pages), len(q)
    ml, part = states(tile, grid, q) if count > 1 else states(tile, (0, 0, 0), q)
    kernel("v6_mma_group", tile)[grid, THREADS](*arrays, o, ml, part, *sizes)
    if count > 1:
        merge = kernel("v6_mma_group", tile, "merge_splits")
        merge[(*grid[1:], tile["HEADS"]), THREADS](ml, part, o, sizes[0], np.int32(count))
    return o


def launch_v7_async_ring(q, k_pages, v_pages, page_table, lengths, scale, count=None):
    """Return o; keys on their way take room in shared memory, not in registers, and a warp never stops asking for them.

    Differs from v6_mma_group: cp.async into a ring of steps for each warp, instead of loads into registers.

    Parameters
    ----------
    q, k_pages, v_pages, page_table, lengths, scale, count
        As for `launch_v6_mma_group`.
    """
    arrays, o, tile, sizes = prepared(q, k_pages, v_pages, page_table, lengths, scale, "v7_async_ring")
    count = count or chosen(tile, GROUP_KEYS, q, k_pages, page_table)
    grid = count, rows(tile, k_pages), len(q)
    ml, part = states(tile, grid, q) if count > 1 else states(tile, (0, 0, 0), q)
    main = kernel("v7_async_ring", tile)[grid, THREADS, None, tile["SHARED_BYTES"]]
    main(*arrays, o, ml, part, counters(len(q) * grid[1]), *sizes)
    return o


def launch_v8_stream_k(q, k_pages, v_pages, page_table, lengths, scale, blocks=None):
    """Return o; the tiles of all sequences stand in one list, of which every block takes an equal run.

    Differs from v7_async_ring: the cuts fall where the work is, so that on ragged lengths all blocks end together.

    Parameters
    ----------
    q, k_pages, v_pages, page_table, lengths, scale
        As for `launch_v6_mma_group`.
    blocks : int, optional
        Runs; as many as the GPU holds at once by default.
    """
    arrays, o, tile, sizes = prepared(q, k_pages, v_pages, page_table, lengths, scale, "v8_stream_k")
    B, own = len(q), rows(tile, k_pages)
    most = B * own * -(-page_table.shape[1] * k_pages.shape[1] // GROUP_KEYS)
    blocks = min(blocks or multiprocessors() * tile["RESIDENT"], most)
    ml, part = states(tile, (2, 1, blocks), q)
    main = kernel("v8_stream_k", tile)[blocks, THREADS, None, tile["SHARED_BYTES"]]
    main(*arrays, o, ml, part, counters(B * own), np.int32(B), *sizes)
    return o


def screened(page_table, lengths, P, pages):
    """Return lengths as int32, -1 for every sequence with a length or a page that is out of range; nobody waits.

    Parameters
    ----------
    page_table : CuPy array of shape (B, max_pages), int32 or int64
    lengths : CuPy array of shape (B,), int32 or int64
    P, pages : int
        Tokens of a page, and pages of the pool.
    """
    (B, max_pages), safe = page_table.shape, np.empty_like(lengths, dtype=np.int32)
    if B:
        tile = {"ENTRY_BYTES": page_table.dtype.itemsize, "LENGTH_BYTES": lengths.dtype.itemsize}
        found = (x if x.flags.c_contiguous else x.copy(order="C") for x in (page_table, lengths))
        screen = raw(FOLDER / "screen.cu", "screen", constants=tile, min_arch=(5, 0))
        threads = min(1024, -(-max(1, max_pages) // 32) * 32)
        screen[B, threads](*found, safe, np.int32(max_pages), np.int32(P), np.int32(pages))
    return safe


def constants(R, D, P, itemsize):
    """Return the constants of v4 and v5 where R query heads share a key/value head.

    >>> constants(4, 64, 16, 2)
    {'D': 64, 'ITEM_BYTES': 2, 'P': 16, 'R': 4, 'HEADS': 4, 'UNROLL': 4, 'RESIDENT': 3}
    """
    heads = chunks(R)[0]
    found = {"D": D, "ITEM_BYTES": itemsize, "P": P, "R": R, "HEADS": heads}
    return found | {"UNROLL": UNROLL, "RESIDENT": RESIDENT.get(heads, 2)}


def mma_constants(R, D, P):
    """Return the constants of v6_mma_group.

    >>> mma_constants(40, 128, 16)
    {'D': 128, 'ITEM_BYTES': 2, 'P': 16, 'R': 40, 'HEADS': 32, 'RESIDENT': 2}
    """
    heads = min(R, MMA_HEADS)
    return {"D": D, "ITEM_BYTES": 2, "P": P, "R": R, "HEADS": heads, "RESIDENT": 3 if heads <= 8 else 2}


def group_constants(R, D, P, limit):
    """Return the constants of v7_async_ring and v8_stream_k.

    >>> group_constants(8, 64, 16, 227 * 1024)
    {'D': 64, 'ITEM_BYTES': 2, 'R': 8, 'HEADS': 8, 'RESIDENT': 2, 'STAGES': 2, 'SHARED_BYTES': 38304, 'P': 16}
    """
    return group_tile(R, D, limit) | {"P": P}


def tile_keys(tile):
    """Return the keys that a block of v4 or v5 absorbs in a step.

    >>> tile_keys(constants(4, 64, 16, 2)), tile_keys(constants(4, 128, 16, 4))
    (64, 16)
    """
    row = tile["D"] * tile["ITEM_BYTES"] // CHUNK
    return WARPS * (32 // (1 << (row - 1).bit_length())) * tile["UNROLL"]


def rows(tile, k_pages):
    """Return how many blocks share a sequence's keys."""
    return k_pages.shape[2] * -(-tile["R"] // tile["HEADS"])


def chosen(tile, keys, q, k_pages, page_table):
    """Return into how many shares to cut every sequence."""
    most = page_table.shape[1] * k_pages.shape[1]
    return shares(len(q) * rows(tile, k_pages), -(-most // keys), multiprocessors() * tile["RESIDENT"])


def kernel(file, tile, name=None):
    """Return a kernel of one of this folder's files."""
    return raw(FOLDER / f"{file}.cu", name or file, constants=tile, min_arch=NEEDS)


def prepared(q, k_pages, v_pages, page_table, lengths, scale, rung):
    """Return the input arrays, an output, the kernels' constants and their last arguments, or raise as `check` does."""
    sizes = check(q, k_pages, v_pages, rung)
    R, D, P = sizes["H"] // sizes["G"], sizes["D"], sizes["P"]
    if rung == "v6_mma_group":
        tile = mma_constants(R, D, P)
    else:
        tile = group_constants(R, D, P, shared_limit()) if rung in MMA else constants(R, D, P, q.dtype.itemsize)
    check_grid(H=rows(tile, k_pages), B=sizes["B"])
    arrays = [aligned(x) for x in (q, k_pages, v_pages, page_table, lengths)]
    given = [np.int32(sizes["G"]), np.int32(page_table.shape[1]), np.float32(scale * LOG2E)]
    if rung in MMA[1:]:  # they look at pages themselves
        given.insert(2, np.int32(len(k_pages)))
    return arrays, np.empty_like(q, order="C"), tile, given


def check(q, k_pages, v_pages, rung):
    """Raise ShapeError or DtypeError, in letters, unless the rung takes q and the pages; return the sizes."""
    pool = ("pages", "P", "G", "D")
    sizes = bind(q=(q, "BHD"), k_pages=(k_pages, pool), v_pages=(v_pages, pool))
    sizes.divides("G", "H")
    same_dtype(("float16",) if rung in MMA else ("float32", "float16"), q=q, k_pages=k_pages, v_pages=v_pages)
    check_rows(sizes, q.dtype, rung)
    return sizes


def states(tile, grid, like):
    """Return uninitialised float32 CuPy arrays for (m, l) and o of every share of every block's heads."""
    count, blocks, B = grid
    shapes = ((B, blocks, count, tile["HEADS"], width) for width in (2, tile["D"]))
    return [np.empty_like(like, dtype=np.float32, shape=shape, order="C") for shape in shapes]


def aligned(x):
    """Return the array, copied only where a kernel could not read its rows one after another, 16 bytes at a time."""
    return x if x.flags.c_contiguous and x.data.ptr % CHUNK == 0 else x.copy(order="C")
