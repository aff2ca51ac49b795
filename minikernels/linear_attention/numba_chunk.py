"""v2_chunk: the tokens of a chunk in shared memory, pairs within it by products, the state before it by columns."""

import math
from functools import cache

import numpy as np

from minikernels.core.limits import check_grid
from minikernels.launch import cuda, float32, kernel
from minikernels.linear_attention.outputs import check_width, columns, new, optional

CHUNK = 16  # tokens
WIDTH_LIMIT = 128  # columns of a head: four tiles of CHUNK rows are all that 48 KB hold


@cache
def v2_chunk(D, CHUNK, THREADS, GATED, BEGUN, KEPT):
    """Return the kernel for one head width, with or without gates, an initial state, and a last state to keep."""
    WIDTH = D + 1 - D % 2  # of a row in shared memory: odd, so that lanes reading a column meet no bank conflict
    PARTS = THREADS // CHUNK  # threads that share a key's dot products

    @kernel
    def v2_chunk(q, k, v, decay, gate, scale, initial_state, o, state):
        """Walk over the chunks of one head, the state on the chip.

        A thread owns column j of the state, of v and of o; for the scores it takes one key and every PARTS-th channel.
        A block owns head h of sequence b. Shared memory: (3*CHUNK*WIDTH + D + (PARTS + 1)*CHUNK^2)*4 bytes (17 KB at
        D=64).
        Differs from v1_recurrent: q, k and gates are staged, coalesced, so that each crosses HBM once and not once a
        warp; each gate's exponential is taken once; the state moves on once a chunk.
        """
        q_smem = cuda.shared.array((CHUNK, WIDTH), float32)
        k_smem = cuda.shared.array((CHUNK, WIDTH), float32)
        a_smem = cuda.shared.array((CHUNK, WIDTH), float32)  # what each token leaves of each row of the state
        total_smem = cuda.shared.array(D, float32)  # what the whole chunk leaves
        part_smem = cuda.shared.array((PARTS, CHUNK, CHUNK), float32)
        score_smem = cuda.shared.array((CHUNK, CHUNK), float32)
        s_reg = cuda.local.array(D, float32)
        v_reg = cuda.local.array(CHUNK, float32)
        dot = cuda.local.array(CHUNK, float32)
        j = cuda.threadIdx.x
        key, part = j % CHUNK, j // CHUNK
        h, b = cuda.blockIdx.x, cuda.blockIdx.y
        T = q.shape[2]
        lam = float32(decay[h])
        for i in range(D):
            s_reg[i] = float32(0)
            if BEGUN and j < D:
                s_reg[i] = initial_state[b, h, i, j]

        for first in range(0, T, CHUNK):
            rows = min(CHUNK, T - first)
            for n in range(j, rows * D, THREADS):  # neighbouring threads read neighbouring elements
                t, i = n // D, n % D
                q_smem[t, i] = q[b, h, first + t, i]
                k_smem[t, i] = k[b, h, first + t, i]
                a = lam
                if GATED:
                    a = lam * math.exp(float32(gate[b, h, first + t, i]))
                a_smem[t, i] = a
            for t in range(rows):
                if j < D:
                    v_reg[t] = v[b, h, first + t, j]
            cuda.syncthreads()  # the chunk is written before any thread reads it
            if key < rows:
                for t in range(rows):
                    dot[t] = float32(0)
                for i in range(part, D, PARTS):
                    faded = k_smem[key, i]
                    for t in range(rows):  # all lanes read the same row: a broadcast
                        if t > key:
                            faded *= a_smem[t, i]  # the key as token t sees it
                        if t >= key:
                            dot[t] += q_smem[t, i] * faded
                for t in range(rows):
                    part_smem[part, t, key] = dot[t]
            cuda.syncthreads()  # every thread is done with the raw q and k, and its dot products are written
            for n in range(j, rows * CHUNK, THREADS):
                t, s = n // CHUNK, n % CHUNK
                if s < rows:
                    total = float32(0)
                    for p in range(PARTS):
                        total += part_smem[p, t, s]
                    score_smem[t, s] = total
            if j < D:
                left = float32(1)
                for t in range(rows):
                    left *= a_smem[t, j]
                    q_smem[t, j] *= left  # q as the state before the chunk meets it
                total_smem[j] = left
                left = float32(1)
                for t in range(rows):
                    s = rows - 1 - t
                    k_smem[s, j] *= left  # k as it is left at the chunk's end
                    left *= a_smem[s, j]
            cuda.syncthreads()  # scores, faded q and k are written before any thread reads them
            if j < D:
                for t in range(rows):
                    acc = float32(0)
                    for i in range(D):
                        acc += q_smem[t, i] * s_reg[i]
                    for s in range(t + 1):
                        acc += score_smem[t, s] * v_reg[s]
                    o[b, h, first + t, j] = acc * scale
                for i in range(D):
                    acc = total_smem[i] * s_reg[i]
                    for s in range(rows):
                        acc += k_smem[s, i] * v_reg[s]
                    s_reg[i] = acc
            cuda.syncthreads()  # every thread is done with the chunk before the next one overwrites it
        if KEPT and j < D:
            for i in range(D):
                state[b, h, i, j] = s_reg[i]

    return v2_chunk


def launch_v2_chunk(q, k, v, decay, gate, scale, initial_state, return_state, chunk=CHUNK):
    """Return o and, if `return_state`, the last state."""
    B, H, _, D = q.shape
    check_grid(B=B)
    check_width(D, WIDTH_LIMIT, "v2_chunk", "v1_recurrent")
    o, state = new(q, q.shape, q.dtype), new(q, (B, H, D, D), np.float32) if return_state else None
    run = v2_chunk(D, chunk, columns(D), gate is not None, initial_state is not None, return_state)
    run[(H, B), columns(D)](q, k, v, decay, optional(gate, q), np.float32(scale), optional(initial_state, q), o,
                            optional(state, q))
    return o, state
