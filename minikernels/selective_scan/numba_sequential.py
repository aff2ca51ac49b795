"""v1_channel_major and v2_token_major: a thread owns a channel and takes its tokens one after another."""

import math
from functools import cache

from minikernels.core.limits import check_grid
from minikernels.launch import cuda, float32, kernel
from minikernels.selective_scan.numba_gates import silu, softplus
from minikernels.selective_scan.outputs import check_states, completed, new

THREADS = 128  # channels of a block


@cache
def v1_channel_major(N, SOFTPLUS, SKIP, GATED):
    """Return the kernel for one number of states; numba sizes arrays by constants."""

    @kernel
    def v1_channel_major(u, delta, a, b, c, d, z, delta_bias, state, o, last):
        """Scan channels whose tokens lie side by side in memory: u, delta, z and o are (B, E, T).

        A thread owns channel e of sequence b: its N states and rates. A block owns as many channels as it has threads.
        No shared memory.
        """
        a_reg = cuda.local.array(N, float32)
        h = cuda.local.array(N, float32)
        batch, e = cuda.blockIdx.y, cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        E, T = u.shape[1], u.shape[2]
        if e < E:
            bias = delta_bias[e]
            skip = float32(0)
            if SKIP:
                skip = d[e]
            for n in range(N):
                a_reg[n] = a[e, n]
                h[n] = state[batch, e, n]
            for t in range(T):
                x = float32(u[batch, e, t])  # neighbouring threads read elements that lie T apart
                step = float32(delta[batch, e, t]) + bias
                if SOFTPLUS:
                    step = softplus(step)
                drive = step * x
                y = float32(0)
                for n in range(N):
                    h[n] = math.exp(step * a_reg[n]) * h[n] + drive * float32(b[batch, t, n])
                    y += h[n] * float32(c[batch, t, n])
                if SKIP:
                    y += skip * x
                if GATED:
                    y *= silu(float32(z[batch, e, t]))
                o[batch, e, t] = y
            for n in range(N):
                last[batch, e, n] = h[n]

    return v1_channel_major


def launch_v1_channel_major(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state, threads=THREADS):
    """Return o, a view whose memory is (B, E, T), and the last state.

    The kernel wants its tokens side by side: u, delta and z whose memory is not (B, E, T) are copied. The copies are no
    part of the kernel's traffic.
    """
    (B, _, E), N = u.shape, a.shape[1]
    check_grid(B=B)
    check_states(N, "v1_channel_major")
    flags = delta_softplus, d is not None, z is not None
    d, z, delta_bias, state = completed(u, a, d, z, delta_bias, initial_state)
    u, delta, z = (channel_major(x) for x in (u, delta, z))
    o, last = new(u), new(state)
    run = v1_channel_major(N, *flags)
    run[(math.ceil(E / threads), B), threads](u, delta, a, b, c, d, z, delta_bias, state, o, last)
    return o.swapaxes(1, 2), last


def channel_major(x):
    """Return x (B, T, E) as (B, E, T), copied only where its memory is not in that order."""
    x = x.swapaxes(1, 2)
    return x if x.flags.c_contiguous else x.copy(order="C")


@cache
def v2_token_major(N, SOFTPLUS, SKIP, GATED):
    """Return the kernel for one number of states; numba sizes arrays by constants."""

    @kernel
    def v2_token_major(u, delta, a, b, c, d, z, delta_bias, state, o, last):
        """Scan channels whose neighbours lie side by side in memory: u, delta, z and o are (B, T, E).

        A thread owns channel e of sequence b: its N states and rates. A block owns as many channels as it has threads.
        No shared memory.
        Differs from v1_channel_major: the layout. The 32 channels of a warp are 32 neighbouring elements.
        """
        a_reg = cuda.local.array(N, float32)
        h = cuda.local.array(N, float32)
        batch, e = cuda.blockIdx.y, cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        T, E = u.shape[1], u.shape[2]
        if e < E:
            bias = delta_bias[e]
            skip = float32(0)
            if SKIP:
                skip = d[e]
            for n in range(N):
                a_reg[n] = a[e, n]
                h[n] = state[batch, e, n]
            for t in range(T):
                x = float32(u[batch, t, e])  # neighbouring threads read neighbouring elements
                step = float32(delta[batch, t, e]) + bias
                if SOFTPLUS:
                    step = softplus(step)
                drive = step * x
                y = float32(0)
                for n in range(N):
                    h[n] = math.exp(step * a_reg[n]) * h[n] + drive * float32(b[batch, t, n])
                    y += h[n] * float32(c[batch, t, n])
                if SKIP:
                    y += skip * x
                if GATED:
                    y *= silu(float32(z[batch, t, e]))
                o[batch, t, e] = y
            for n in range(N):
                last[batch, e, n] = h[n]

    return v2_token_major


def launch_v2_token_major(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state, threads=THREADS):
    """Return o and the last state."""
    (B, _, E), N = u.shape, a.shape[1]
    check_grid(B=B)
    check_states(N, "v2_token_major")
    flags = delta_softplus, d is not None, z is not None
    d, z, delta_bias, state = completed(u, a, d, z, delta_bias, initial_state)
    o, last = new(u), new(state)
    run = v2_token_major(N, *flags)
    run[(math.ceil(E / threads), B), threads](u, delta, a, b, c, d, z, delta_bias, state, o, last)
    return o, last
