"""v1_ragged_heads: decoding over heads of different lengths, whose slots a warp finds through the page table."""

import math
from functools import cache

import numpy as np

from minikernels.core.limits import check_grid
from minikernels.kv_compression.numba_warps import merged, warp_sum
from minikernels.kv_compression.outputs import check_width, chunks, new
from minikernels.launch import cuda, float32, kernel

WARPS = 4
WIDTH_LIMIT = 256  # a lane holds ceil(D / 32) columns of up to 8 heads, twice


@cache
def v1_ragged_heads(D, R, P, G, WARPS):
    """Return the kernel for one head width, group and page; numba sizes arrays by constants."""
    HEADS, CHUNKS = chunks(R)
    PART = math.ceil(D / 32)  # columns a lane owns: lane, lane + 32, ...

    @kernel
    def v1_ragged_heads(q, k_pages, v_pages, page_table, lengths, scale, o):
        """Attend up to 8 query heads of a group to the slots of their head; each warp takes every WARPS-th slot.

        A thread owns every 32nd column of q and of o for each of the HEADS query heads, over its warp's slots. A block
        owns HEADS query heads that share head [b, g]. Shared memory: WARPS*HEADS*(D + 2)*4 bytes, used once at the end.
        Differs from tiled: slot s of a head is looked up when its turn comes, in page page_table[head, s // P].
        """
        m_smem = cuda.shared.array((WARPS, HEADS), float32)
        l_smem = cuda.shared.array((WARPS, HEADS), float32)
        o_smem = cuda.shared.array((WARPS, HEADS, D), float32)
        q_reg = cuda.local.array((HEADS, PART), float32)
        o_reg = cuda.local.array((HEADS, PART), float32)
        k_reg = cuda.local.array(PART, float32)
        v_reg = cuda.local.array(PART, float32)
        m = cuda.local.array(HEADS, float32)
        l = cuda.local.array(HEADS, float32)
        thread = cuda.threadIdx.x
        lane, warp = thread % 32, thread // 32
        b = cuda.blockIdx.y
        g, skipped = cuda.blockIdx.x // CHUNKS, cuda.blockIdx.x % CHUNKS * HEADS
        head = b * G + g
        top = g * R + skipped  # first query head of the block
        heads = min(HEADS, R - skipped)
        length = lengths[head]

        for r in range(HEADS):
            m[r] = float32(-math.inf)
            l[r] = float32(0)
            for i in range(PART):
                o_reg[r, i] = float32(0)
                q_reg[r, i] = float32(0)
                if r < heads and lane + 32 * i < D:
                    q_reg[r, i] = float32(q[b, top + r, lane + 32 * i]) * scale
        for s in range(warp, length, WARPS):
            page = page_table[head, s // P]
            for i in range(PART):
                k_reg[i] = float32(0)
                v_reg[i] = float32(0)
                if lane + 32 * i < D:
                    k_reg[i] = k_pages[page, s % P, 0, lane + 32 * i]
                    v_reg[i] = v_pages[page, s % P, 0, lane + 32 * i]
            for r in range(HEADS):
                dot = float32(0)
                for i in range(PART):
                    dot += q_reg[r, i] * k_reg[i]
                dot = warp_sum(dot)
                m_new = max(m[r], dot)
                base = m_new if m_new != float32(-math.inf) else float32(0)  # all -inf so far: no inf - inf
                alpha = math.exp(m[r] - base)
                p = math.exp(dot - base)
                l[r] = alpha * l[r] + p
                for i in range(PART):
                    o_reg[r, i] = alpha * o_reg[r, i] + p * v_reg[i]
                m[r] = m_new

        for r in range(HEADS):
            if lane == 0:
                m_smem[warp, r] = m[r]
                l_smem[warp, r] = l[r]
            for i in range(PART):
                if lane + 32 * i < D:
                    o_smem[warp, r, lane + 32 * i] = o_reg[r, i]
        cuda.syncthreads()  # all warps' states are written before any thread merges them
        for i in range(thread, heads * D, WARPS * 32):
            o[b, top + i // D, i % D] = merged(m_smem, l_smem, o_smem, i // D, i % D)

    return v1_ragged_heads


def launch_v1_ragged_heads(q, k_pages, v_pages, page_table, lengths, scale, warps=WARPS):
    """Return o; where more than 8 query heads share a key/value head, ceil(H / G / 8) blocks read it."""
    (B, H, D), G = q.shape, len(page_table) // len(q)
    check_grid(B=B)
    check_width(D, WIDTH_LIMIT, "v1_ragged_heads")
    o, blocks = new(q), G * chunks(H // G)[1]
    run = v1_ragged_heads(D, H // G, k_pages.shape[1], G, warps)
    run[(blocks, B), 32 * warps](q, k_pages, v_pages, page_table, lengths, np.float32(scale), o)
    return o
