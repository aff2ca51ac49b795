"""The rungs in CUDA C++: which inputs they take, their tile sizes, and their launches."""

import math
from pathlib import Path

import numpy as np

from minikernels.core.shapes import bind, same_dtype
from minikernels.launch import multiprocessors, raw, shared_limit
from minikernels.linear_attention.schedule import resident, segments_of

STEP = 16  # tokens that the kernels take at a time
FLOAT, HALF = 4, 2  # bytes
ALIGNMENT = 16  # bytes: the widest load
WIDTH_LIMIT = 128  # a warp keeps 16 columns of the state in registers, WIDTH rows of it
SMALLEST = -8  # exponent of the least power of two that states, and faded values, are multiplied by: less costs digits
NOTHING = np.uintp(0)  # a null pointer
FOLDER = Path(__file__).parent
CARRIERS = 256  # threads of a block of carry_states


def launch_v3_mma_chunk(q, k, v, decay, gate, scale, initial_state, return_state):
    """Return o and, if `return_state`, the last state; one block a head.

    Differs from v2_chunk: products on the tensor cores, operands in float16; the state never leaves the registers.

    Parameters
    ----------
    q, k, v : CuPy array of shape (B, H, T, D), float16
        D a multiple of 8, up to 128.
    decay : CuPy array of shape (H,), float32
    gate : CuPy array of shape (B, H, T, D), float16 or float32, or None
    scale : float
    initial_state : CuPy array of shape (B, H, D, D), float32, or None
    return_state : bool
    """
    check(q, k, v, "v3_mma_chunk")
    (B, H, T, D), tile = q.shape, constants(q.shape[3], gate_bytes(gate), shared_limit())
    q, k, v, decay, gates, start = (aligned(x) for x in (q, k, v, decay, gate, initial_state))
    o, state = np.empty_like(q), scratch(q, (B, H, D, D)) if return_state else NOTHING
    sizes = np.int32(H), np.int32(T), np.float32(scale), np.float32(shrink(scale))
    run = kernel("v3_mma_chunk", tile)[B * H, threads(tile), None, shared_bytes(tile)]
    run(q, k, v, decay, gates, start, o, state, *sizes)
    return o, state if return_state else None


def launch_v4_split_along_time(q, k, v, decay, gate, scale, initial_state, return_state, segments=None):
    """Return o and, if `return_state`, the last state; as many blocks a head as fill the GPU.

    Differs from v3_mma_chunk: the tokens of a head are cut into segments. One segment is v3.

    Parameters
    ----------
    q, k, v, decay, gate, scale, initial_state, return_state
        As for `launch_v3_mma_chunk`.
    segments : int, optional
        Pieces of a head's tokens, in whole tiles; by default from B*H, T and the GPU's multiprocessors.
    """
    check(q, k, v, "v4_split_along_time")
    (B, H, T, D), tile = q.shape, constants(q.shape[3], gate_bytes(gate), shared_limit())
    count, tokens = segments_of(B * H, T, tile["TILE"], multiprocessors() * resident(D), segments)
    if count == 1:
        return launch_v3_mma_chunk(q, k, v, decay, gate, scale, initial_state, return_state)
    q, k, v, decay, gates, start = (aligned(x) for x in (q, k, v, decay, gate, initial_state))
    o, state = np.empty_like(q), scratch(q, (B, H, D, D)) if return_state else NOTHING
    states, lefts = scratch(q, (B, H, count, D, D)), scratch(q, (B, H, count, D))
    cut, factor = (np.int32(H), np.int32(T), np.int32(count), np.int32(tokens)), np.float32(shrink(scale))
    block = threads(tile), None, shared_bytes(tile)
    local, apply = (kernel("v4_split_along_time", tile, name) for name in ("local_states", "v4_split_along_time"))
    local[(B * H * (count - 1), *block)](k, v, decay, gates, states, lefts, NOTHING, *cut, factor)
    carry(states, lefts, start)
    apply[(B * H * count, *block)](q, k, v, decay, gates, states, o, state, NOTHING, *cut, np.float32(scale), factor)
    return o, state if return_state else None


