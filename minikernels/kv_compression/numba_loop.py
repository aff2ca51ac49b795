"""v1_dequantize: a warp takes a token at a time and dequantises each of its numbers where it is used."""

import math
from functools import cache

import numpy as np

from minikernels.core.limits import check_grid
from minikernels.kv_compression.numba_warps import merged, warp_sum
from minikernels.kv_compression.outputs import check_width, chunks, layout, new
from minikernels.launch import cuda, device, float32, int32, kernel

WARPS = 4
WIDTH_LIMIT = 256  # a lane holds ceil(D / 32) columns of up to 8 heads, twice


@cache
def number(BITS, ROWS, COLUMNS):
    """Return the device function that reads one number of a cache of one layout."""
    MASK = 2**BITS - 1

    @device
    def number(codes, scales, minima, b, g, s, c):
        """Return channel c of token s: three loads, of code, scale and minimum."""
        code = int32(codes[b, g, s, c * BITS // 8]) >> (c * BITS % 8) & MASK
        return (float32(scales[b, g, s // ROWS, c // COLUMNS]) * float32(code)
                + float32(minima[b, g, s // ROWS, c // COLUMNS]))

    return number


@cache
def v1_dequantize(D, R, WARPS, K, V):
    """Return the kernel for one head width and group, and the layouts of keys and values; numba wants constants."""
    HEADS, CHUNKS = chunks(R)
    PART = math.ceil(D / 32)  # columns a lane owns: lane, lane + 32, ...
    k_number, v_number = number(*K), number(*V)

    @kernel
    def v1_dequantize(
            q, k_codes, k_scales, k_minima, k_recent, v_codes, v_scales, v_minima, v_recent, lengths, scale, o):
        """Attend up to 8 query heads of a group to the tokens of their sequence; each warp takes every WARPS-th.

        A thread owns every 32nd column of q and of o for each of the HEADS query heads, over its warp's tokens. A block
        owns HEADS query heads that share head g of sequence b. Shared memory: WARPS*HEADS*(D + 2)*4 bytes (4.1 KB at
        D=64, R=4), used once at the end.
        Differs from tiled: no tile is dequantised first; a lane reads the code, the scale and the minimum of a number
        when it needs it, multiplies and adds.
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
        quantized = k_codes.shape[2]

        for r in range(HEADS):
            m[r] = float32(-math.inf)
            l[r] = float32(0)
            for i in range(PART):
                o_reg[r, i] = float32(0)
                q_reg[r, i] = float32(0)
                if r < heads and lane + 32 * i < D:
                    q_reg[r, i] = float32(q[b, top + r, lane + 32 * i]) * scale
        for s in range(warp, length, WARPS):
            for i in range(PART):
                c = lane + 32 * i
                k_reg[i] = float32(0)
                v_reg[i] = float32(0)
                if c < D and s < quantized:
                    k_reg[i] = k_number(k_codes, k_scales, k_minima, b, g, s, c)
                    v_reg[i] = v_number(v_codes, v_scales, v_minima, b, g, s, c)
                elif c < D:
                    k_reg[i] = k_recent[b, g, s - quantized, c]
                    v_reg[i] = v_recent[b, g, s - quantized, c]
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

    return v1_dequantize


def launch_v1_dequantize(q, k_cache, v_cache, lengths, scale, warps=WARPS):
    """Return o; where more than 8 query heads share a key/value head, ceil(H / G / 8) blocks read it."""
    (B, H, D), G = q.shape, k_cache.shape[1]
    check_grid(B=B)
    check_width(D, WIDTH_LIMIT, "v1_dequantize")
    o, blocks = new(q), G * chunks(H // G)[1]
    run = v1_dequantize(D, H // G, warps, layout(k_cache), layout(v_cache))[(blocks, B), 32 * warps]
    run(q, *k_cache.arrays.values(), *v_cache.arrays.values(), lengths, np.float32(scale), o)
    return o
