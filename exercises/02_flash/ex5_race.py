"""Exercise 02.5: find a race and mend it.

The kernel below finds the largest score of every row, and of every block of rows. On small inputs it is right; on a GPU
it is right most days. One barrier is missing.

First say which shared array the threads race on, then add the line that is missing where it belongs.
Budget: 2 barriers a tile and 1 at the end.
Check it with ``minikernels check 02.5``.
"""

import math

from minikernels.launch import cuda, float32, kernel

BLOCK_T = 64  # query rows of a block, one a thread: two warps; the grader tries other sizes too
BLOCK_S = 16  # keys of a tile
D = 8  # head width

# Which shared array? Add a line: RACES_ON = "its name"
# Your lines start here.
# Your lines end here.


@kernel
def largest_scores(q, k, row_max, block_max):
    """Write each row's largest score of q (T, D) against k (S, D) to row_max (T,), each block's to block_max.

    A thread owns query row t, a block BLOCK_T rows. Shared memory: (BLOCK_S*D + BLOCK_T)*4 bytes.
    """
    k_smem = cuda.shared.array((BLOCK_S, D), float32)
    m_smem = cuda.shared.array(BLOCK_T, float32)
    thread = cuda.threadIdx.x
    T, S = q.shape[0], k.shape[0]
    t = cuda.blockIdx.x * BLOCK_T + thread
    m = float32(-math.inf)
    for first in range(0, S, BLOCK_S):
        keys = min(BLOCK_S, S - first)
        for i in range(thread, keys * D, BLOCK_T):
            k_smem[i // D, i % D] = k[first + i // D, i % D]
        cuda.syncthreads()
        if t < T:
            for j in range(keys):
                score = float32(0)
                for d in range(D):
                    score += q[t, d] * k_smem[j, d]
                m = max(m, score)
    m_smem[thread] = m
    cuda.syncthreads()
    if t < T:
        row_max[t] = m
    if thread == 0:
        for i in range(BLOCK_T):
            m = max(m, m_smem[i])
        block_max[cuda.blockIdx.x] = m
