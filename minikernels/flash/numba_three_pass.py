"""v1_three_pass: standard attention as three kernels, with scores and probabilities in HBM."""

import math

import numpy as np

from minikernels.flash.outputs import check_grid, new, scratch
from minikernels.launch import cuda, float32, kernel

THREADS = 128  # of a row's block; a power of two, for the tree sums


@kernel
def scores_kernel(q, k, scale, causal, score):
    """Write ``score[b, h, t, s] = scale * q[b, h, t] . k[b, g, s]`` for every key that row t sees.

    A thread owns every 128th key of one row; a block owns the row (t, h, b). No shared memory.
    """
    t, h, b = cuda.blockIdx.x, cuda.blockIdx.y, cuda.blockIdx.z
    T, S, D = q.shape[2], k.shape[2], q.shape[3]
    g = h // (q.shape[1] // k.shape[1])
    seen = S
    if causal:
        seen = min(S, t + 1 + S - T)
    for s in range(cuda.threadIdx.x, seen, THREADS):
        dot = float32(0)
        for d in range(D):
            dot += float32(q[b, h, t, d]) * float32(k[b, g, s, d])
        score[b, h, t, s] = dot * scale


@kernel
def softmax_kernel(score, causal, p, lse):
    """Write ``p = softmax(score)`` and lse, row by row: maximum, then sum, then quotient.

    A thread owns every 128th key of one row; a block owns the row (t, h, b). Shared memory: 512 bytes.
    """
    partial = cuda.shared.array(THREADS, float32)
    thread = cuda.threadIdx.x
    t, h, b = cuda.blockIdx.x, cuda.blockIdx.y, cuda.blockIdx.z
    T, S = score.shape[2], score.shape[3]
    seen = S
    if causal:
        seen = min(S, t + 1 + S - T)

    m = float32(-math.inf)
    for s in range(thread, seen, THREADS):
        m = max(m, score[b, h, t, s])
    partial[thread] = m
    cuda.syncthreads()  # all 128 partial maxima are written before a thread reads its partner's
    half = THREADS // 2
    while half > 0:
        if thread < half:
            partial[thread] = max(partial[thread], partial[thread + half])
        cuda.syncthreads()  # this level of the tree is written before the next level reads it
        half //= 2
    m = partial[0]
    cuda.syncthreads()  # every thread has read the row's maximum before the array is reused for sums
    base = m if m != float32(-math.inf) else float32(0)  # where all scores are -inf: no inf - inf

    l = float32(0)
    for s in range(thread, seen, THREADS):
        l += math.exp(score[b, h, t, s] - base)
    partial[thread] = l
    cuda.syncthreads()  # all 128 partial sums are written before a thread reads its partner's
    half = THREADS // 2
    while half > 0:
        if thread < half:
            partial[thread] += partial[thread + half]
        cuda.syncthreads()  # this level of the tree is written before the next level reads it
        half //= 2
    l = partial[0]
    divisor = l if l != 0 else float32(1)  # of a row without weight; its p are 0

    for s in range(thread, seen, THREADS):
        p[b, h, t, s] = math.exp(score[b, h, t, s] - base) / divisor
    if thread == 0:
        if l == 0:  # the row sees no key, or none with a score above -inf
            lse[b, h, t] = float32(-math.inf)
        else:
            lse[b, h, t] = m + math.log(l)


@kernel
def values_kernel(p, v, causal, o):
    """Write ``o[b, h, t] = sum over s of p[b, h, t, s] * v[b, g, s]``.

    A thread owns a column d (and every 128th after it); a block owns the row (t, h, b). No shared memory.
    """
    t, h, b = cuda.blockIdx.x, cuda.blockIdx.y, cuda.blockIdx.z
    T, S, D = p.shape[2], v.shape[2], v.shape[3]
    g = h // (p.shape[1] // v.shape[1])
    seen = S
    if causal:
        seen = min(S, t + 1 + S - T)
    for d in range(cuda.threadIdx.x, D, cuda.blockDim.x):
        acc = float32(0)
        for s in range(seen):
            acc += p[b, h, t, s] * float32(v[b, g, s, d])
        o[b, h, t, d] = acc


def launch_v1_three_pass(q, k, v, causal, scale):
    """Return o and lse; scores and probabilities, 4*B*H*T*S bytes each, pass through HBM between three kernels."""
    (B, H, T, D), S = q.shape, k.shape[2]
    check_grid(H, B)
    o, lse = new(q, q.shape, q.dtype), new(q, (B, H, T), np.float32)
    score, p = scratch(q, (B, H, T, S)), scratch(q, (B, H, T, S))
    rows = (T, H, B)
    scores_kernel[rows, THREADS](q, k, np.float32(scale), causal, score)
    softmax_kernel[rows, THREADS](score, causal, p, lse)
    values_kernel[rows, min(THREADS, 32 * math.ceil(D / 32))](p, v, causal, o)
    return o, lse
