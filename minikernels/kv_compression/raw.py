"""The rungs of decode in CUDA C++: which caches they take, their tile sizes, and their launches."""

from pathlib import Path

import numpy as np

from minikernels.core.decode import shares
from minikernels.core.errors import ShapeError
from minikernels.core.limits import check_grid
from minikernels.core.numerics import LOG2E
from minikernels.core.shapes import bind, same_dtype
from minikernels.kv_compression.outputs import CHUNK, MATRICES, check_axes, check_codes
from minikernels.launch import multiprocessors, raw

THREADS = 128
WARPS = 4
MOST_UNROLL = 4  # tokens, of keys and of values, that a lane reads before it waits for the first
MOST_HEADS = {8: 8, 4: 4}  # query heads of a block by bits: a lane keeps 16 or 32 columns of each
RESIDENT = {16: 4, 32: 4, 64: 3}  # blocks of a multiprocessor by outputs of a lane, where not 2: registers decide
STEPS = 64, 32, 16  # tokens that a warp takes at a time, the most that divide a group and have not too many bits:
MOST_BITS = 32 * 4 * 128  # of their keys' codes
MOST_STAGES = 8  # steps of a warp's ring
RING_BYTES = 54 * 1024  # of shared memory: what each of four blocks of a multiprocessor may have, but for its queries
FOLDER = Path(__file__).parent


def launch_v3_wide_loads(q, k_cache, v_cache, lengths, scale):
    """Return o; a block owns up to 8 query heads of a group (4 over 4-bit codes) and all tokens of their sequence.

    Differs from v2_folded_scales: 16-byte loads of codes, up to 4 of keys and 4 of values under way in each lane.

    Parameters
    ----------
    q : CuPy array of shape (B, H, D), float32 or float16
    k_cache, v_cache : QuantizedCache of shape (B, G, S, D), with CuPy arrays
        Of equal bits; D is a multiple of 32 (4 bits) or 16 (8 bits), up to 128.
    lengths : CuPy array of shape (B,), int32
    scale : float
    """
    return unsplit("v3_wide_loads", 0, q, k_cache, v_cache, lengths, scale)


def launch_v4_half2(q, k_cache, v_cache, lengths, scale):
    """Return o.

    Differs from v3_wide_loads: codes become float16 numbers two at a time, by a logical operation.
    """
    return unsplit("v4_half2", 1, q, k_cache, v_cache, lengths, scale)


