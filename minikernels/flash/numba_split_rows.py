"""v3_split_rows: four neighbouring lanes share each query row, and hold up to four rows at once."""

import math
from functools import cache

import numpy as np

from minikernels.core.limits import tile_rows
from minikernels.flash.outputs import check_grid, check_width, new
from minikernels.flash.quads import LANES, quad_sum
from minikernels.launch import cuda, float32, kernel

KEYS = 4  # keys absorbed at a time: their scores stay in registers


@cache
def v3_split_rows(D, THREADS, ROWS, BLOCK_S, CAUSAL):
    """Return the kernel for one head width, one tile and one mask; numba sizes arrays by constants."""
    PART = math.ceil(D / LANES)  # columns a lane owns: lane, lane + 4, lane + 8, ...
    WIDTH = LANES * PART  # D rounded up; the columns beyond D hold zeros
    QUADS = THREADS // LANES
    BLOCK_T = QUADS * ROWS

    @kernel
    def v3_split_rows(q, k, v, scale, o, lse):
        """Attend a tile of queries to all keys it sees, one tile of keys at a time, four keys at once.

        A thread owns a quarter of the columns of q and o of ROWS query rows, and knows their m and l. A block owns the
        BLOCK_T rows of one tile, of head h of sequence b. Shared memory: 2*BLOCK_S*WIDTH*4 bytes (16 KB at D=64).
        Differs from v2_tiled: four lanes a row and ROWS rows a lane (4 at D=64) instead of one row a lane. Each element
        that a lane reads from shared memory serves ROWS multiply-adds instead of one; a block of as many threads
        holds more rows, so that K and V cross HBM half as often.
        """
        k_smem = cuda.shared.array((BLOCK_S, WIDTH), float32)
        v_smem = cuda.shared.array((BLOCK_S, WIDTH), float32)
        q_reg = cuda.local.array((ROWS, PART), float32)
        o_reg = cuda.local.array((ROWS, PART), float32)
        score = cuda.local.array((ROWS, KEYS), float32)
        m = cuda.local.array(ROWS, float32)
        l = cuda.local.array(ROWS, float32)
        thread = cuda.threadIdx.x
        lane = thread % LANES
        h, b = cuda.blockIdx.y, cuda.blockIdx.z
        T, S = q.shape[2], k.shape[2]
        g = h // (q.shape[1] // k.shape[1])
        top = cuda.blockIdx.x * BLOCK_T + thread // LANES  # the quad's rows are top, top + QUADS, ...
        tile_seen = S
        if CAUSAL:
            tile_seen = min(S, min(T, (cuda.blockIdx.x + 1) * BLOCK_T) + S - T)

        for r in range(ROWS):
            m[r] = float32(-math.inf)
            l[r] = float32(0)
            for i in range(PART):
                o_reg[r, i] = float32(0)
                q_reg[r, i] = float32(0)
                if top + r * QUADS < T and lane + LANES * i < D:
                    q_reg[r, i] = float32(q[b, h, top + r * QUADS, lane + LANES * i]) * scale
        for first in range(0, tile_seen, BLOCK_S):
            keys = min(BLOCK_S, S - first)
            for i in range(thread, BLOCK_S * WIDTH, THREADS):
                j, d = i // WIDTH, i % WIDTH
                if j < keys and d < D:
                    k_smem[j, d] = k[b, g, first + j, d]
                    v_smem[j, d] = v[b, g, first + j, d]
                else:
                    k_smem[j, d] = float32(0)
                    v_smem[j, d] = float32(0)
            cuda.syncthreads()  # the whole tile, zeros included, is written before any thread reads it
            for j in range(0, keys, KEYS):
                for r in range(ROWS):
                    for n in range(KEYS):
                        score[r, n] = float32(0)
                for i in range(PART):
                    for n in range(KEYS):
                        element = k_smem[j + n, lane + LANES * i]
                        for r in range(ROWS):
                            score[r, n] += q_reg[r, i] * element
                for r in range(ROWS):
                    row_seen = S - first - j  # keys from j on that the row sees
                    if CAUSAL:
                        row_seen = min(S, top + r * QUADS + 1 + S - T) - first - j
                    m_new = m[r]
                    for n in range(KEYS):
                        dot = quad_sum(score[r, n])
                        score[r, n] = dot if n < row_seen else float32(-math.inf)
                        m_new = max(m_new, score[r, n])
                    # A row that has seen no key keeps m = -inf; exp(-inf - 0) is 0, where exp(-inf + inf) would be NaN.
                    base = m_new if m_new != float32(-math.inf) else float32(0)
                    alpha = math.exp(m[r] - base)
                    m[r] = m_new
                    l[r] *= alpha
                    for i in range(PART):
                        o_reg[r, i] *= alpha
                    total = float32(0)  # of four weights, added up apart: a long sum loses fewer bits
                    for n in range(KEYS):
                        score[r, n] = math.exp(score[r, n] - base)  # the score becomes a probability
                        total += score[r, n]
                    l[r] += total
                for i in range(PART):
                    for n in range(KEYS):
                        element = v_smem[j + n, lane + LANES * i]
                        for r in range(ROWS):
                            o_reg[r, i] += score[r, n] * element
            cuda.syncthreads()  # every thread is done with the tile before the next one overwrites it
        for r in range(ROWS):
            if top + r * QUADS < T:
                inverse = float32(0)
                log_sum = float32(-math.inf)
                if l[r] != 0:
                    inverse = float32(1) / l[r]
                    log_sum = m[r] + math.log(l[r])
                for i in range(PART):
                    if lane + LANES * i < D:
                        o[b, h, top + r * QUADS, lane + LANES * i] = o_reg[r, i] * inverse
                if lane == 0:
                    lse[b, h, top + r * QUADS] = log_sum

    return v3_split_rows


def launch_v3_split_rows(q, k, v, causal, scale):
    """Return o and lse; a wide head leaves a thread registers for fewer rows."""
    B, H, T, D = q.shape
    check_grid(H, B)
    check_width(D, "v3_split_rows")
    threads, rows = (128, 4) if D <= 64 else (256, 2) if D <= 128 else (256, 1)
    o, lse = new(q, q.shape, q.dtype), new(q, (B, H, T), np.float32)
    run = v3_split_rows(D, threads, rows, tile_rows(LANES * math.ceil(D / LANES)), bool(causal))
    run[(math.ceil(T / (threads // LANES * rows)), H, B), threads](q, k, v, np.float32(scale), o, lse)
    return o, lse
