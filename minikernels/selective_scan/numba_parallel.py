"""v3_hillis_steele and v4_blelloch: a thread owns a token, and a block composes a chunk's maps in shared memory."""

import math
from functools import cache

from minikernels.core.limits import check_grid
from minikernels.launch import cuda, float32, kernel
from minikernels.selective_scan.numba_gates import silu, softplus
from minikernels.selective_scan.outputs import check_states, completed, new

CHUNK = 32  # tokens that a block composes at once, a power of two
CHANNELS = 8  # of a block: 8 neighbouring float32 are a sector


@cache
def v3_hillis_steele(N, SOFTPLUS, SKIP, GATED, CHUNK, CHANNELS):
    """Return the kernel for one number of states and one chunk; numba sizes arrays by constants."""
    LEVELS = CHUNK.bit_length() - 1

    @kernel
    def v3_hillis_steele(u, delta, a, b, c, d, z, delta_bias, state, o, last):
        """Scan CHANNELS channels, CHUNK tokens at a time: u, delta, z and o are (B, T, E).

        A thread owns one token of a chunk in one channel: the map h -> decay * h + drive of one state after another. A
        block owns CHANNELS channels of sequence b. Shared memory: (4*CHUNK + 3*N)*CHANNELS*4 bytes (5.5 KB at N=16).
        Differs from v2_token_major: the tokens of a chunk do not wait for one another. In LEVELS steps every map is
        composed with the one 1, 2, 4, ... tokens before it; the state before the chunk is put in last.
        """
        decay_smem = cuda.shared.array((2, CHUNK, CHANNELS), float32)  # read on one side, written on the other
        drive_smem = cuda.shared.array((2, CHUNK, CHANNELS), float32)
        a_smem = cuda.shared.array((N, CHANNELS), float32)
        h_smem = cuda.shared.array((2, N, CHANNELS), float32)  # states before even chunks, and before odd ones
        thread, batch = cuda.threadIdx.x, cuda.blockIdx.y
        channel, token = thread % CHANNELS, thread // CHANNELS
        T, E = u.shape[1], u.shape[2]
        top = cuda.blockIdx.x * CHANNELS
        e, held = top + channel, min(CHANNELS, E - top)
        bias = float32(0)
        skip = float32(0)
        if e < E:
            bias = delta_bias[e]
            if SKIP:
                skip = d[e]
        for i in range(thread, held * N, CHUNK * CHANNELS):  # rows of a and of the state lie one after another
            a_smem[i % N, i // N] = a[top + i // N, i % N]
            h_smem[0, i % N, i // N] = state[batch, top + i // N, i % N]
        cuda.syncthreads()  # rates and states are written before any thread reads them

        for first in range(0, T, CHUNK):
            t, before = first + token, first // CHUNK % 2
            here = t < T and e < E
            x = float32(0)
            step = float32(0)
            if here:
                x = float32(u[batch, t, e])
                step = float32(delta[batch, t, e]) + bias
                if SOFTPLUS:
                    step = softplus(step)
            y = float32(0)
            for n in range(N):
                decay = float32(1)  # a token past the end changes nothing: h -> 1 * h + 0
                drive = float32(0)
                if here:
                    decay = math.exp(step * a_smem[n, channel])
                    drive = step * x * float32(b[batch, t, n])
                decay_smem[0, token, channel] = decay
                drive_smem[0, token, channel] = drive
                cuda.syncthreads()  # every map is written before another thread composes its own with it
                for k in range(LEVELS):
                    side, earlier = k % 2, token - (1 << k)
                    if earlier >= 0:
                        drive += decay * drive_smem[side, earlier, channel]
                        decay *= decay_smem[side, earlier, channel]
                    decay_smem[1 - side, token, channel] = decay
                    drive_smem[1 - side, token, channel] = drive
                    cuda.syncthreads()  # this level is written before the next one reads it
                if e < E:
                    h = decay * h_smem[before, n, channel] + drive
                    if token == CHUNK - 1:
                        h_smem[1 - before, n, channel] = h
                    if here:
                        y += h * float32(c[batch, t, n])
            if here:
                if SKIP:
                    y += skip * x
                if GATED:
                    y *= silu(float32(z[batch, t, e]))
                o[batch, t, e] = y
        cuda.syncthreads()  # the last chunk's states are written before any thread stores them
        for i in range(thread, held * N, CHUNK * CHANNELS):
            last[batch, top + i // N, i % N] = h_smem[(T + CHUNK - 1) // CHUNK % 2, i % N, i // N]

    return v3_hillis_steele


@cache
def v4_blelloch(N, SOFTPLUS, SKIP, GATED, CHUNK, CHANNELS):
    """Return the kernel for one number of states and one chunk; numba sizes arrays by constants."""
    LEVELS = CHUNK.bit_length() - 1

    @kernel
    def v4_blelloch(u, delta, a, b, c, d, z, delta_bias, state, o, last):
        """Scan CHANNELS channels, CHUNK tokens at a time: u, delta, z and o are (B, T, E).

        A thread owns one token of a chunk in one channel, and a pair of places at each level of the tree. A block owns
        CHANNELS channels of sequence b. Shared memory: (2*CHUNK + 3*N)*CHANNELS*4 bytes (3.5 KB at N=16).
        Differs from v3_hillis_steele: up a binary tree and down again, in place. Half as many compositions, nearly
        twice as many steps.
        """
        decay_smem = cuda.shared.array((CHUNK, CHANNELS), float32)
        drive_smem = cuda.shared.array((CHUNK, CHANNELS), float32)
        a_smem = cuda.shared.array((N, CHANNELS), float32)
        h_smem = cuda.shared.array((2, N, CHANNELS), float32)  # states before even chunks, and before odd ones
        thread, batch = cuda.threadIdx.x, cuda.blockIdx.y
        channel, token = thread % CHANNELS, thread // CHANNELS
        T, E = u.shape[1], u.shape[2]
        top = cuda.blockIdx.x * CHANNELS
        e, held = top + channel, min(CHANNELS, E - top)
        bias = float32(0)
        skip = float32(0)
        if e < E:
            bias = delta_bias[e]
            if SKIP:
                skip = d[e]
        for i in range(thread, held * N, CHUNK * CHANNELS):  # rows of a and of the state lie one after another
            a_smem[i % N, i // N] = a[top + i // N, i % N]
            h_smem[0, i % N, i // N] = state[batch, top + i // N, i % N]
        cuda.syncthreads()  # rates and states are written before any thread reads them

        for first in range(0, T, CHUNK):
            t, before = first + token, first // CHUNK % 2
            here = t < T and e < E
            x = float32(0)
            step = float32(0)
            if here:
                x = float32(u[batch, t, e])
                step = float32(delta[batch, t, e]) + bias
                if SOFTPLUS:
                    step = softplus(step)
            y = float32(0)
            for n in range(N):
                decay = float32(1)  # a token past the end changes nothing: h -> 1 * h + 0
                drive = float32(0)
                if here:
                    decay = math.exp(step * a_smem[n, channel])
                    drive = step * x * float32(b[batch, t, n])
                decay_smem[token, channel] = decay
                drive_smem[token, channel] = drive
                cuda.syncthreads()  # every map is written before another thread composes it
                for level in range(2 * LEVELS - 1):
                    reach = 1 << min(level, 2 * LEVELS - 2 - level)  # 1, 2, .., CHUNK / 2, .., 2, 1
                    right = (token + 1) * 2 * reach - 1
                    if level >= LEVELS:  # on the way down: the places half way between
                        right += reach
                    if right < CHUNK:
                        later = decay_smem[right, channel]
                        drive_smem[right, channel] += later * drive_smem[right - reach, channel]
                        decay_smem[right, channel] = later * decay_smem[right - reach, channel]
                    cuda.syncthreads()  # this level is written before the next one reads it
                if e < E:
                    h = decay_smem[token, channel] * h_smem[before, n, channel] + drive_smem[token, channel]
                    if token == CHUNK - 1:
                        h_smem[1 - before, n, channel] = h
                    if here:
                        y += h * float32(c[batch, t, n])
            if here:
                if SKIP:
                    y += skip * x
                if GATED:
                    y *= silu(float32(z[batch, t, e]))
                o[batch, t, e] = y
        cuda.syncthreads()  # the last chunk's states are written before any thread stores them
        for i in range(thread, held * N, CHUNK * CHANNELS):
            last[batch, top + i // N, i % N] = h_smem[(T + CHUNK - 1) // CHUNK % 2, i % N, i // N]

    return v4_blelloch


def launch_v3_hillis_steele(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state, chunk=CHUNK):
    """Return o and the last state."""
    given = u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state
    return launch(v3_hillis_steele, given, chunk)


def launch_v4_blelloch(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state, chunk=CHUNK):
    """Return o and the last state."""
    return launch(v4_blelloch, (u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state), chunk)


def launch(make, given, chunk):
    """Launch a block of chunk * CHANNELS threads for every CHANNELS channels of a sequence; return o and the state."""
    u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state = given
    (B, _, E), N = u.shape, a.shape[1]
    check_grid(B=B)
    check_states(N, make.__name__)
    flags = delta_softplus, d is not None, z is not None
    d, z, delta_bias, state = completed(u, a, d, z, delta_bias, initial_state)
    o, last = new(u), new(state)
    run = make(N, *flags, chunk, CHANNELS)
    run[(math.ceil(E / CHANNELS), B), chunk * CHANNELS](u, delta, a, b, c, d, z, delta_bias, state, o, last)
    return o, last
