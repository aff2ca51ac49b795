"""The backward pass of attention in three kernels, none of which needs an atomic.

Scores are recomputed from q, k and lse, so that nothing of size T x S is stored between forward and backward. With
``P = exp(S - lse)`` and ``delta = rowsum(do * o)``: ``dV = P^T dO``, ``dS = P * (dO V^T - delta)``,
``dQ = dS K scale``, ``dK = dS^T Q scale`` [1]_.

A block that owns keys walks all queries that see them and sums dk and dv on the chip; a block that owns queries
walks keys and sums dq. Each pair (query, key) is thus computed twice, and each gradient written once.

References
----------
.. [1] Dao, FlashAttention-2, arXiv:2307.08691, algorithm 2 (there dq is summed by atomics instead).
"""

import math
from functools import cache

import numpy as np

from minikernels.core.limits import tile_rows
from minikernels.flash.outputs import check_grid, check_width, new
from minikernels.flash.quads import LANES, quad_sum
from minikernels.launch import cuda, float32, kernel

THREADS = 128
QUADS = THREADS // LANES


@kernel
def delta_kernel(o, do, delta):
    """Write ``delta[b, h, t] = do[b, h, t] . o[b, h, t]``.

    A quad owns a row, a thread every fourth column of it; a block owns 32 rows. No shared memory.
    """
    thread = cuda.threadIdx.x
    lane = thread % LANES
    h, b = cuda.blockIdx.y, cuda.blockIdx.z
    T, D = o.shape[2], o.shape[3]
    t = cuda.blockIdx.x * QUADS + thread // LANES
    dot = float32(0)
    if t < T:
        for d in range(lane, D, LANES):
            dot += float32(o[b, h, t, d]) * float32(do[b, h, t, d])
    dot = quad_sum(dot)
    if t < T and lane == 0:
        delta[b, h, t] = dot


