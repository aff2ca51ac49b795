"""v2_page_table: the same block a query head, but each key and value is read where it lies, through the page table."""

import math
from functools import cache

import numpy as np

from minikernels.core.limits import check_grid
from minikernels.launch import cuda, float32, kernel
from minikernels.paged.numba_reduce import THREADS, WARPS, block_max, block_sum
from minikernels.paged.outputs import SCORES, SCORES_WIDTH_LIMIT, check_width, new


@cache
def v2_page_table(D, P):
    """Return the kernel for one head width and page length; numba sizes arrays by constants."""
    PER = math.ceil(D / THREADS)  # columns of the output that a thread owns

    @kernel
    def v2_page_table(q, k_pages, v_pages, page_table, lengths, scale, o):
        """Attend one query head to the keys of its sequence, SCORES of them a round.

        A thread owns one score in THREADS, and every THREADS-th column of the output. A block owns query head h of
        sequence b. Shared memory: (D + SCORES + 2*WARPS)*4 bytes (4.4 KB at D=64).
        Differs from v1_gather: no copy. Token s is looked up: page ``page_table[b, s // P]``, slot ``s % P``.
        """
        q_smem = cuda.shared.array(D, float32)
        score_smem = cuda.shared.array(SCORES, float32)
        max_smem = cuda.shared.array(WARPS, float32)
        sum_smem = cuda.shared.array(WARPS, float32)
        acc = cuda.local.array(PER, float32)
        thread, h, b = cuda.threadIdx.x, cuda.blockIdx.x, cuda.blockIdx.y
        g = h // (q.shape[1] // k_pages.shape[2])
        length = lengths[b]
        for d in range(thread, D, THREADS):
            q_smem[d] = float32(q[b, h, d]) * scale
        for n in range(PER):
            acc[n] = float32(0)
        m = float32(-math.inf)
        l = float32(0)
        if length < 0:
            l = float32(math.nan)  # a sequence that leads out of the pool
        cuda.syncthreads()  # the whole query is written before any thread reads it

        for first in range(0, length, SCORES):
            keys = min(SCORES, length - first)
            m_new = m
            for j in range(thread, keys, THREADS):
                page, slot = page_table[b, (first + j) // P], (first + j) % P
                dot = float32(0)
                for d in range(D):
                    dot += q_smem[d] * float32(k_pages[page, slot, g, d])
                score_smem[j] = dot
                m_new = max(m_new, dot)
            m_new = block_max(m_new, max_smem)
            base = m_new if m_new != float32(-math.inf) else float32(0)  # all -inf so far: no inf - inf
            total = float32(0)
            for j in range(thread, keys, THREADS):  # the thread's own scores
                p = math.exp(score_smem[j] - base)
                score_smem[j] = p
                total += p
            alpha = math.exp(m - base)  # 0 in the first round, where m = -inf
            l = alpha * l + block_sum(total, sum_smem)  # its barrier: every p is written before any thread reads it
            for n in range(PER):
                d = thread + n * THREADS
                if d < D:
                    acc[n] *= alpha
                    page, slot = page_table[b, first // P], first % P
                    for j in range(keys):
                        if slot == P:  # neighbouring tokens share a page: one lookup for up to P of them
                            page, slot = page_table[b, (first + j) // P], 0
                        acc[n] += score_smem[j] * float32(v_pages[page, slot, g, d])
                        slot += 1
            m = m_new
            cuda.syncthreads()  # every thread is done with the scores before the next round overwrites them
        inverse = float32(0)  # a sequence without keys gives 0
        if l != 0:
            inverse = float32(1) / l
        for n in range(PER):
            d = thread + n * THREADS
            if d < D:
                o[b, h, d] = acc[n] * inverse

    return v2_page_table


def launch_v2_page_table(q, k_pages, v_pages, page_table, lengths, scale):
    """Return o."""
    (B, H, D), P = q.shape, k_pages.shape[1]
    check_grid(B=B)
    check_width(D, SCORES_WIDTH_LIMIT, "v2_page_table", "tiled")
    o = new(q)
    run = v2_page_table(D, P)
    run[(H, B), THREADS](q, k_pages, v_pages, page_table, lengths, np.float32(scale), o)
    return o
