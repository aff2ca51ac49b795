"""One thread a query row, tiles of K and V in shared memory: the two loop orders of FlashAttention.

`v2_keys_outside` walks queries inside a tile of keys (FlashAttention), `v2_tiled` keys inside a tile of queries
(FlashAttention-2). What a thread does with a tile is the same, line for line.
"""

import math
from functools import cache

import numpy as np

from minikernels.core.limits import tile_rows
from minikernels.flash.outputs import check_grid, check_width, new, scratch
from minikernels.launch import cuda, float32, kernel

BLOCK_T = 64  # query rows of a block of v2_tiled, one a thread
BLOCK_T_INSIDE = 256  # of v2_keys_outside: a head has one block only, so it takes many threads


@cache
def v2_keys_outside(D, BLOCK_T, BLOCK_S, CAUSAL):
    """Return the kernel for one head width, one tile and one mask; numba sizes arrays by constants."""

    @kernel
    def v2_keys_outside(q, k, v, scale, o_hbm, m_hbm, l_hbm, o, lse):
        """Walk the key tiles of one head, and for each of them all query tiles that see it.

        A thread owns one query row of the tile at hand: it fetches q, o, m and l from HBM, absorbs the tile of keys and
        puts o, m and l back. A block owns head h of sequence b. Shared memory: 2*BLOCK_S*D*4 bytes (16 KB at D=64).
        Differs from v1_three_pass: scores live in registers and never reach HBM; K and V are read once a head, and
        the state of every row is read and written once a key tile. A head has one block.
        """
        k_smem = cuda.shared.array((BLOCK_S, D), float32)
        v_smem = cuda.shared.array((BLOCK_S, D), float32)
        q_reg = cuda.local.array(D, float32)
        o_reg = cuda.local.array(D, float32)
        score = cuda.local.array(BLOCK_S, float32)
        thread = cuda.threadIdx.x
        h, b = cuda.blockIdx.y, cuda.blockIdx.z
        T, S = q.shape[2], k.shape[2]
        g = h // (q.shape[1] // k.shape[1])

        for first in range(0, max(S, 1), BLOCK_S):  # once even if there is no key, so that all outputs are written
            keys = min(BLOCK_S, S - first)
            for i in range(thread, keys * D, BLOCK_T):
                k_smem[i // D, i % D] = k[b, g, first + i // D, i % D]
                v_smem[i // D, i % D] = v[b, g, first + i // D, i % D]
            cuda.syncthreads()  # the whole tile is written before any thread reads it
            start = 0
            if CAUSAL and first > 0:  # the first key tile visits every row, also those that see no key
                start = max(0, first + T - S) // BLOCK_T * BLOCK_T
            for first_row in range(start, T, BLOCK_T):
                t = first_row + thread
                tile_seen = S
                row_seen = S
                if CAUSAL:
                    tile_seen = min(S, min(T, first_row + BLOCK_T) + S - T)
                    row_seen = min(S, t + 1 + S - T)
                if t < T:
                    m = float32(-math.inf)
                    l = float32(0)
                    if first > 0:
                        m = m_hbm[b, h, t]
                        l = l_hbm[b, h, t]
                    for d in range(D):
                        q_reg[d] = float32(q[b, h, t, d]) * scale
                        o_reg[d] = float32(0)
                        if first > 0:
                            o_reg[d] = o_hbm[b, h, t, d]
                    mine = min(keys, row_seen - first)
                    if mine > 0:
                        m_new = m
                        for j in range(mine):
                            dot = float32(0)
                            for d in range(D):
                                dot += q_reg[d] * k_smem[j, d]
                            score[j] = dot
                            m_new = max(m_new, dot)
                        base = m_new if m_new != float32(-math.inf) else float32(0)  # all -inf so far: no inf - inf
                        alpha = math.exp(m - base)  # 0 at the first tile, where m = -inf
                        l *= alpha
                        for d in range(D):
                            o_reg[d] *= alpha
                        total = float32(0)  # of the tile's weights, added up apart: a long sum loses fewer bits
                        for j in range(mine):
                            p = math.exp(score[j] - base)
                            total += p
                            for d in range(D):
                                o_reg[d] += p * v_smem[j, d]
                        l += total
                        m = m_new
                    if first + BLOCK_S < tile_seen:  # another key tile will want this row's state
                        for d in range(D):
                            o_hbm[b, h, t, d] = o_reg[d]
                        m_hbm[b, h, t] = m
                        l_hbm[b, h, t] = l
                    else:
                        inverse = float32(0)
                        log_sum = float32(-math.inf)
                        if l != 0:
                            inverse = float32(1) / l
                            log_sum = m + math.log(l)
                        for d in range(D):
                            o[b, h, t, d] = o_reg[d] * inverse
                        lse[b, h, t] = log_sum
            cuda.syncthreads()  # every thread is done with the tile before the next one overwrites it

    return v2_keys_outside


def launch_v2_keys_outside(q, k, v, causal, scale, block_t=BLOCK_T_INSIDE):
    """Return o and lse; the unnormalised o, m and l of every row live in HBM as float32."""
    B, H, T, D = q.shape
    check_grid(H, B)
    check_width(D, "v2_keys_outside")
    o, lse = new(q, q.shape, q.dtype), new(q, (B, H, T), np.float32)
    o_hbm, m_hbm, l_hbm = scratch(q, q.shape), scratch(q, (B, H, T)), scratch(q, (B, H, T))
    run = v2_keys_outside(D, block_t, tile_rows(D), bool(causal))
    run[(1, H, B), block_t](q, k, v, np.float32(scale), o_hbm, m_hbm, l_hbm, o, lse)
    return o, lse


@cache
def v2_tiled(D, BLOCK_T, BLOCK_S, CAUSAL):
    """Return the kernel for one head width, one tile and one mask; numba sizes arrays by constants."""

    @kernel
    def v2_tiled(q, k, v, scale, o, lse):
        """Attend a tile of queries to all keys it sees, one tile of keys at a time.

        A thread owns query row t: q, the running o, m and l. A block owns the BLOCK_T rows of one tile, of head h of
        sequence b. Shared memory: 2*BLOCK_S*D*4 bytes (16 KB at D=64).
        Differs from v2_keys_outside: the loops are exchanged. A row's state stays in registers for good, K and V are
        read once a block, and a head has as many blocks as it has tiles of queries.
        """
        k_smem = cuda.shared.array((BLOCK_S, D), float32)
        v_smem = cuda.shared.array((BLOCK_S, D), float32)
        q_reg = cuda.local.array(D, float32)
        o_reg = cuda.local.array(D, float32)
        score = cuda.local.array(BLOCK_S, float32)
        thread = cuda.threadIdx.x
        h, b = cuda.blockIdx.y, cuda.blockIdx.z
        T, S = q.shape[2], k.shape[2]
        g = h // (q.shape[1] // k.shape[1])
        t = cuda.blockIdx.x * BLOCK_T + thread
        tile_seen = S  # keys that any row of this block sees
        row_seen = S  # keys that row t sees
        if CAUSAL:
            tile_seen = min(S, min(T, (cuda.blockIdx.x + 1) * BLOCK_T) + S - T)
            row_seen = min(S, t + 1 + S - T)
        if t >= T:  # past the last row: the thread only helps to load tiles
            row_seen = 0

        m = float32(-math.inf)
        l = float32(0)
        for d in range(D):
            o_reg[d] = float32(0)
            if t < T:
                q_reg[d] = float32(q[b, h, t, d]) * scale
        for first in range(0, tile_seen, BLOCK_S):
            keys = min(BLOCK_S, S - first)
            for i in range(thread, keys * D, BLOCK_T):  # neighbouring threads read neighbouring elements
                k_smem[i // D, i % D] = k[b, g, first + i // D, i % D]
                v_smem[i // D, i % D] = v[b, g, first + i // D, i % D]
            cuda.syncthreads()  # the whole tile is written before any thread reads it
            mine = min(keys, row_seen - first)  # keys of this tile that row t sees: a prefix, maybe none
            if mine > 0:
                m_new = m
                for j in range(mine):
                    dot = float32(0)
                    for d in range(D):
                        dot += q_reg[d] * k_smem[j, d]
                    score[j] = dot
                    m_new = max(m_new, dot)
                base = m_new if m_new != float32(-math.inf) else float32(0)  # all -inf so far: no inf - inf
                alpha = math.exp(m - base)  # 0 at the first tile, where m = -inf
                l *= alpha
                for d in range(D):
                    o_reg[d] *= alpha
                total = float32(0)  # of the tile's weights, added up apart: a long sum loses fewer bits
                for j in range(mine):
                    p = math.exp(score[j] - base)
                    total += p
                    for d in range(D):
                        o_reg[d] += p * v_smem[j, d]
                l += total
                m = m_new
            cuda.syncthreads()  # every thread is done with the tile before the next one overwrites it
        if t < T:
            inverse = float32(0)
            log_sum = float32(-math.inf)
            if l != 0:
                inverse = float32(1) / l
                log_sum = m + math.log(l)
            for d in range(D):
                o[b, h, t, d] = o_reg[d] * inverse
            lse[b, h, t] = log_sum

    return v2_tiled


def launch_v2_tiled(q, k, v, causal, scale, block_t=BLOCK_T):
    """Return o and lse."""
    B, H, T, D = q.shape
    check_grid(H, B)
    check_width(D, "v2_tiled")
    o, lse = new(q, q.shape, q.dtype), new(q, (B, H, T), np.float32)
    run = v2_tiled(D, block_t, tile_rows(D), bool(causal))
    run[(math.ceil(T / block_t), H, B), block_t](q, k, v, np.float32(scale), o, lse)
    return o, lse