@cache
def keys_kernel(D, ROWS, BLOCK_T, CAUSAL):
    """Return the kernel that writes dk and dv, for one head width, one tile and one mask."""
    PART = math.ceil(D / LANES)
    WIDTH = LANES * PART
    BLOCK_S = QUADS * ROWS

    @kernel
    def keys_kernel(q, k, v, do, lse, delta, scale, dk, dv):
        """Sum dk and dv of a tile of keys over every query that sees it, of every query head that shares it.

        A quad owns ROWS keys, a thread every fourth column of their k, v, dk and dv. A block owns BLOCK_S keys of
        key/value head g of sequence b. Shared memory: 2*BLOCK_T*WIDTH*4 + 2*BLOCK_T*4 bytes (17 KB at D=64).
        """
        q_smem = cuda.shared.array((BLOCK_T, WIDTH), float32)
        do_smem = cuda.shared.array((BLOCK_T, WIDTH), float32)
        lse_smem = cuda.shared.array(BLOCK_T, float32)
        delta_smem = cuda.shared.array(BLOCK_T, float32)
        k_reg = cuda.local.array((ROWS, PART), float32)
        v_reg = cuda.local.array((ROWS, PART), float32)
        dk_reg = cuda.local.array((ROWS, PART), float32)
        dv_reg = cuda.local.array((ROWS, PART), float32)
        p = cuda.local.array(ROWS, float32)  # a score, then its probability
        ds = cuda.local.array(ROWS, float32)  # the gradient by p, then by the score
        thread = cuda.threadIdx.x
        lane = thread % LANES
        g, b = cuda.blockIdx.y, cuda.blockIdx.z
        T, S = q.shape[2], k.shape[2]
        heads = q.shape[1] // k.shape[1]
        top = cuda.blockIdx.x * BLOCK_S + thread // LANES  # the quad's keys are top, top + QUADS, ...
        start = 0
        if CAUSAL:  # query tiles that lie wholly before the first query to see key tile blockIdx.x are skipped
            start = max(0, cuda.blockIdx.x * BLOCK_S + T - S) // BLOCK_T * BLOCK_T

        for r in range(ROWS):
            for i in range(PART):
                dk_reg[r, i] = float32(0)
                dv_reg[r, i] = float32(0)
                k_reg[r, i] = float32(0)
                v_reg[r, i] = float32(0)
                if top + r * QUADS < S and lane + LANES * i < D:
                    k_reg[r, i] = float32(k[b, g, top + r * QUADS, lane + LANES * i]) * scale
                    v_reg[r, i] = v[b, g, top + r * QUADS, lane + LANES * i]
        for h in range(g * heads, (g + 1) * heads):
            for first in range(start, T, BLOCK_T):
                rows = min(BLOCK_T, T - first)
                for i in range(thread, rows * WIDTH, THREADS):
                    j, d = i // WIDTH, i % WIDTH
                    if d < D:
                        q_smem[j, d] = q[b, h, first + j, d]
                        do_smem[j, d] = do[b, h, first + j, d]
                    else:
                        q_smem[j, d] = float32(0)
                        do_smem[j, d] = float32(0)
                if thread < rows:
                    lse_smem[thread] = lse[b, h, first + thread]
                    delta_smem[thread] = delta[b, h, first + thread]
                cuda.syncthreads()  # the tile of queries is written before any thread reads it
                for j in range(rows):
                    for r in range(ROWS):
                        p[r] = float32(0)
                        ds[r] = float32(0)
                    for i in range(PART):
                        q_element = q_smem[j, lane + LANES * i]
                        do_element = do_smem[j, lane + LANES * i]
                        for r in range(ROWS):
                            p[r] += k_reg[r, i] * q_element
                            ds[r] += v_reg[r, i] * do_element
                    row_seen = S  # keys that query first + j sees
                    if CAUSAL:
                        row_seen = min(S, first + j + 1 + S - T)
                    for r in range(ROWS):
                        dot = quad_sum(p[r])
                        dp = quad_sum(ds[r])
                        p[r] = math.exp(dot - lse_smem[j]) if top + r * QUADS < row_seen else float32(0)
                        ds[r] = p[r] * (dp - delta_smem[j])
                    for i in range(PART):
                        q_element = q_smem[j, lane + LANES * i]
                        do_element = do_smem[j, lane + LANES * i]
                        for r in range(ROWS):
                            dv_reg[r, i] += p[r] * do_element
                            dk_reg[r, i] += ds[r] * q_element
                cuda.syncthreads()  # every thread is done with the tile before the next one overwrites it
        for r in range(ROWS):
            for i in range(PART):
                if top + r * QUADS < S and lane + LANES * i < D:
                    dk[b, g, top + r * QUADS, lane + LANES * i] = dk_reg[r, i] * scale
                    dv[b, g, top + r * QUADS, lane + LANES * i] = dv_reg[r, i]

    return keys_kernel


