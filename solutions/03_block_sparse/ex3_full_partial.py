"""Exercise 03.3: mask code where it is needed.

Query t sees key s iff s <= t + S - T. In most blocks every row sees every key, or the block is left out; only where the
diagonal goes through a block must each cell be asked. The lists have a row's full blocks first: those at
``columns[starts[i]]`` up to, not including, ``columns[partial[i]]``; the others, up to ``starts[i + 1]``, are partial.
The kernel below walks over the lists but hides nothing.

Budget: no cell of a full block is asked about: one branch a warp and key in partial blocks, and one for each block.
Check it with ``minikernels check 03.3``.
"""

import math

from minikernels.launch import cuda, float32, kernel

R = 32  # queries of a block of the mask, one a thread; the grader tries other sizes too
C = 16  # keys of a block
D = 8  # head width


@kernel
def full_partial(q, k, v, starts, partial, columns, scale, o):
    """Write causal attention of q (T, D) over the listed blocks of k and v (S, D) to o (T, D); R divides T, C S.

    A thread owns query row t: q_reg, o_reg, score, m and l. A block owns R rows. Shared memory: 2*C*D*4 bytes.
    """
    k_smem = cuda.shared.array((C, D), float32)
    v_smem = cuda.shared.array((C, D), float32)
    q_reg = cuda.local.array(D, float32)
    o_reg = cuda.local.array(D, float32)
    score = cuda.local.array(C, float32)
    i, thread = cuda.blockIdx.x, cuda.threadIdx.x
    T, S = q.shape[0], k.shape[0]
    t = i * R + thread
    last = t + S - T  # the last key that row t sees; less than 0 if it sees none
    m = float32(-math.inf)
    l = float32(0)
    for d in range(D):
        o_reg[d] = float32(0)
        q_reg[d] = q[t, d] * scale
    for place in range(starts[i], starts[i + 1]):
        first = columns[place] * C  # the block's first key
        for n in range(thread, C * D, R):
            k_smem[n // D, n % D] = k[first + n // D, n % D]
            v_smem[n // D, n % D] = v[first + n // D, n % D]
        cuda.syncthreads()  # the whole block is written before any thread reads it
        for n in range(C):
            score[n] = float32(0)
            for d in range(D):
                score[n] += q_reg[d] * k_smem[n, d]
        # Set the scores of keys that row t may not see to -inf, in partial blocks alone.
        # Your lines start here.
        if place >= partial[i]:
            for n in range(C):
                if first + n > last:
                    score[n] = float32(-math.inf)
        # Your lines end here.
        m_new = m
        for n in range(C):
            m_new = max(m_new, score[n])
        base = max(m_new, float32(-1e30))  # a row that has seen no key: no inf - inf
        alpha = math.exp(m - base)
        l *= alpha
        for d in range(D):
            o_reg[d] *= alpha
        for n in range(C):
            p = math.exp(score[n] - base)
            l += p
            for d in range(D):
                o_reg[d] += p * v_smem[n, d]
        m = m_new
        cuda.syncthreads()  # every thread is done with the block before the next one overwrites it
    for d in range(D):
        o[t, d] = o_reg[d] / max(l, float32(1e-30))
