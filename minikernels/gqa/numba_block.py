"""v1_block_per_head and v2_shared_group: a thread owns columns of the output, a block shares a tile's scores."""

import math
from functools import cache

import numpy as np

from minikernels.core.limits import check_grid
from minikernels.gqa.outputs import block_s, check_width, new
from minikernels.launch import cuda, float32, kernel

THREADS = 128  # of a block of v2_shared_group
WIDEST = 1024  # threads of a block, and so columns of a head in v1_block_per_head


@cache
def v1_block_per_head(D, THREADS):
    """Return the kernel for one head width; numba sizes arrays by constants."""

    @kernel
    def v1_block_per_head(q, k, v, lengths, scale, o):
        """Attend one query head to the keys of its sequence, THREADS of them at a time.

        A thread owns column d of the output, with m and l of the row, and one key's score in each tile. A block owns
        query head h of sequence b. Shared memory: (D + THREADS)*4 bytes (512 at D=64).
        """
        q_smem = cuda.shared.array(D, float32)
        score_smem = cuda.shared.array(THREADS, float32)
        d = cuda.threadIdx.x
        h, b = cuda.blockIdx.x, cuda.blockIdx.y
        g = h // (q.shape[1] // k.shape[1])
        length = lengths[b]
        if d < D:
            q_smem[d] = float32(q[b, h, d]) * scale
        cuda.syncthreads()  # the whole query is written before any thread reads it

        m = float32(-math.inf)
        l = float32(0)
        acc = float32(0)
        for first in range(0, length, THREADS):
            keys = min(THREADS, length - first)
            if d < keys:  # neighbouring threads read rows of K that lie D elements apart
                dot = float32(0)
                for i in range(D):
                    dot += q_smem[i] * float32(k[b, g, first + d, i])
                score_smem[d] = dot
            cuda.syncthreads()  # all scores of the tile are written before any thread reads them
            m_new = m
            for j in range(keys):
                m_new = max(m_new, score_smem[j])
            base = m_new if m_new != float32(-math.inf) else float32(0)  # all -inf so far: no inf - inf
            alpha = math.exp(m - base)  # 0 at the first tile, where m = -inf
            l *= alpha
            acc *= alpha
            for j in range(keys):
                p = math.exp(score_smem[j] - base)
                l += p
                if d < D:
                    acc += p * float32(v[b, g, first + j, d])
            m = m_new
            cuda.syncthreads()  # every thread is done with the scores before the next tile overwrites them
        if d < D:
            inverse = float32(0)  # a sequence without keys gives 0
            if l != 0:
                inverse = float32(1) / l
            o[b, h, d] = acc * inverse

    return v1_block_per_head


def launch_v1_block_per_head(q, k, v, lengths, scale):
    """Return o; H / G blocks read the same keys and values, each for itself."""
    B, H, D = q.shape
    check_grid(B=B)
    check_width(D, WIDEST, "v1_block_per_head", "tiled")
    o, threads = new(q), 32 * math.ceil(D / 32)
    v1_block_per_head(D, threads)[(H, B), threads](q, k, v, lengths, np.float32(scale), o)
    return o


@cache
def v2_shared_group(D, R, BLOCK_S, THREADS):
    """Return the kernel for one head width, group and tile; numba sizes arrays by constants."""
    WIDTH = D + 1 - D % 2  # of a row of K in shared memory: odd, so that lanes reading a column meet no bank conflict
    PER = math.ceil(R * D / THREADS)  # outputs that a thread owns

    @kernel
    def v2_shared_group(q, k, v, lengths, scale, o):
        """Attend the R = H / G query heads of a group to the keys of their sequence, BLOCK_S of them at a time.

        A thread owns every THREADS-th of the group's R*D outputs, with m and l of their rows, and some of the tile's
        R*BLOCK_S scores. A block owns key/value head g of sequence b. Shared memory: (R*D + BLOCK_S*(WIDTH + D + R))*4
        bytes (18 KB at D=64, R=4).
        Differs from v1_block_per_head: K and V are staged in shared memory, where all R query heads read them, so that
        they cross HBM once a group and not once a query head.
        """
        q_smem = cuda.shared.array((R, D), float32)
        k_smem = cuda.shared.array((BLOCK_S, WIDTH), float32)
        v_smem = cuda.shared.array((BLOCK_S, D), float32)
        score_smem = cuda.shared.array((R, BLOCK_S), float32)
        m = cuda.local.array(PER, float32)
        l = cuda.local.array(PER, float32)
        acc = cuda.local.array(PER, float32)
        thread = cuda.threadIdx.x
        g, b = cuda.blockIdx.x, cuda.blockIdx.y
        length = lengths[b]
        for i in range(thread, R * D, THREADS):
            q_smem[i // D, i % D] = float32(q[b, g * R + i // D, i % D]) * scale
        for n in range(PER):
            m[n] = float32(-math.inf)
            l[n] = float32(0)
            acc[n] = float32(0)

        for first in range(0, length, BLOCK_S):
            keys = min(BLOCK_S, length - first)
            for i in range(thread, keys * D, THREADS):  # neighbouring threads read neighbouring elements
                k_smem[i // D, i % D] = k[b, g, first + i // D, i % D]
                v_smem[i // D, i % D] = v[b, g, first + i // D, i % D]
            cuda.syncthreads()  # the whole tile, and q, are written before any thread reads them
            for i in range(thread, R * BLOCK_S, THREADS):
                r, j = i // BLOCK_S, i % BLOCK_S
                if j < keys:
                    dot = float32(0)
                    for d in range(D):
                        dot += q_smem[r, d] * k_smem[j, d]
                    score_smem[r, j] = dot
            cuda.syncthreads()  # all scores of the tile are written before any thread reads them
            for n in range(PER):
                i = thread + n * THREADS
                if i < R * D:
                    r, d = i // D, i % D
                    m_new = m[n]
                    for j in range(keys):
                        m_new = max(m_new, score_smem[r, j])
                    base = m_new if m_new != float32(-math.inf) else float32(0)  # all -inf so far: no inf - inf
                    alpha = math.exp(m[n] - base)  # 0 at the first tile, where m = -inf
                    l[n] *= alpha
                    acc[n] *= alpha
                    for j in range(keys):
                        p = math.exp(score_smem[r, j] - base)
                        l[n] += p
                        acc[n] += p * v_smem[j, d]
                    m[n] = m_new
            cuda.syncthreads()  # every thread is done with the tile before the next one overwrites it
        for n in range(PER):
            i = thread + n * THREADS
            if i < R * D:
                inverse = float32(0)  # a sequence without keys gives 0
                if l[n] != 0:
                    inverse = float32(1) / l[n]
                o[b, g * R + i // D, i % D] = acc[n] * inverse

    return v2_shared_group


def launch_v2_shared_group(q, k, v, lengths, scale, threads=THREADS):
    """Return o."""
    (B, H, D), G = q.shape, k.shape[1]
    check_grid(B=B)
    o = new(q)
    run = v2_shared_group(D, H // G, block_s(H // G, D), threads)
    run[(G, B), threads](q, k, v, lengths, np.float32(scale), o)
    return o