def carry(states, lefts, start):
    """Put the state before each segment of a head in the place of the segment's own: ``states`` (B, H, count, D, D)."""
    B, H, count, D, _ = states.shape
    run = kernel("v4_split_along_time", constants(D, 0, shared_limit()), "carry_states")
    run[(B * H, math.ceil(D * D / CARRIERS)), CARRIERS](states, lefts, start, np.int32(count))


def constants(D, gate_bytes, limit=227 * 1024):
    """Return the kernels' constants: the largest tiles, then the most of them, that `limit` bytes hold.

    The least `limit` of a GPU of compute capability 8.0 or newer is 99 KB.

    >>> constants(128, 0)["TILE"], constants(128, 0)["STAGES"], constants(128, 4, limit=99 * 1024)["TILE"]
    (64, 3, 16)
    """
    sizes = ((tile, stages) for tile in (64, 32, 16) for stages in (3, 2))
    tiles = ({"D": D, "TILE": tile, "STAGES": stages, "GATE_BYTES": gate_bytes} for tile, stages in sizes)
    return next(tile for tile in tiles if shared_bytes(tile) <= limit)


def shared_bytes(tile):
    """Return the bytes of shared memory of a block: staged tiles, scores, rows of o, and what gates leave."""
    rows, width, gate = tile["TILE"], padded(tile["D"]), tile["GATE_BYTES"]
    stage = rows * (3 * (width + 8) * HALF + (width * gate + 16 if gate else 0))
    scratch = (rows + width) * (STEP + 8) * HALF  # as many rows of o as the warps have in hand: WIDTH
    return tile["STAGES"] * stage + scratch + (rows + rows // STEP) * width * FLOAT * bool(gate)


def padded(D):
    """Return D rounded up to whole steps of mma."""
    return -(-D // 16) * 16


def threads(tile):
    """Return the threads of a block: a warp for 16 value columns."""
    return 2 * padded(tile["D"])


def shrink(scale):
    """Return the power of two that states are multiplied by before float16 has to hold them: about scale, at most 1.

    >>> shrink(1.0), shrink(0.1), shrink(0.0)
    (1.0, 0.0625, 1.0)
    """
    return 2.0 ** max(SMALLEST, min(0, math.frexp(abs(scale))[1] - 1)) if scale else 1.0


def gate_bytes(gate):
    """Return the bytes of a gate, 0 where there are none."""
    return 0 if gate is None else gate.dtype.itemsize


def kernel(file, tile, name=None):
    """Return a kernel of one of this folder's files."""
    return raw(FOLDER / f"{file}.cu", name or file, constants=tile, min_arch=(8, 0))


def check(q, k, v, rung):
    """Raise ShapeError or DtypeError, in letters, unless the raw rungs take q, k and v."""
    sizes = bind(q=(q, "BHTD"), k=(k, "BHTD"), v=(v, "BHTD"))
    same_dtype(("float16",), q=q, k=k, v=v)
    if sizes["D"] == 0 or sizes["D"] % 8:
        sizes.refuse("D", f"must be a multiple of 8, and not 0, for rung {rung}; rung v2_chunk takes it")
    sizes.at_most("D", WIDTH_LIMIT, f"{rung} keeps the state in registers; rung v1_recurrent takes any D up to 1024")


def scratch(like, shape):
    """Return an uninitialised float32 CuPy array, for states and what passes between kernels."""
    return np.empty_like(like, dtype=np.float32, shape=shape, order="C")


def aligned(x):
    """Return the array, copied only where a kernel could not read it 16 bytes at a time; a null pointer for None."""
    if x is None:
        return NOTHING
    return x if x.flags.c_contiguous and x.data.ptr % ALIGNMENT == 0 else x.copy(order="C")
