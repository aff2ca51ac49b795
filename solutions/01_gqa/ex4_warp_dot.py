"""Exercise 01.4: a dot product by a whole warp.

One thread a key makes a warp read 32 rows of K at once, each of them D elements from the next: 32 sectors a request, of
which 4 bytes each are used. Here a warp takes one key at a time and its lanes take neighbouring columns, so that a
request is 128 bytes in a row. Every lane then holds a part of the sum; lanes can read each other's registers
(``cuda.shfl_xor_sync``) without shared memory and without a barrier.

Budget: k is read once, in full sectors, with ceil(D / 32) requests a key; no barrier.
Check it with ``minikernels check 01.4``.
"""

from minikernels.launch import cuda, float32, kernel

D = 64  # head width; the grader tries other sizes too
WARPS = 4  # of a block
ALL = 0xFFFFFFFF  # every lane of the warp takes part in a shuffle


@kernel
def warp_scores(q, k, s):
    """Write the scores s (S,) of q (D,) against k (S, D), all float32.

    A warp owns every key whose number is its own plus a multiple of the warps there are. No shared memory.
    """
    lane, warp = cuda.threadIdx.x % 32, cuda.blockIdx.x * WARPS + cuda.threadIdx.x // 32
    S = k.shape[0]
    for key in range(warp, S, cuda.gridDim.x * WARPS):
        dot = float32(0)
        # Let every lane take its columns, then add up what the 32 lanes hold.
        # Your lines start here.
        for d in range(lane, D, 32):
            dot += q[d] * k[key, d]
        step = 16
        while step > 0:  # every lane adds the sum of the lane whose number differs in one bit
            dot += cuda.shfl_xor_sync(ALL, dot, step)
            step //= 2
        # Your lines end here.
        if lane == 0:
            s[key] = dot
