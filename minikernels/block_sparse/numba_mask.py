"""v1_masked_dense and v2_skip_test: kernels that look the mask up, to hide scores or to skip blocks."""

import math
from functools import cache

import numpy as np

from minikernels.block_sparse.outputs import check_width, new
from minikernels.block_sparse.tiles import key_tile, row_parts, threads
from minikernels.core.limits import check_grid
from minikernels.launch import cuda, float32, kernel


@cache
def v1_masked_dense(D, R, C, ROWS, PARTS, BLOCK_S, CAUSAL):
    """Return the kernel for one head width, one block of the mask and one tile; numba sizes arrays by constants."""
    THREADS = threads(ROWS)

    @kernel
    def v1_masked_dense(q, k, v, mask, scale, o, lse):
        """Attend the rows of a block to all keys, scores of hidden cells set to -inf.

        A thread owns query row t: q, the running o, m and l. A block owns a block row of R queries (or one of PARTS of
        it), of head h of sequence b. Shared memory: 2*BLOCK_S*D*4 bytes (16 KB at D=64).
        Dense attention, tile after tile: every key is loaded and every score computed, whether or not it is kept.
        """
        k_smem = cuda.shared.array((BLOCK_S, D), float32)
        v_smem = cuda.shared.array((BLOCK_S, D), float32)
        q_reg = cuda.local.array(D, float32)
        o_reg = cuda.local.array(D, float32)
        score = cuda.local.array(BLOCK_S, float32)
        thread = cuda.threadIdx.x
        i, part = cuda.blockIdx.x // PARTS, cuda.blockIdx.x % PARTS
        h, b = cuda.blockIdx.y, cuda.blockIdx.z
        T, S = q.shape[2], k.shape[2]
        g = h // (q.shape[1] // k.shape[1])
        mask_b, mask_h = b % mask.shape[0], h % mask.shape[1]  # 0 where one mask serves all
        t = i * R + part * ROWS + thread
        mine_here = thread < ROWS and t < min(T, i * R + R)  # if not, the thread only helps to load tiles
        row_seen = S  # keys that row t sees, if their blocks are kept
        if CAUSAL:
            row_seen = min(S, t + 1 + S - T)

        m = float32(-math.inf)
        l = float32(0)
        for d in range(D):
            o_reg[d] = float32(0)
            if mine_here:
                q_reg[d] = float32(q[b, h, t, d]) * scale
        for j in range(mask.shape[3]):
            kept = mask[mask_b, mask_h, i, j]
            end = min(S, j * C + C)
            for first in range(j * C, end, BLOCK_S):
                keys = min(BLOCK_S, end - first)
                for n in range(thread, keys * D, THREADS):  # neighbouring threads read neighbouring elements
                    k_smem[n // D, n % D] = k[b, g, first + n // D, n % D]
                    v_smem[n // D, n % D] = v[b, g, first + n // D, n % D]
                cuda.syncthreads()  # the whole tile is written before any thread reads it
                if mine_here:
                    m_new = m
                    for n in range(keys):
                        dot = float32(0)
                        for d in range(D):
                            dot += q_reg[d] * k_smem[n, d]
                        score[n] = dot if kept and first + n < row_seen else float32(-math.inf)
                        m_new = max(m_new, score[n])
                    # A row that has seen no key keeps m = -inf; exp(-inf - 0) is 0, where exp(-inf + inf) would be NaN.
                    base = m_new if m_new != float32(-math.inf) else float32(0)
                    alpha = math.exp(m - base)
                    l *= alpha
                    for d in range(D):
                        o_reg[d] *= alpha
                    total = float32(0)  # of the tile's weights, added up apart: a long sum loses fewer bits
                    for n in range(keys):
                        p = math.exp(score[n] - base)
                        total += p
                        for d in range(D):
                            o_reg[d] += p * v_smem[n, d]
                    l += total
                    m = m_new
                cuda.syncthreads()  # every thread is done with the tile before the next one overwrites it
        if mine_here:
            inverse = float32(0)
            log_sum = float32(-math.inf)
            if l != 0:
                inverse = float32(1) / l
                log_sum = m + math.log(l)
            for d in range(D):
                o[b, h, t, d] = o_reg[d] * inverse
            lse[b, h, t] = log_sum

    return v1_masked_dense


@cache
def v2_skip_test(D, R, C, ROWS, PARTS, BLOCK_S, CAUSAL):
    """Return the kernel for one head width, one block of the mask and one tile; numba sizes arrays by constants."""
    THREADS = threads(ROWS)

    @kernel
    def v2_skip_test(q, k, v, mask, scale, o, lse):
        """Attend the rows of a block to the keys of kept blocks, of which each is asked for in turn.

        A thread owns query row t: q, the running o, m and l. A block owns a block row of R queries (or one of PARTS of
        it), of head h of sequence b. Shared memory: 2*BLOCK_S*D*4 bytes (16 KB at D=64).
        Differs from v1_masked_dense: the mask is tested before a block is loaded, and no block is tested that is wholly
        in the future.
        """
        k_smem = cuda.shared.array((BLOCK_S, D), float32)
        v_smem = cuda.shared.array((BLOCK_S, D), float32)
        q_reg = cuda.local.array(D, float32)
        o_reg = cuda.local.array(D, float32)
        score = cuda.local.array(BLOCK_S, float32)
        thread = cuda.threadIdx.x
        i, part = cuda.blockIdx.x // PARTS, cuda.blockIdx.x % PARTS
        h, b = cuda.blockIdx.y, cuda.blockIdx.z
        T, S = q.shape[2], k.shape[2]
        g = h // (q.shape[1] // k.shape[1])
        mask_b, mask_h = b % mask.shape[0], h % mask.shape[1]  # 0 where one mask serves all
        t = i * R + part * ROWS + thread
        mine_here = thread < ROWS and t < min(T, i * R + R)  # if not, the thread only helps to load tiles
        row_seen = S  # keys that row t sees, if their blocks are kept
        tile_seen = S  # keys that any row of the block sees
        if CAUSAL:
            row_seen = min(S, t + 1 + S - T)
            tile_seen = min(S, min(T, i * R + R) + S - T)

        m = float32(-math.inf)
        l = float32(0)
        for d in range(D):
            o_reg[d] = float32(0)
            if mine_here:
                q_reg[d] = float32(q[b, h, t, d]) * scale
        for j in range((tile_seen + C - 1) // C):
            if mask[mask_b, mask_h, i, j]:  # the same for all threads of the block, so they meet at the barriers
                end = min(S, j * C + C)
                for first in range(j * C, end, BLOCK_S):
                    keys = min(BLOCK_S, end - first)
                    for n in range(thread, keys * D, THREADS):  # neighbouring threads read neighbouring elements
                        k_smem[n // D, n % D] = k[b, g, first + n // D, n % D]
                        v_smem[n // D, n % D] = v[b, g, first + n // D, n % D]
                    cuda.syncthreads()  # the whole tile is written before any thread reads it
                    if mine_here:
                        m_new = m
                        for n in range(keys):
                            dot = float32(0)
                            for d in range(D):
                                dot += q_reg[d] * k_smem[n, d]
                            score[n] = dot if first + n < row_seen else float32(-math.inf)
                            m_new = max(m_new, score[n])
                        base = m_new if m_new != float32(-math.inf) else float32(0)  # no key seen yet: no inf - inf
                        alpha = math.exp(m - base)
                        l *= alpha
                        for d in range(D):
                            o_reg[d] *= alpha
                        total = float32(0)  # of the tile's weights, added up apart: a long sum loses fewer bits
                        for n in range(keys):
                            p = math.exp(score[n] - base)
                            total += p
                            for d in range(D):
                                o_reg[d] += p * v_smem[n, d]
                        l += total
                        m = m_new
                    cuda.syncthreads()  # every thread is done with the tile before the next one overwrites it
        if mine_here:
            inverse = float32(0)
            log_sum = float32(-math.inf)
            if l != 0:
                inverse = float32(1) / l
                log_sum = m + math.log(l)
            for d in range(D):
                o[b, h, t, d] = o_reg[d] * inverse
            lse[b, h, t] = log_sum

    return v2_skip_test


def launch_v1_masked_dense(q, k, v, mask, block, causal, scale):
    """Return o and lse."""
    return launch(v1_masked_dense, q, k, v, mask, block, causal, scale)


def launch_v2_skip_test(q, k, v, mask, block, causal, scale):
    """Return o and lse."""
    return launch(v2_skip_test, q, k, v, mask, block, causal, scale)


def launch(make, q, k, v, mask, block, causal, scale):
    """Launch a block of threads for every block row of every head (or several, where the mask's blocks are large)."""
    (B, H, _, D), (R, C) = q.shape, block
    check_grid(H=H, B=B)
    check_width(D, make.__name__)
    rows, parts = row_parts(R)
    o, lse = new(q)
    run = make(D, R, C, rows, parts, key_tile(C, D), bool(causal))
    run[(mask.shape[2] * parts, H, B), threads(rows)](q, k, v, mask, np.float32(scale), o, lse)
    return o, lse
