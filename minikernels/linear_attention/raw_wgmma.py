"""The rungs in CUDA C++ that only sm_90 runs, by wgmma and tensor maps: their constants and launches."""

import math

import numpy as np

from minikernels.core.errors import DtypeError
from minikernels.launch import HOPPER, multiprocessors, raw, shared_limit, tensor_map
from minikernels.linear_attention.raw import (
    FOLDER,
    NOTHING,
    aligned,
    carry,
    check,
    constants,
    gate_bytes,
    kernel,
    scratch,
    shrink,
)
from minikernels.linear_attention.raw import shared_bytes as raw_shared_bytes
from minikernels.linear_attention.raw import threads as raw_threads
from minikernels.linear_attention.schedule import segments_of

CHUNK = 64  # tokens that the kernels take at a time
BOX = (64, 64)  # rows and columns of float16 that are copied together: 8 KB
BOX_BYTES = 8192
TEAM = 128  # threads
ALIGNMENT = 1024  # bytes of shared memory that a swizzle's pattern takes
GATED_BYTES = 4 * BOX[1] * 4  # what halves of two chunks leave of the channels of a box
BARRIERS = 256  # bytes, more than there are
REGISTERS = {"SCORER_REGISTERS": 104, "KEEPER_REGISTERS": 200}  # of a thread; 384 threads begin with 168 each


def launch_v5_wgmma(q, k, v, decay, gate, scale, initial_state, return_state, segments=None):
    """Return o and, if `return_state`, the last state; as many blocks a head as fill the GPU. Decays only.

    Differs from v4_split_along_time: wgmma on chunks of 64 tokens, copied by the tensor memory accelerator; scores run
    ahead of the state, on warps of their own.

    Parameters
    ----------
    q, k, v : CuPy array of shape (B, H, T, D), float16
        D a multiple of 8, up to 128.
    decay : CuPy array of shape (H,), float32
    gate : None
    scale : float
    initial_state : CuPy array of shape (B, H, D, D), float32, or None
    return_state : bool
    segments : int, optional
        Pieces of a head's tokens, in whole chunks; by default from B*H, T and the GPU's multiprocessors.

    Raises
    ------
    DtypeError
        If there are gates.
    DeviceError
        Unless the GPU's compute capability is 9.0.
    """
    check(q, k, v, "v5_wgmma")
    if gate is not None:
        raise DtypeError("rung v5_wgmma takes decays and no gates; rung v4_split_along_time takes both")
    (B, H, T, D), tile = q.shape, constants_v5(q.shape[3])
    count, tokens = segments_of(B * H, T, CHUNK, multiprocessors(), segments)
    q, k, v, decay, states = (aligned(x) for x in (q, k, v, decay, initial_state))
    o, state = np.empty_like(q), scratch(q, (B, H, D, D)) if return_state else NOTHING
    maps = [tensor_map(x, BOX) for x in (q, k, v, o)]
    cut, factor = (np.int32(count), np.int32(tokens)), np.float32(shrink(scale))
    block = threads(D), None, shared_bytes(tile)
    if count > 1:
        start, states, lefts = states, scratch(q, (B, H, count, D, D)), scratch(q, (B, H, count, D))
        local = hopper("v5_wgmma", tile, "local_states")[(B * H * (count - 1), *block)]
        local(*maps[1:3], decay, states, lefts, np.int32(H), *cut, factor)
        carry(states, lefts, start)
    apply = hopper("v5_wgmma", tile)[(B * H * count, *block)]
    apply(*maps, decay, states, state, np.int32(H), np.int32(T), *cut, np.float32(scale), factor)
    return o, state if return_state else None


