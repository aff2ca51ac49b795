"""The rungs in CUDA C++: which inputs they take, their constants, and their launches."""

from pathlib import Path

import numpy as np

from minikernels.core.limits import check_grid
from minikernels.launch import multiprocessors, raw
from minikernels.selective_scan.outputs import check_warp, completed
from minikernels.selective_scan.schedule import chunks

THREADS = 128
RESIDENT = 4  # blocks that a multiprocessor runs at once
PER = 4  # states of a thread
VEC = 4  # channels that one load reads
EACH = 2  # channels of a thread in v7_channel_pairs and v8_staging_warps
PAIRS_RESIDENT, PAIRS_ALONE = 3, 0.72  # blocks of v7_channel_pairs on a multiprocessor; one takes so much of their time
STAGING_RESIDENT, STAGING_ALONE = 2, 0.62  # of v8_staging_warps, whose blocks have twice the threads
APART = 4  # pairs of padding of a row of outputs in shared memory
ALIGNED = 16  # bytes
FOLDER = Path(__file__).parent


def launch_v5_registers(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state):
    """Return o and the last state; a block owns its channels from the first token to the last.

    Differs from v4_blelloch: tokens follow one another again; channels and states are what is parallel. Decays are
    powers of two; b and c pass through shared memory.

    Parameters
    ----------
    u, delta : CuPy array of shape (B, T, E), float32 or float16
    a : CuPy array of shape (E, N), float32
        N up to 128.
    b, c : CuPy array of shape (B, T, N), of u's dtype
    d, z, delta_bias, initial_state : CuPy array or None
        (E,), (B, T, E), (E,), (B, E, N); z of u's dtype, the others float32.
    delta_softplus : bool
    """
    given, tile = prepared(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state, "v5_registers")
    (B, T, E), o = u.shape, np.empty_like(u, order="C")
    last = np.empty_like(given[-1], order="C")
    kernel("v5_registers", tile)[(blocks_of(E, tile), B), THREADS](*given, o, last, np.int32(T), np.int32(E))
    return o, last


def launch_v6_three_phase(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state, count=None):
    """Return o and the last state; tokens are split into chunks: local states, the carry, then every chunk again.

    Differs from v5_registers: a block owns a chunk of the tokens. One chunk is v5.

    Parameters
    ----------
    u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state
        As for `launch_v5_registers`.
    count : int, optional
        Chunks of a sequence; by default as many as fill the GPU soonest.
    """
    given, tile = prepared(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state, "v6_three_phase")
    count, share = divided(u, tile, RESIDENT, 1.0, count)
    if count == 1:
        return launch_v5_registers(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state)
    return in_chunks("v6_three_phase", given, tile, tile, THREADS, count, share)


def launch_v7_channel_pairs(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state, count=None):
    """Return o and the last state; a thread owns states of two channels, and reads b and c once for both.

    Differs from v6_three_phase: two channels a thread; a tile of tokens is staged while the one before is gone through.
    With one chunk a sequence the last phase alone runs.

    Parameters
    ----------
    u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state
        As for `launch_v5_registers`.
    count : int, optional
        Chunks of a sequence; by default as many as fill the GPU soonest.
    """
    given, tile = prepared(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state, "v7_channel_pairs")
    pairs = pair_constants(tile, u.shape[2])
    count, share = divided(u, pairs, PAIRS_RESIDENT, PAIRS_ALONE, count)
    return in_chunks("v7_channel_pairs", given, pairs, tile, THREADS, count, share)


def launch_v8_staging_warps(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state, count=None):
    """Return o and the last state; half of the warps stage tokens and write outputs, the other half own states.

    Differs from v7_channel_pairs: what happens to a token once is done by warps that do nothing else.

    Parameters
    ----------
    u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state, count
        As for `launch_v7_channel_pairs`.
    """
    given, tile = prepared(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state, "v8_staging_warps")
    pairs = pair_constants(tile, u.shape[2])
    count, share = divided(u, pairs, STAGING_RESIDENT, STAGING_ALONE, count)
    return in_chunks("v8_staging_warps", given, pairs, tile, 2 * THREADS, count, share)


