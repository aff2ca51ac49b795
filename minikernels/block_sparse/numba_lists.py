"""v3_block_lists and v4_full_partial: kernels that walk a list of the kept blocks."""

import math
from functools import cache

import numpy as np

from minikernels.block_sparse.lists import block_lists
from minikernels.block_sparse.outputs import check_width, new
from minikernels.block_sparse.tiles import key_tile, row_parts, threads
from minikernels.core.limits import check_grid
from minikernels.launch import cuda, float32, kernel


@cache
def v3_block_lists(D, R, C, ROWS, PARTS, BLOCK_S, CAUSAL):
    """Return the kernel for one head width, one block of the mask and one tile; numba sizes arrays by constants."""
    THREADS = threads(ROWS)

    @kernel
    def v3_block_lists(q, k, v, starts, columns, mask_B, mask_H, scale, o, lse):
        """Attend the rows of a block to the keys of the blocks on its list.

        A thread owns query row t: q, the running o, m and l. A block owns a block row of R queries (or one of PARTS of
        it), of head h of sequence b. Shared memory: 2*BLOCK_S*D*4 bytes (16 KB at D=64).
        Differs from v2_skip_test: a list of the kept blocks, made beforehand, takes the place of a test of every block.
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
        row = (b % mask_B * mask_H + h % mask_H) * (cuda.gridDim.x // PARTS) + i  # of the lists
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
        for place in range(starts[row], starts[row + 1]):
            j = columns[place]
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

    return v3_block_lists


@cache
def v4_full_partial(D, R, C, ROWS, PARTS, BLOCK_S, CAUSAL):
    """Return the kernel for one head width, one block of the mask and one tile; numba sizes arrays by constants."""
    THREADS = threads(ROWS)

    @kernel
    def v4_full_partial(q, k, v, starts, full, columns, mask_B, mask_H, scale, o, lse):
        """Attend the rows of a block to its full blocks, then to its partial ones.

        A thread owns query row t: q, the running o, m and l. A block owns a block row of R queries (or one of PARTS of
        it), of head h of sequence b. Shared memory: 2*BLOCK_S*D*4 bytes (16 KB at D=64).
        Differs from v3_block_lists: no score of a full block is compared with what its row may see; only partial blocks
        have mask code.
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
        row = (b % mask_B * mask_H + h % mask_H) * (cuda.gridDim.x // PARTS) + i  # of the lists
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
        start = starts[row]
        first_partial = start + full[row]
        for place in range(start, starts[row + 1]):
            j = columns[place]
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
                        score[n] = dot
                        m_new = max(m_new, dot)
                    if place >= first_partial:  # the diagonal may go through this block
                        m_new = m
                        for n in range(keys):
                            if first + n >= row_seen:
                                score[n] = float32(-math.inf)
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

    return v4_full_partial


def launch_v3_block_lists(q, k, v, mask, block, causal, scale):
    """Return o and lse; the lists are made from the mask where it lives."""
    lists = block_lists(mask, q.shape[2], k.shape[2], block, causal)
    return launch(v3_block_lists, q, k, v, (lists.starts, lists.columns), mask.shape, block, causal, scale)


def launch_v4_full_partial(q, k, v, mask, block, causal, scale):
    """Return o and lse; the lists are made from the mask where it lives."""
    lists = block_lists(mask, q.shape[2], k.shape[2], block, causal)
    return launch(v4_full_partial, q, k, v, lists, mask.shape, block, causal, scale)


def launch(make, q, k, v, lists, mask_shape, block, causal, scale):
    """Launch a block of threads for every block row of every head (or several, where the mask's blocks are large)."""
    (B, H, _, D), (R, C) = q.shape, block
    check_grid(H=H, B=B)
    check_width(D, make.__name__)
    rows, parts = row_parts(R)
    o, lse = new(q)
    run = make(D, R, C, rows, parts, key_tile(C, D), bool(causal))
    grid, which = (mask_shape[2] * parts, H, B), (np.int32(mask_shape[0]), np.int32(mask_shape[1]))
    run[grid, threads(rows)](q, k, v, *lists, *which, np.float32(scale), o, lse)
    return o, lse
