"""Exercise 03.2: do not load what the mask hides.

The kernel below attends to every block of keys, whatever the mask says. A block that is left out need not be loaded or
multiplied: bytes and work fall with the density. All threads of a block of threads share a row of the mask, so they
skip together, and meet at the same barriers. And a row whose mask keeps nothing must give 0, not 0 / 0.

Budget: k and v are read once for each kept block, in full sectors; 2 barriers a kept block.
Check it with ``minikernels check 03.2``.
"""

import math

from minikernels.launch import cuda, float32, kernel

R = 32  # queries of a block of the mask, one a thread; the grader tries other sizes too
C = 16  # keys of a block
D = 8  # head width


@kernel
def skip_blocks(q, k, v, mask, scale, o):
    """Write attention of q (T, D) over the blocks of k and v (S, D) that mask (ceil(T/R), ceil(S/C)) keeps to o (T, D).

    A thread owns query row t: q_reg, o_reg, m and l. A block owns R rows. Shared memory: 2*C*D*4 bytes.
    """
    k_smem = cuda.shared.array((C, D), float32)
    v_smem = cuda.shared.array((C, D), float32)
    q_reg = cuda.local.array(D, float32)
    o_reg = cuda.local.array(D, float32)
    i, thread = cuda.blockIdx.x, cuda.threadIdx.x
    T, S = q.shape[0], k.shape[0]
    t = i * R + thread
    m = float32(-math.inf)
    l = float32(0)
    for d in range(D):
        o_reg[d] = float32(0)
        if t < T:
            q_reg[d] = q[t, d] * scale
    for j in range(mask.shape[1]):
        # Go on to the next block if this one is not kept.
        # Your lines start here.
        if not mask[i, j]:
            continue
        # Your lines end here.
        keys = min(C, S - j * C)
        for n in range(thread, keys * D, R):
            k_smem[n // D, n % D] = k[j * C + n // D, n % D]
            v_smem[n // D, n % D] = v[j * C + n // D, n % D]
        cuda.syncthreads()  # the whole block is written before any thread reads it
        if t < T:
            for n in range(keys):
                score = float32(0)
                for d in range(D):
                    score += q_reg[d] * k_smem[n, d]
                m_new = max(m, score)
                alpha = math.exp(m - m_new)
                p = math.exp(score - m_new)
                l = alpha * l + p
                for d in range(D):
                    o_reg[d] = alpha * o_reg[d] + p * v_smem[n, d]
                m = m_new
        cuda.syncthreads()  # every thread is done with the block before the next one overwrites it
    if t < T:
        inverse = float32(0)
        # Make it 1 / l, where there is anything to divide by.
        # Your lines start here.
        if l != 0:
            inverse = float32(1) / l
        # Your lines end here.
        for d in range(D):
            o[t, d] = o_reg[d] * inverse
