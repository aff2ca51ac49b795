"""The rungs in CUDA C++: which inputs they take, their constants, and their launches."""

from pathlib import Path

import numpy as np

from minikernels.core.errors import ShapeError
from minikernels.core.limits import check_grid
from minikernels.launch import multiprocessors, raw
from minikernels.selective_scan.outputs import completed
from minikernels.selective_scan.schedule import chunks

THREADS = 128
RESIDENT = 4  # blocks that a multiprocessor runs at once
PER = 4  # states of a thread
STATES_LIMIT = 32 * PER  # of a channel: those of one warp
VEC = 4  # channels that one load reads
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
    (B, T, E), N = u.shape, a.shape[1]
    blocks, tiles = blocks_of(E, tile), -(-T // tile["TOKENS"])
    if count is None:
        count, tiles_each = chunks(B * blocks, tiles, multiprocessors() * RESIDENT)
    else:
        tiles_each = -(-tiles // count)
        count = -(-tiles // tiles_each)
    if count == 1:
        return launch_v5_registers(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state)
    check_grid(chunks=count)
    u, delta, a, b, c, d, z, delta_bias, state = given
    part, sums = (np.empty_like(a, shape=shape, order="C") for shape in ((B, count, E, N), (B, count, E)))
    o, last = np.empty_like(u, order="C"), np.empty_like(state, order="C")
    share = tiles_each * tile["TOKENS"]
    T, E, share, count32 = (np.int32(size) for size in (T, E, share, count))
    local = kernel("v6_three_phase", tile, "local_states")
    local[(blocks, count - 1, B), THREADS](u, delta, a, b, delta_bias, part, sums, T, E, share, count32)
    carry = kernel("v6_three_phase", tile, "carry_states")
    carry[(-(-int(E) * N // THREADS), B), THREADS](a, state, part, sums, E, count32)
    apply = kernel("v6_three_phase", tile)
    apply[(blocks, count, B), THREADS](u, delta, a, b, c, d, z, delta_bias, part, o, last, T, E, share)
    return o, last


def prepared(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state, rung):
    """Return (u, delta, a, b, c, d, z, delta_bias, state) as the kernels read them, and their constants."""
    (B, _, E), N = u.shape, a.shape[1]
    check_grid(B=B)
    check_states(N, rung)
    tile = constants(N, E, u.dtype.itemsize, delta_softplus, d is not None, z is not None)
    d, z, delta_bias, state = completed(u, a, d, z, delta_bias, initial_state)
    return [aligned(x) for x in (u, delta, a, b, c, d, z, delta_bias, state)], tile


def check_states(N, rung):
    """Raise ShapeError where a channel has more states than a warp holds."""
    if N > STATES_LIMIT:
        raise ShapeError(f"N={N} must be at most {STATES_LIMIT} for rung {rung}; rung v2_token_major takes more")


def constants(N, E, itemsize, softplus=True, skip=True, gated=True):
    """Return the kernels' constants for E channels of N states.

    >>> constants(16, 2048, 2)["LANES"], constants(16, 2048, 2)["TOKENS"], constants(3, 5, 4)["VEC"]
    (4, 32, 1)
    """
    lanes = 1 << (-(-N // PER) - 1).bit_length()
    return {"N": N, "ITEM_BYTES": itemsize, "LANES": lanes, "TOKENS": 32 if 4 <= lanes <= 16 else 16,
            "VEC": 1 if E % VEC else VEC, "SOFTPLUS": bool(softplus), "SKIP": skip, "GATED": gated}


def blocks_of(E, tile):
    """Return how many blocks own the channels of a sequence."""
    return -(-E // (THREADS // tile["LANES"]))


def kernel(file, tile, name=None):
    """Return a kernel of one of this folder's files."""
    return raw(FOLDER / f"{file}.cu", name or file, constants=tile, min_arch=(8, 0))


def aligned(x):
    """Return the array, copied only where a kernel could not read it in whole vectors, one row after another."""
    return x if x.flags.c_contiguous and x.data.ptr % ALIGNED == 0 else x.copy(order="C")
