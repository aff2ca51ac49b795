"""Reductions over the threads of a block, for the kernels whose scores lie in shared memory."""

from minikernels.launch import cuda, device

THREADS = 128  # of a block
WARPS = THREADS // 32
ALL = 0xFFFFFFFF  # every lane of the warp takes part in a shuffle


@device
def block_max(x, warp_smem):
    """Return the maximum of x over the block's threads, to each of them; holds one barrier."""
    step = 16
    while step > 0:
        x = max(x, cuda.shfl_xor_sync(ALL, x, step))
        step //= 2
    if cuda.threadIdx.x % 32 == 0:
        warp_smem[cuda.threadIdx.x // 32] = x
    cuda.syncthreads()  # every warp's maximum is written before any thread reads it
    for w in range(WARPS):
        x = max(x, warp_smem[w])
    return x


@device
def block_sum(x, warp_smem):
    """Return the sum of x over the block's threads, to each of them; holds one barrier."""
    step = 16
    while step > 0:
        x += cuda.shfl_xor_sync(ALL, x, step)
        step //= 2
    if cuda.threadIdx.x % 32 == 0:
        warp_smem[cuda.threadIdx.x // 32] = x
    cuda.syncthreads()  # every warp's sum, and what the threads wrote before, is written before any thread reads it
    x = warp_smem[0]
    for w in range(1, WARPS):
        x += warp_smem[w]
    return x
