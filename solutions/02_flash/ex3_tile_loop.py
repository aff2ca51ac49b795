"""Exercise 02.3: the tile loop of a kernel.

One thread owns one query row, one block BLOCK_T of them. The block walks over the keys in tiles that all its threads
load together and all of them use: so K and V cross HBM once a block, and not once a row.

Budget: k and v are read at most ceil(T / BLOCK_T) times, in full sectors; 2 barriers a tile.
Check it with ``minikernels check 02.3``.
"""

import math

from minikernels.launch import cuda, float32, kernel

BLOCK_T = 32  # query rows of a block, one a thread; the grader tries other sizes too
BLOCK_S = 16  # keys of a tile
D = 8  # head width


@kernel
def tile_loop(q, k, v, scale, o):
    """Write softmax attention of q (T, D) over k and v (S, D), all float32, to o (T, D); S is at least 1.

    A thread owns query row t: q_reg, o_reg, m and l. A block owns BLOCK_T rows. Shared memory: 2*BLOCK_S*D*4 bytes.
    """
    k_smem = cuda.shared.array((BLOCK_S, D), float32)
    v_smem = cuda.shared.array((BLOCK_S, D), float32)
    q_reg = cuda.local.array(D, float32)
    o_reg = cuda.local.array(D, float32)
    thread = cuda.threadIdx.x
    T, S = q.shape[0], k.shape[0]
    t = cuda.blockIdx.x * BLOCK_T + thread  # in the last block t may be T or more
    m = float32(-math.inf)
    l = float32(0)
    for d in range(D):
        o_reg[d] = float32(0)
        if t < T:
            q_reg[d] = q[t, d] * scale
    for first in range(0, S, BLOCK_S):
        keys = min(BLOCK_S, S - first)  # the last tile may hold fewer
        # Load the tile with all threads, then absorb its keys into m, l and o_reg.
        # Your lines start here.
        for i in range(thread, keys * D, BLOCK_T):  # neighbouring threads read neighbouring elements
            k_smem[i // D, i % D] = k[first + i // D, i % D]
            v_smem[i // D, i % D] = v[first + i // D, i % D]
        cuda.syncthreads()  # the whole tile is written before any thread reads it
        if t < T:
            for j in range(keys):
                score = float32(0)
                for d in range(D):
                    score += q_reg[d] * k_smem[j, d]
                m_new = max(m, score)
                alpha = math.exp(m - m_new)
                p = math.exp(score - m_new)
                l = alpha * l + p
                for d in range(D):
                    o_reg[d] = alpha * o_reg[d] + p * v_smem[j, d]
                m = m_new
        cuda.syncthreads()  # every thread is done with the tile before the next one overwrites it
        # Your lines end here.
    if t < T:
        for d in range(D):
            o[t, d] = o_reg[d] / l
