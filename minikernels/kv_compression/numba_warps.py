"""What the numba kernels of this folder call: a sum over a warp, and the merging of the states of a block's warps."""

import math

from minikernels.kv_compression.outputs import ALL
from minikernels.launch import cuda, device, float32


@device
def warp_sum(x):
    """Return the sum over the warp's 32 lanes, to each of them."""
    x += cuda.shfl_xor_sync(ALL, x, 16)
    x += cuda.shfl_xor_sync(ALL, x, 8)
    x += cuda.shfl_xor_sync(ALL, x, 4)
    x += cuda.shfl_xor_sync(ALL, x, 2)
    return x + cuda.shfl_xor_sync(ALL, x, 1)


@device
def merged(m_smem, l_smem, o_smem, r, d):
    """Return column d of query head r over the keys of all warps: m and l (warps, heads), o (warps, heads, D)."""
    largest = float32(-math.inf)
    for w in range(m_smem.shape[0]):
        largest = max(largest, m_smem[w, r])
    total = float32(0)
    acc = float32(0)
    for w in range(m_smem.shape[0]):
        if l_smem[w, r] != 0:  # a warp without keys holds m = -inf
            share = math.exp(m_smem[w, r] - largest)
            total += share * l_smem[w, r]
            acc += share * o_smem[w, r, d]
    if total != 0:
        acc /= total
    return acc  # 0 in a sequence without keys
