"""v1_gather: the pages are copied into one buffer, and a kernel that knows no pages decodes from it."""

import math
from functools import cache

import numpy as np

from minikernels.core.limits import check_grid
from minikernels.launch import cuda, float32, kernel
from minikernels.paged.numba_reduce import THREADS, WARPS, block_max, block_sum
from minikernels.paged.outputs import SCORES, SCORES_WIDTH_LIMIT, check_width, new


@kernel
def gather_pages(k_pages, v_pages, page_table, lengths, k, v):
    """Copy what a sequence holds of one page of keys and values to its place in k and v (B, S, G, D).

    A thread owns every THREADS-th element. A block owns page j of sequence b.
    """
    P, G, D = k_pages.shape[1], k_pages.shape[2], k_pages.shape[3]
    j, b = cuda.blockIdx.x, cuda.blockIdx.y
    tokens = min(P, lengths[b] - j * P)
    if tokens > 0:
        page = page_table[b, j]
        for i in range(cuda.threadIdx.x, tokens * G * D, THREADS):
            slot, g, d = i // (G * D), i // D % G, i % D
            k[b, j * P + slot, g, d] = k_pages[page, slot, g, d]
            v[b, j * P + slot, g, d] = v_pages[page, slot, g, d]


@cache
def decode_gathered(D):
    """Return the kernel for one head width; numba sizes arrays by constants."""
    PER = math.ceil(D / THREADS)  # columns of the output that a thread owns

    @kernel
    def decode_gathered(q, k, v, lengths, scale, o):
        """Attend one query head to the keys of its sequence in k and v (B, S, G, D), SCORES of them a round.

        A thread owns one score in THREADS, and every THREADS-th column of the output. A block owns query head h of
        sequence b. Shared memory: (D + SCORES + 2*WARPS)*4 bytes (4.4 KB at D=64).
        """
        q_smem = cuda.shared.array(D, float32)
        score_smem = cuda.shared.array(SCORES, float32)
        max_smem = cuda.shared.array(WARPS, float32)
        sum_smem = cuda.shared.array(WARPS, float32)
        acc = cuda.local.array(PER, float32)
        thread, h, b = cuda.threadIdx.x, cuda.blockIdx.x, cuda.blockIdx.y
        g = h // (q.shape[1] // k.shape[2])
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
                dot = float32(0)
                for d in range(D):
                    dot += q_smem[d] * float32(k[b, first + j, g, d])
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
                    for j in range(keys):
                        acc[n] += score_smem[j] * float32(v[b, first + j, g, d])
            m = m_new
            cuda.syncthreads()  # every thread is done with the scores before the next round overwrites them
        inverse = float32(0)  # a sequence without keys gives 0
        if l != 0:
            inverse = float32(1) / l
        for n in range(PER):
            d = thread + n * THREADS
            if d < D:
                o[b, h, d] = acc[n] * inverse

    return decode_gathered


def launch_v1_gather(q, k_pages, v_pages, page_table, lengths, scale):
    """Return o; every key and value is read from its page, written to a buffer, and read again from there."""
    (B, H, D), (_, P, G, _), max_pages = q.shape, k_pages.shape, page_table.shape[1]
    check_grid(B=B)
    check_width(D, SCORES_WIDTH_LIMIT, "v1_gather", "tiled")
    k, v = (np.empty_like(q, shape=(B, max_pages * P, G, D), order="C") for _ in "kv")
    gather_pages[(max_pages, B), THREADS](k_pages, v_pages, page_table, lengths, k, v)
    o = new(q)
    decode_gathered(D)[(H, B), THREADS](q, k, v, lengths, np.float32(scale), o)
    return o
