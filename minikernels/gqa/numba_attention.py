"""attention over a prompt: a warp owns 32 query rows of one head, and K and V serve one head or a whole group."""

import math
from functools import cache

import numpy as np

from minikernels.core.limits import check_grid, tile_rows
from minikernels.gqa.outputs import check_width, chunks, new
from minikernels.launch import cuda, float32, kernel

BLOCK_T = 32  # query rows of a block, a head: one warp
WIDTH_LIMIT = 256  # a thread holds q and o of a row; beyond this they spill far out of its 255 registers


@cache
def group_attention(D, HEADS, BLOCK_S, CAUSAL):
    """Return the kernel for one head width, one tile, one mask and HEADS query heads a block."""

    @kernel
    def group_attention(q, k, v, scale, o):
        """Attend 32 query positions of HEADS heads to all keys they see, one tile of keys at a time.

        A thread owns query row t of head h: q, the running o, m and l. A warp owns a head, a block HEADS heads that
        share key/value head g. Shared memory: 2*BLOCK_S*D*4 bytes (16 KB at D=64).
        """
        k_smem = cuda.shared.array((BLOCK_S, D), float32)
        v_smem = cuda.shared.array((BLOCK_S, D), float32)
        q_reg = cuda.local.array(D, float32)
        o_reg = cuda.local.array(D, float32)
        score = cuda.local.array(BLOCK_S, float32)
        thread = cuda.threadIdx.x
        T, S, R = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
        b, per_group = cuda.blockIdx.z, (R + HEADS - 1) // HEADS
        g, skipped = cuda.blockIdx.y // per_group, cuda.blockIdx.y % per_group * HEADS
        r = skipped + thread // 32
        h = g * R + r
        t = cuda.blockIdx.x * 32 + thread % 32
        tile_seen = S  # keys that any row of this block sees
        row_seen = S  # keys that row t sees
        if CAUSAL:
            tile_seen = min(S, min(T, cuda.blockIdx.x * 32 + 32) + S - T)
            row_seen = min(S, t + 1 + S - T)
        mine_here = t < T and r < R
        if not mine_here:  # past the last row or head: the thread only helps to load tiles
            row_seen = 0

        m = float32(-math.inf)
        l = float32(0)
        for d in range(D):
            o_reg[d] = float32(0)
            if mine_here:
                q_reg[d] = float32(q[b, h, t, d]) * scale
        for first in range(0, tile_seen, BLOCK_S):
            keys = min(BLOCK_S, S - first)
            for i in range(thread, keys * D, 32 * HEADS):  # neighbouring threads read neighbouring elements
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
                for j in range(mine):
                    p = math.exp(score[j] - base)
                    l += p
                    for d in range(D):
                        o_reg[d] += p * v_smem[j, d]
                m = m_new
            cuda.syncthreads()  # every thread is done with the tile before the next one overwrites it
        if mine_here:
            inverse = float32(0)
            if l != 0:
                inverse = float32(1) / l
            for d in range(D):
                o[b, h, t, d] = o_reg[d] * inverse

    return group_attention


def launch_attention_v1_head_per_block(q, k, v, causal, scale):
    """Return o; every query head reads the keys and values of its group for itself."""
    return launch(q, k, v, causal, scale, 1, "v1_head_per_block")


def launch_attention_v2_group_per_block(q, k, v, causal, scale):
    """Return o.

    Differs from v1_head_per_block: a block holds up to 8 query heads of a group, a warp each, and a tile of K and V in
    shared memory serves them all: K and V cross HBM H / G times less often (8 times less where H / G is more).
    """
    return launch(q, k, v, causal, scale, chunks(q.shape[1] // k.shape[1])[0], "v2_group_per_block")


def launch(q, k, v, causal, scale, heads, rung):
    """Launch a block for every 32 query positions of `heads` query heads of a group."""
    (B, H, T, D), G = q.shape, k.shape[1]
    blocks = G * math.ceil(H / G / heads)
    check_grid(H=blocks, B=B)
    check_width(D, WIDTH_LIMIT, rung, "tiled")
    o = new(q)
    grid = math.ceil(T / BLOCK_T), blocks, B
    group_attention(D, heads, tile_rows(D), bool(causal))[grid, 32 * heads](q, k, v, np.float32(scale), o)
    return o