def launch_v6_factored_gates(q, k, v, decay, gate, scale, initial_state, return_state, segments=None):
    """Return o and, if `return_state`, the last state; without gates this is v5_wgmma.

    Differs from v5_wgmma: gates, taken apart at the middle of a chunk, fade its queries and keys. Segments whose gates
    are too strong for that are computed again, by the kernels of v4_split_along_time: the GPU decides, without a word
    to the host.

    Parameters
    ----------
    q, k, v, decay, gate, scale, initial_state, return_state, segments
        As for `launch_v5_wgmma`; the gate is a CuPy array of shape (B, H, T, D), float16 or float32, or None.
    """
    if gate is None:
        return launch_v5_wgmma(q, k, v, decay, gate, scale, initial_state, return_state, segments)
    check(q, k, v, "v6_factored_gates")
    (B, H, T, D), tile, exact = q.shape, constants_v6(q.shape[3], gate_bytes(gate)), constants(
        q.shape[3], gate_bytes(gate), shared_limit())
    count, tokens = segments_of(B * H, T, CHUNK, multiprocessors(), segments)
    q, k, v, decay, gate, states = (aligned(x) for x in (q, k, v, decay, gate, initial_state))
    o, state = np.empty_like(q), scratch(q, (B, H, D, D)) if return_state else NOTHING
    qs, ks, vs, os = (tensor_map(x, BOX) for x in (q, k, v, o))
    gates = tensor_map(gate, (CHUNK, boxes(D) * BOX[1]), swizzle=False)
    refused = np.empty_like(q, dtype=np.int32, shape=(B, H, count), order="C")
    heads, times, factors = np.int32(H), np.int32(T), (np.float32(scale), np.float32(shrink(scale)))
    cut, block = (np.int32(count), np.int32(tokens)), (threads(D), None, shared_bytes(tile))
    again = raw_threads(exact), None, raw_shared_bytes(exact)
    if count > 1:
        start, states, lefts = states, scratch(q, (B, H, count, D, D)), scratch(q, (B, H, count, D))
        grid = B * H * (count - 1)
        local = hopper("v6_factored_gates", tile, "local_states")[(grid, *block)]
        local(ks, vs, gates, decay, states, lefts, refused, heads, *cut, factors[1])
        local = kernel("v4_split_along_time", exact, "local_states")[(grid, *again)]
        local(k, v, decay, gate, states, lefts, refused, heads, times, *cut, factors[1])
        carry(states, lefts, start)
    apply = hopper("v6_factored_gates", tile)[(B * H * count, *block)]
    apply(qs, ks, vs, gates, os, decay, states, state, refused, heads, times, *cut, *factors)
    apply = kernel("v4_split_along_time", exact)[(B * H * count, *again)]
    apply(q, k, v, decay, gate, states, o, state, refused, heads, times, *cut, *factors)
    return o, state if return_state else None


def constants_v5(D):
    """Return the kernels' constants; narrow chunks leave room for one more of them.

    >>> constants_v5(128)["STAGES"], constants_v5(64)["STAGES"]
    (3, 4)
    """
    tile = {"D": D, "STAGES": 3 if D > BOX[1] else 4, **REGISTERS}
    return tile | {"SHARED_BYTES": shared_bytes(tile)}


def constants_v6(D, gate_bytes):
    """Return the kernels' constants; gates take what v5 has left of shared memory."""
    tile = constants_v5(D) | {"GATE_BYTES": gate_bytes}
    return tile | {"SHARED_BYTES": shared_bytes(tile)}


def boxes(D):
    """Return how many boxes hold the channels."""
    return math.ceil(D / BOX[1])


def threads(D):
    """Return the threads of a block: a team of scorers, and one of keepers for 64 value columns."""
    return TEAM * (1 + boxes(D))


def shared_bytes(tile):
    """Return the bytes of shared memory of a block: stages of q, k and v, scores of two chunks, o, gates, barriers."""
    wide = boxes(tile["D"])
    staged = ((3 * tile["STAGES"] + 1) * wide + 2) * BOX_BYTES
    gates = wide * (2 * BOX_BYTES + GATED_BYTES) if "GATE_BYTES" in tile else 0  # two chunks of float16, one of float32
    return staged + gates + BARRIERS + ALIGNMENT


def hopper(file, tile, name=None):
    """Return a kernel of one of this folder's files, for sm_90a."""
    return raw(FOLDER / f"{file}.cu", name or file, constants=tile, **HOPPER)
