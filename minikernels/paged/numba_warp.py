"""v3_warp_key: a warp takes a key at a time, its lanes the columns, and keeps the states of the heads that share it."""

import math
from functools import cache

import numpy as np

from minikernels.core.limits import check_grid
from minikernels.launch import cuda, device, float32, kernel
from minikernels.paged.outputs import check_width, chunks, new

WARPS = 4
WIDTH_LIMIT = 256  # a lane holds ceil(D / 32) columns of up to 8 heads, twice
ALL = 0xFFFFFFFF  # every lane of the warp takes part in a shuffle


@device
def warp_sum(x):
    """Return the sum over the warp's 32 lanes, to each of them."""
    x += cuda.shfl_xor_sync(ALL, x, 16)
    x += cuda.shfl_xor_sync(ALL, x, 8)
    x += cuda.shfl_xor_sync(ALL, x, 4)
    x += cuda.shfl_xor_sync(ALL, x, 2)
    return x + cuda.shfl_xor_sync(ALL, x, 1)


@cache
def v3_warp_key(D, P, R, WARPS):
    """Return the kernel for one head width, page length and group; numba sizes arrays by constants."""
    HEADS, CHUNKS = chunks(R)
    PART = math.ceil(D / 32)  # columns a lane owns: lane, lane + 32, ...

    @kernel
    def v3_warp_key(q, k_pages, v_pages, page_table, lengths, scale, o):
        """Attend up to 8 query heads of a group to the keys of their sequence; each warp takes every WARPS-th key.

        A thread owns every 32nd column of q and of o for each of the HEADS query heads, over its warp's keys. A block
        owns HEADS query heads that share head g of sequence b. Shared memory: WARPS*HEADS*(D + 2)*4 bytes (4.1 KB at
        D=64, R=4), used once at the end.
        Differs from v2_page_table: no scores are kept. A warp that has read a key updates the states (m, l, o) of all
        its heads by online softmax, in registers, without a barrier; the warps' states are merged at the end.
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
        top = g * R + skipped  # first query head of the block
        heads = min(HEADS, R - skipped)
        length = lengths[b]

        for r in range(HEADS):
            m[r] = float32(-math.inf)
            l[r] = float32(0)
            if length < 0:
                l[r] = float32(math.nan)  # a sequence that leads out of the pool
            for i in range(PART):
                o_reg[r, i] = float32(0)
                q_reg[r, i] = float32(0)
                if r < heads and lane + 32 * i < D:
                    q_reg[r, i] = float32(q[b, top + r, lane + 32 * i]) * scale
        for s in range(warp, length, WARPS):
            page, slot = page_table[b, s // P], s % P
            for i in range(PART):
                k_reg[i] = float32(0)
                v_reg[i] = float32(0)
                if lane + 32 * i < D:  # the warp's lanes read neighbouring elements of one row
                    k_reg[i] = k_pages[page, slot, g, lane + 32 * i]
                    v_reg[i] = v_pages[page, slot, g, lane + 32 * i]
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
            r, d = i // D, i % D
            largest = float32(-math.inf)
            for w in range(WARPS):
                largest = max(largest, m_smem[w, r])
            total = float32(0)
            acc = float32(0)
            for w in range(WARPS):
                if l_smem[w, r] != 0:  # a warp without keys holds m = -inf
                    share = math.exp(m_smem[w, r] - largest)
                    total += share * l_smem[w, r]
                    acc += share * o_smem[w, r, d]
            if total != 0:
                acc /= total
            o[b, top + r, d] = acc  # 0 in a sequence without keys

    return v3_warp_key


def launch_v3_warp_key(q, k_pages, v_pages, page_table, lengths, scale, warps=WARPS):
    """Return o; where more than 8 query heads share a key/value head, ceil(H / G / 8) blocks read it."""
    (B, H, D), (_, P, G, _) = q.shape, k_pages.shape
    check_grid(B=B)
    check_width(D, WIDTH_LIMIT, "v3_warp_key", "v2_page_table")
    o, blocks = new(q), G * chunks(H // G)[1]
    run = v3_warp_key(D, P, H // G, warps)
    run[(blocks, B), 32 * warps](q, k_pages, v_pages, page_table, lengths, np.float32(scale), o)
    return o