def launch_v5_split_kv(q, k_cache, v_cache, lengths, scale, count=None):
    """Return o; the tokens of every sequence are split into equal shares, as many as fill the GPU soonest.

    Differs from v4_half2: a block owns a share of the tokens; a second kernel merges the states. One share is v4.

    Parameters
    ----------
    q, k_cache, v_cache, lengths, scale
        As for `launch_v3_wide_loads`.
    count : int, optional
        Shares of a sequence; by default from S and the GPU's multiprocessors (lengths stay on the GPU, unread).
    """
    arrays, o, rows, tile = prepared(q, k_cache, v_cache, "v5_split_kv", pairs=1)
    (B, _, D), (G, S), H = q.shape, k_cache.shape[1:3], tile["HEADS"]
    if count is None:
        count = shares(B * rows, -(-S // (WARPS * tile["K_GROUP"])), multiprocessors() * tile["RESIDENT"])
    if count == 1:
        return launch_v4_half2(q, k_cache, v_cache, lengths, scale)
    ml, part = (np.empty_like(q, np.float32, shape=(B, rows, count, H, width), order="C") for width in (2, D))
    sizes = np.int32(G), np.int32(S), np.int32(k_cache.quantized), np.float32(scale * LOG2E)
    kernel("v5_split_kv", tile)[(count, rows, B), THREADS](*arrays, lengths, ml, part, *sizes)
    kernel("v5_split_kv", tile, "merge_splits")[(rows, B, H), THREADS](ml, part, o, np.int32(G), np.int32(count))
    return o


def launch_v6_mma(q, k_cache, v_cache, lengths, scale, count=None):
    """Return o; codes are operands of the tensor cores, made in registers.

    Differs from v5_split_kv: scores and outputs are products of mma.sync m16n8k16, for up to 8 query heads of a group.

    Parameters
    ----------
    q, k_cache, v_cache, lengths, scale, count
        As for `launch_v5_split_kv`; D is 32, 64 or 128, the keys' group a multiple of 16, the values' of 32, or D and
        more. Over a float16 cache, q times a key's scale must be a float16.
    """
    return split_or_not("v6_mma", q, k_cache, v_cache, lengths, scale, count)


def launch_v7_matrices(q, k_cache, v_cache, lengths, scale, count=None):
    """Return o; whole steps of codes lie in shared memory, from where ldmatrix deals them out as operands.

    Differs from v6_mma: no code is loaded by the lane that multiplies it, and one or two instructions make it a number.

    Parameters
    ----------
    q, k_cache, v_cache, lengths, scale, count
        As for `launch_v6_mma`, in float16.
    """
    return split_or_not("v7_matrices", q, k_cache, v_cache, lengths, scale, count)


def launch_v8_ring(q, k_cache, v_cache, lengths, scale, count=None):
    """Return o; a warp's copies of later tokens are under way while it multiplies those before.

    Differs from v7_matrices: a ring of steps in shared memory, all but one of them on their way at any time.

    Parameters
    ----------
    q, k_cache, v_cache, lengths, scale, count
        As for `launch_v7_matrices`.
    """
    return split_or_not("v8_ring", q, k_cache, v_cache, lengths, scale, count)


def split_or_not(rung, q, k_cache, v_cache, lengths, scale, count, **options):
    """Launch `count` blocks for the rows of every sequence, and a kernel that merges what several left."""
    arrays, o, rows, tile = prepared(q, k_cache, v_cache, rung, **options)
    (B, _, D), (G, S), H = q.shape, k_cache.shape[1:3], tile["HEADS"]
    if count is None:
        count = shares(B * rows, -(-S // (WARPS * tile["K_GROUP"])), multiprocessors() * tile["RESIDENT"])
    slots = (B, rows, count if count > 1 else 0, H)
    ml, part = (np.empty_like(q, np.float32, shape=(*slots, width), order="C") for width in (2, D))
    sizes = np.int32(G), np.int32(S), np.int32(k_cache.quantized), np.float32(scale * LOG2E)
    shared = tile.get("SHARED_BYTES", 0)
    kernel(rung, tile)[(count, rows, B), THREADS, 0, shared](*arrays, lengths, o, ml, part, *sizes)
    if count > 1:
        kernel(rung, tile, "merge_splits")[(rows, B, H), THREADS](ml, part, o, np.int32(G), np.int32(count))
    return o


def unsplit(rung, pairs, q, k_cache, v_cache, lengths, scale):
    """Launch a block for the rows of every sequence."""
    arrays, o, rows, tile = prepared(q, k_cache, v_cache, rung, pairs=pairs)
    G, S = k_cache.shape[1:3]
    sizes = np.int32(G), np.int32(S), np.int32(k_cache.quantized), np.float32(scale * LOG2E)
    kernel(rung, tile)[(rows, q.shape[0]), THREADS](*arrays, lengths, o, *sizes)
    return o


def constants(R, D, itemsize, bits, k_group=64, v_group=64, pairs=1):
    """Return the kernels' constants where R query heads share a key/value head.

    >>> made = constants(4, 128, 2, 4)
    >>> made["HEADS"], made["UNROLL"], made["RESIDENT"]
    (4, 2, 2)
    """
    heads, codes = min(R, MOST_HEADS[bits]), 8 * CHUNK // bits
    lanes = 1 << (D // codes - 1).bit_length()
    found = {"D": D, "ITEM_BYTES": itemsize, "R": R, "HEADS": heads, "BITS": bits, "K_GROUP": k_group}
    unroll = MOST_UNROLL if heads * codes <= 32 or bits == 8 and heads <= 4 else 2
    found |= {"V_GROUP": min(v_group, D), "UNROLL": max(1, min(unroll, k_group * lanes // 32)), "PAIRS": pairs}
    return found | {"RESIDENT": RESIDENT.get(heads * codes, 2)}


def constants_v6(R, D, itemsize, bits, k_group=64, v_group=64):
    """Return the constants of v6_mma where R query heads share a key/value head."""
    found = {"D": D, "ITEM_BYTES": itemsize, "R": R, "HEADS": min(R, 8), "BITS": bits, "K_GROUP": k_group}
    return found | {"V_GROUP": min(v_group, D), "RESIDENT": 3 if itemsize == 2 else 2}


def constants_v7(R, D, itemsize, bits, k_group=64, v_group=64, step=None, resident=None):
    """Return the constants of v7_matrices where R query heads share a key/value head."""
    found = constants_v6(R, D, itemsize, bits, k_group, v_group)
    step = step or next(n for n in STEPS if k_group % n == 0 and n * bits * D <= MOST_BITS)
    return with_shared(found | {"STEP": step, "RESIDENT": resident or 4}, 1)


def constants_v8(R, D, itemsize, bits, k_group=64, v_group=64, stages=None, **options):
    """Return the constants of v8_ring where R query heads share a key/value head.

    >>> made = constants_v8(4, 128, 2, 4)
    >>> made["STEP"], made["STAGES"], made["SHARED_BYTES"]
    (32, 2, 40960)
    """
    found = constants_v7(R, D, itemsize, bits, k_group, v_group, **options)
    stages = stages or max(2, min(MOST_STAGES, RING_BYTES // (WARPS * step_bytes(found))))
    return with_shared(found | {"STAGES": stages}, stages)


def with_shared(tile, stages):
    """Return the constants with the bytes of shared memory: steps in stages, or the states that take their place."""
    states = whole_lines(4 * WARPS * tile["HEADS"] * (tile["D"] + 2))
    queries = whole_lines(16 * tile["D"])
    return tile | {"SHARED_BYTES": queries + max(WARPS * stages * step_bytes(tile), states)}


def step_bytes(tile):
    """Return the bytes of shared memory of a step: codes, a group's scales and minima of keys, a token's of values."""
    D, step = tile["D"], tile["STEP"]
    return whole_lines(2 * step * D * tile["BITS"] // 8 + 4 * D + 4 * step * -(-D // tile["V_GROUP"]))


def whole_lines(n):
    """Return a number of bytes, rounded up to whole lines of shared memory."""
    return -(-n // 128) * 128


def kernel(file, tile, name=None):
    """Return a kernel of one of this folder's files."""
    return raw(FOLDER / f"{file}.cu", name or file, constants=tile, min_arch=(8, 0))


def prepared(q, k_cache, v_cache, rung, **options):
    """Return the arrays, an output, rows of a sequence and the kernels' constants, or raise as `check` does."""
    sizes = check(q, k_cache, v_cache, rung)
    R, D = sizes["H"] // sizes["G"], sizes["D"]
    given = R, D, q.dtype.itemsize, k_cache.bits, k_cache.group, v_cache.group
    made_of = {"v6_mma": constants_v6, "v7_matrices": constants_v7, "v8_ring": constants_v8}.get(rung, constants)
    tile = made_of(*given, **options)
    rows = sizes["G"] * -(-R // tile["HEADS"])
    check_grid(H=rows, B=sizes["B"])
    arrays = [aligned(x) for x in (q, *k_cache.arrays.values(), *v_cache.arrays.values())]
    return arrays, np.empty_like(q, order="C"), rows, tile


def check(q, k_cache, v_cache, rung):
    """Raise ShapeError or DtypeError unless the raw rungs take q and the caches; return the sizes."""
    sizes = bind(q=(q, "BHD"), k_cache=(k_cache, "BGSD"), v_cache=(v_cache, "BGSD"))
    sizes.divides("G", "H")
    same_dtype(("float16",) if rung in MATRICES[1:] else ("float32", "float16"), q=q, k_cache=k_cache, v_cache=v_cache)
    check_axes(k_cache, v_cache, rung)
    bits = k_cache.bits
    if v_cache.bits != bits:
        raise ShapeError(f"k_cache has {bits} bits and v_cache {v_cache.bits}; rung {rung} takes caches of equal bits, "
                         "rung v2_folded_scales any")
    check_codes(sizes, bits, k_cache.group, v_cache.group, rung)
    return sizes


def aligned(x):
    """Return the array, copied only where a kernel could not read its rows one after another, 16 bytes at a time."""
    return x if x.flags.c_contiguous and x.data.ptr % CHUNK == 0 else x.copy(order="C")
