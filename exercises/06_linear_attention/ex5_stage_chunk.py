"""Exercise 06.5: a chunk in shared memory.

In 06.4 all lanes of a warp read the same element of q, and of k, at a time: D requests a token for 4 bytes each. Here
the block first copies CHUNK tokens of q and k to shared memory, neighbouring threads neighbouring elements, and then
walks over them.

Budget: q and k are read once by the whole block, in full sectors; 2 barriers a chunk.
Check it with ``minikernels check 06.5``.
"""

from minikernels.launch import cuda, float32, kernel

D = 32  # head width; the grader tries other sizes too
CHUNK = 8  # tokens


@kernel
def stage_chunk(q, k, v, decay, o):
    """Write linear attention of q, k and v (H, T, D) with decay (H,), all float32, to o (H, T, D).

    A thread owns column j of the state, of v and of o. A block owns head h and has D threads. Shared memory:
    2*CHUNK*D*4 bytes.
    """
    q_smem = cuda.shared.array((CHUNK, D), float32)
    k_smem = cuda.shared.array((CHUNK, D), float32)
    column = cuda.local.array(D, float32)
    j, h = cuda.threadIdx.x, cuda.blockIdx.x
    T = q.shape[1]
    left = decay[h]
    for i in range(D):
        column[i] = float32(0)
    for first in range(0, T, CHUNK):
        rows = min(CHUNK, T - first)  # the last chunk may hold fewer
        # Copy the chunk's rows of q and k with all threads; walk over its tokens as in 06.4, from shared memory.
        # Your lines start here.
        # Your lines end here.