@cache
def queries_kernel(D, ROWS, BLOCK_S, CAUSAL):
    """Return the kernel that writes dq, for one head width, one tile and one mask."""
    PART = math.ceil(D / LANES)
    WIDTH = LANES * PART
    BLOCK_T = QUADS * ROWS

    @kernel
    def queries_kernel(q, k, v, do, lse, delta, scale, dq):
        """Sum dq of a tile of queries over every key they see.

        A quad owns ROWS queries, a thread every fourth column of their q, do and dq. A block owns BLOCK_T queries of
        head h of sequence b. Shared memory: 2*BLOCK_S*WIDTH*4 bytes (16 KB at D=64).
        Differs from keys_kernel: queries stay in registers and keys stream through shared memory, not the reverse.
        """
        k_smem = cuda.shared.array((BLOCK_S, WIDTH), float32)
        v_smem = cuda.shared.array((BLOCK_S, WIDTH), float32)
        q_reg = cuda.local.array((ROWS, PART), float32)
        do_reg = cuda.local.array((ROWS, PART), float32)
        dq_reg = cuda.local.array((ROWS, PART), float32)
        row_lse = cuda.local.array(ROWS, float32)
        row_delta = cuda.local.array(ROWS, float32)
        p = cuda.local.array(ROWS, float32)  # a score, then its probability
        ds = cuda.local.array(ROWS, float32)  # the gradient by p, then by the score
        thread = cuda.threadIdx.x
        lane = thread % LANES
        h, b = cuda.blockIdx.y, cuda.blockIdx.z
        T, S = q.shape[2], k.shape[2]
        g = h // (q.shape[1] // k.shape[1])
        top = cuda.blockIdx.x * BLOCK_T + thread // LANES  # the quad's queries are top, top + QUADS, ...
        tile_seen = S
        if CAUSAL:
            tile_seen = min(S, min(T, (cuda.blockIdx.x + 1) * BLOCK_T) + S - T)

        for r in range(ROWS):
            row_lse[r] = float32(0)
            row_delta[r] = float32(0)
            if top + r * QUADS < T:
                row_lse[r] = lse[b, h, top + r * QUADS]
                row_delta[r] = delta[b, h, top + r * QUADS]
            for i in range(PART):
                dq_reg[r, i] = float32(0)
                q_reg[r, i] = float32(0)
                do_reg[r, i] = float32(0)
                if top + r * QUADS < T and lane + LANES * i < D:
                    q_reg[r, i] = float32(q[b, h, top + r * QUADS, lane + LANES * i]) * scale
                    do_reg[r, i] = do[b, h, top + r * QUADS, lane + LANES * i]
        for first in range(0, tile_seen, BLOCK_S):
            keys = min(BLOCK_S, S - first)
            for i in range(thread, keys * WIDTH, THREADS):
                j, d = i // WIDTH, i % WIDTH
                if d < D:
                    k_smem[j, d] = k[b, g, first + j, d]
                    v_smem[j, d] = v[b, g, first + j, d]
                else:
                    k_smem[j, d] = float32(0)
                    v_smem[j, d] = float32(0)
            cuda.syncthreads()  # the tile of keys is written before any thread reads it
            for j in range(keys):
                for r in range(ROWS):
                    p[r] = float32(0)
                    ds[r] = float32(0)
                for i in range(PART):
                    k_element = k_smem[j, lane + LANES * i]
                    v_element = v_smem[j, lane + LANES * i]
                    for r in range(ROWS):
                        p[r] += q_reg[r, i] * k_element
                        ds[r] += do_reg[r, i] * v_element
                for r in range(ROWS):
                    row_seen = S  # keys that the quad's row r sees; rows past the last one are never written
                    if CAUSAL:
                        row_seen = min(S, top + r * QUADS + 1 + S - T)
                    dot = quad_sum(p[r])
                    dp = quad_sum(ds[r])
                    p[r] = math.exp(dot - row_lse[r]) if first + j < row_seen else float32(0)
                    ds[r] = p[r] * (dp - row_delta[r])
                for i in range(PART):
                    k_element = k_smem[j, lane + LANES * i]
                    for r in range(ROWS):
                        dq_reg[r, i] += ds[r] * k_element
            cuda.syncthreads()  # every thread is done with the tile before the next one overwrites it
        for r in range(ROWS):
            for i in range(PART):
                if top + r * QUADS < T and lane + LANES * i < D:
                    dq[b, h, top + r * QUADS, lane + LANES * i] = dq_reg[r, i] * scale

    return queries_kernel


def launch_backward_v3_split_rows(q, k, v, o, lse, do, causal, scale):
    """Return dq, dk and dv; a wide head leaves a thread registers for one row only."""
    (B, H, T, D), (G, S) = q.shape, k.shape[1:3]
    check_grid(H, B)
    check_width(D, "v3_split_rows")
    rows = 2 if D <= 64 else 1
    streamed = tile_rows(LANES * math.ceil(D / LANES) + 1)  # one column more: lse and delta of each row
    scale, causal = np.float32(scale), bool(causal)
    delta = new(q, (B, H, T), np.float32)
    dq, dk, dv = (new(x, x.shape, q.dtype) for x in (q, k, v))
    query_grid, key_grid = (math.ceil(T / (QUADS * rows)), H, B), (math.ceil(S / (QUADS * rows)), G, B)
    delta_kernel[(math.ceil(T / QUADS), H, B), THREADS](o, do, delta)
    keys_kernel(D, rows, streamed, causal)[key_grid, THREADS](q, k, v, do, lse, delta, scale, dk, dv)
    queries_kernel(D, rows, streamed, causal)[query_grid, THREADS](q, k, v, do, lse, delta, scale, dq)
    return dq, dk, dv
