"""v2_folded_scales: keys' scales go into q once a group of tokens, values' into p; codes meet them as they are."""

import math
from functools import cache

import numpy as np

from minikernels.core.limits import check_grid
from minikernels.kv_compression.numba_warps import merged, warp_sum
from minikernels.kv_compression.outputs import check_axes, check_width, chunks, new
from minikernels.launch import cuda, device, float32, int32, kernel

WARPS = 4
WIDTH_LIMIT = 256  # a lane holds ceil(D / 32) columns of up to 8 heads, four times


@cache
def code(BITS):
    """Return the device function that reads one code."""
    MASK = 2**BITS - 1

    @device
    def code(codes, b, g, s, c):
        """Return the code of channel c of token s, as a float."""
        return float32(int32(codes[b, g, s, c * BITS // 8]) >> (c * BITS % 8) & MASK)

    return code


@cache
def v2_folded_scales(D, R, WARPS, K_BITS, V_BITS, K_GROUP, V_GROUP):
    """Return the kernel for one head width and group, and the bits and groups of keys and values."""
    HEADS, CHUNKS = chunks(R)
    PART = math.ceil(D / 32)  # columns a lane owns: lane, lane + 32, ...
    k_code, v_code = code(K_BITS), code(V_BITS)

    @kernel
    def v2_folded_scales(
            q, k_codes, k_scales, k_minima, k_recent, v_codes, v_scales, v_minima, v_recent, lengths, scale, o):
        """Attend up to 8 query heads of a group to the tokens of their sequence; a warp takes a group of tokens.

        A thread owns every 32nd column of q and of o for each of the HEADS query heads, over its warp's tokens; `o_min`
        is the share of the values' minima in o. A block owns HEADS query heads that share head g of sequence b. Shared
        memory: WARPS*HEADS*(D + 2)*4 bytes (4.1 KB at D=64, R=4), used once at the end.
        Differs from v1_dequantize: nothing is dequantised. q . (minimum + scale * code) = q . minimum + (q * scale) .
        code, of which all but the last product is done once a group of K_GROUP tokens; and the sum of p * (minimum +
        scale * code) is the sum of p * minimum plus that of (p * scale) * code.
        """
        m_smem = cuda.shared.array((WARPS, HEADS), float32)
        l_smem = cuda.shared.array((WARPS, HEADS), float32)
        o_smem = cuda.shared.array((WARPS, HEADS, D), float32)
        q_reg = cuda.local.array((HEADS, PART), float32)
        q_scaled = cuda.local.array((HEADS, PART), float32)
        q_min = cuda.local.array(HEADS, float32)
        o_reg = cuda.local.array((HEADS, PART), float32)
        o_min = cuda.local.array((HEADS, PART), float32)
        k_reg = cuda.local.array(PART, float32)
        v_reg = cuda.local.array(PART, float32)
        v_scale = cuda.local.array(PART, float32)
        v_min = cuda.local.array(PART, float32)
        m = cuda.local.array(HEADS, float32)
        l = cuda.local.array(HEADS, float32)
        thread = cuda.threadIdx.x
        lane, warp = thread % 32, thread // 32
        b = cuda.blockIdx.y
        g, skipped = cuda.blockIdx.x // CHUNKS, cuda.blockIdx.x % CHUNKS * HEADS
        top = g * R + skipped  # first query head of the block
        heads = min(HEADS, R - skipped)
        length, quantized = lengths[b], k_codes.shape[2]
        whole = (quantized + K_GROUP - 1) // K_GROUP  # groups of tokens; the residual window makes up the others
        parts = whole + (k_recent.shape[2] + K_GROUP - 1) // K_GROUP

        for r in range(HEADS):
            m[r] = float32(-math.inf)
            l[r] = float32(0)
            for i in range(PART):
                o_reg[r, i] = float32(0)
                o_min[r, i] = float32(0)
                q_reg[r, i] = float32(0)
                if r < heads and lane + 32 * i < D:
                    q_reg[r, i] = float32(q[b, top + r, lane + 32 * i]) * scale
        for part in range(warp, parts, WARPS):
            first = part * K_GROUP
            packed = part < whole
            end = min(first + K_GROUP, length)
            for r in range(HEADS):
                q_min[r] = float32(0)
            for i in range(PART):
                c = lane + 32 * i
                k_scale = float32(1)
                k_min = float32(0)
                v_scale[i] = float32(1)
                v_min[i] = float32(0)
                if packed and first < length and c < D:
                    k_scale = float32(k_scales[b, g, part, c])
                    k_min = float32(k_minima[b, g, part, c])
                for r in range(HEADS):
                    q_scaled[r, i] = q_reg[r, i] * k_scale
                    q_min[r] += q_reg[r, i] * k_min
            for r in range(HEADS):
                q_min[r] = warp_sum(q_min[r])
            for s in range(first, end):
                for i in range(PART):
                    c = lane + 32 * i
                    k_reg[i] = float32(0)
                    v_reg[i] = float32(0)
                    if c < D and packed:
                        k_reg[i] = k_code(k_codes, b, g, s, c)
                        v_reg[i] = v_code(v_codes, b, g, s, c)
                        v_scale[i] = v_scales[b, g, s, c // V_GROUP]
                        v_min[i] = v_minima[b, g, s, c // V_GROUP]
                    elif c < D:
                        k_reg[i] = k_recent[b, g, s - quantized, c]
                        v_reg[i] = v_recent[b, g, s - quantized, c]
                for r in range(HEADS):
                    dot = float32(0)
                    for i in range(PART):
                        dot += q_scaled[r, i] * k_reg[i]
                    dot = warp_sum(dot) + q_min[r]
                    m_new = max(m[r], dot)
                    base = m_new if m_new != float32(-math.inf) else float32(0)  # all -inf so far: no inf - inf
                    alpha = math.exp(m[r] - base)
                    p = math.exp(dot - base)
                    l[r] = alpha * l[r] + p
                    for i in range(PART):
                        o_reg[r, i] = alpha * o_reg[r, i] + p * v_scale[i] * v_reg[i]
                        o_min[r, i] = alpha * o_min[r, i] + p * v_min[i]
                    m[r] = m_new

        for r in range(HEADS):
            if lane == 0:
                m_smem[warp, r] = m[r]
                l_smem[warp, r] = l[r]
            for i in range(PART):
                if lane + 32 * i < D:
                    o_smem[warp, r, lane + 32 * i] = o_reg[r, i] + o_min[r, i]
        cuda.syncthreads()  # all warps' states are written before any thread merges them
        for i in range(thread, heads * D, WARPS * 32):
            o[b, top + i // D, i % D] = merged(m_smem, l_smem, o_smem, i // D, i % D)

    return v2_folded_scales


def launch_v2_folded_scales(q, k_cache, v_cache, lengths, scale, warps=WARPS):
    """Return o; where more than 8 query heads share a key/value head, ceil(H / G / 8) blocks read it."""
    (B, H, D), G = q.shape, k_cache.shape[1]
    check_grid(B=B)
    check_axes(k_cache, v_cache, "v2_folded_scales")
    check_width(D, WIDTH_LIMIT, "v2_folded_scales")
    o, blocks = new(q), G * chunks(H // G)[1]
    built = v2_folded_scales(D, H // G, warps, k_cache.bits, v_cache.bits, k_cache.group, v_cache.group)
    arrays = *k_cache.arrays.values(), *v_cache.arrays.values()
    built[(blocks, B), 32 * warps](q, *arrays, lengths, np.float32(scale), o)
    return o