def divided(u, tile, resident, alone, count=None):
    """Return (chunks of a sequence, tokens of a chunk): `count` chunks, or as many as fill the GPU soonest.

    `resident` blocks run on a multiprocessor at once; alone there, a block takes the share `alone` of their time.
    """
    B, T, E = u.shape
    tiles = -(-T // tile["TOKENS"])
    if count is None:
        count, each = chunks(B * blocks_of(E, tile), tiles, multiprocessors(), resident, alone)
    else:
        each = -(-tiles // count)
        count = -(-tiles // each)
    check_grid(chunks=count)
    return count, each * tile["TOKENS"]


def in_chunks(rung, given, tile, carried, threads, count, share):
    """Return o and the last state by a rung of three phases, or by the last one where a sequence is one chunk.

    Parameters
    ----------
    rung : str
        Its file and the kernel of its last phase.
    given : list
        What `prepared` returned.
    tile, carried : dict
        Constants of the rung, and of the kernel that carries states from chunk to chunk.
    threads : int
        Of a block.
    count, share : int
        Chunks of a sequence, tokens of a chunk.
    """
    u, delta, a, b, c, d, z, delta_bias, state = given
    (B, T, E), N, blocks = u.shape, a.shape[1], blocks_of(u.shape[2], tile)
    o, last, before = np.empty_like(u, order="C"), np.empty_like(state, order="C"), state
    ends, shared = (np.int32(T), np.int32(E), np.int32(share)), shared_bytes(tile)
    if count > 1:
        before, sums = (np.empty_like(a, shape=shape, order="C") for shape in ((B, count, E, N), (B, count, E)))
        local = kernel(rung, tile, "local_states")
        count32 = np.int32(count)
        local[(blocks, count - 1, B), threads, 0, shared](u, delta, a, b, delta_bias, before, sums, *ends, count32)
        carry = kernel("v6_three_phase", carried, "carry_states")
        carry[(-(-E * N // THREADS), B), THREADS](a, state, before, sums, np.int32(E), count32)
    apply = kernel(rung, tile)
    apply[(blocks, count, B), threads, 0, shared](u, delta, a, b, c, d, z, delta_bias, before, o, last, *ends)
    return o, last


def prepared(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state, rung):
    """Return (u, delta, a, b, c, d, z, delta_bias, state) as the kernels read them, and their constants."""
    (B, _, E), N = u.shape, a.shape[1]
    check_grid(B=B)
    check_warp(N, rung)
    tile = constants(N, E, u.dtype.itemsize, delta_softplus, d is not None, z is not None)
    d, z, delta_bias, state = completed(u, a, d, z, delta_bias, initial_state)
    return [aligned(x) for x in (u, delta, a, b, c, d, z, delta_bias, state)], tile


def constants(N, E, itemsize, softplus=True, skip=True, gated=True):
    """Return the kernels' constants for E channels of N states.

    >>> constants(16, 2048, 2)["LANES"], constants(16, 2048, 2)["TOKENS"], constants(3, 5, 4)["VEC"]
    (4, 32, 1)
    """
    lanes = 1 << (-(-N // PER) - 1).bit_length()
    return {"N": N, "ITEM_BYTES": itemsize, "LANES": lanes, "TOKENS": 32 if 4 <= lanes <= 16 else 16,
            "VEC": 1 if E % VEC else VEC, "SOFTPLUS": bool(softplus), "SKIP": skip, "GATED": gated}


def pair_constants(tile, E):
    """Return the constants of v7_channel_pairs and v8_staging_warps beside those of the older rungs.

    >>> sorted(pair_constants(constants(16, 2048, 2), 2048).items())[2:]  # doctest: +ELLIPSIS
    [('LANES', 4), ('MIX', 4), ('N', 16), ('SKIP', True), ('SOFTPLUS', True), ('TOKENS', 32), ('VEC', 8)]
    """
    lanes = max(2, tile["LANES"])  # so that a row of channels is no longer than a block has threads
    widest = min(16 // tile["ITEM_BYTES"], EACH * THREADS // lanes)
    vec = next(n for n in (8, 4, 2, 1) if n <= widest and E % n == 0)
    tokens = 8 if lanes == 2 else 32 if vec == 8 else 16  # as many as the registers of those that stage them hold
    return tile | {"LANES": lanes, "TOKENS": tokens, "VEC": vec, "MIX": 1 if tile["N"] % 4 else 4}


def shared_bytes(tile):
    """Return how much dynamic shared memory a block asks for: two sides, in the rungs that have them.

    >>> shared_bytes(constants(16, 2048, 2)), shared_bytes(pair_constants(constants(16, 2048, 2), 2048))
    (0, 59392)
    """
    pairs = THREADS // tile["LANES"]
    return 2 * tile["TOKENS"] * (16 * pairs + 2 * 16 * tile["LANES"] + 8 * (pairs + APART)) if "MIX" in tile else 0


def blocks_of(E, tile):
    """Return how many blocks own the channels of a sequence."""
    return -(-E // (THREADS // tile["LANES"] * (EACH if "MIX" in tile else 1)))


def kernel(file, tile, name=None):
    """Return a kernel of one of this folder's files."""
    return raw(FOLDER / f"{file}.cu", name or file, constants=tile, min_arch=(8, 0))


def aligned(x):
    """Return the array, copied only where a kernel could not read it in whole vectors, one row after another."""
    return x if x.flags.c_contiguous and x.data.ptr % ALIGNED == 0 else x.copy(order="C")
