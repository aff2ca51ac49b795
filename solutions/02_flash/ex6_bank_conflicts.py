"""Exercise 02.6: full sectors from HBM, no conflict in shared memory.

A block holds a tile of BLOCK_S = 32 keys, one for each lane of a warp, and its warps take the queries in turn. Two
things are left to you: loading the tile so that a warp's 32 elements lie side by side in HBM (4 sectors a request), and
the width of a row in shared memory. Shared memory has 32 banks of 4 bytes: lanes that read different words of one bank
wait for each other, and with rows of D = 32 floats every ``k_smem[lane, d]`` of a request lies in one bank.

Budget: k is read once, in full sectors; no bank conflict at any D.
Check it with ``minikernels check 02.6``.
"""

from minikernels.launch import cuda, float32, kernel

D = 32  # head width; the grader tries other sizes too
BLOCK_S = 32  # keys of a tile, one a lane
THREADS = 64  # of a block: two warps

WIDTH = D  # floats in a row of shared memory
# Change WIDTH if D alone will not do.
# Your lines start here.
WIDTH = D + 1 - D % 2  # an odd distance between rows puts 32 rows into 32 banks
# Your lines end here.


@kernel
def scores(q, k, s):
    """Write the scores s (T, S) of q (T, D) against k (S, D), all float32.

    A lane owns key column ``first + lane``, a warp every second query, a block BLOCK_S keys. Shared memory:
    BLOCK_S*WIDTH*4 bytes.
    """
    k_smem = cuda.shared.array((BLOCK_S, WIDTH), float32)
    thread = cuda.threadIdx.x
    lane, warp = thread % 32, thread // 32
    T, S = q.shape[0], k.shape[0]
    first = cuda.blockIdx.x * BLOCK_S
    keys = min(BLOCK_S, S - first)  # the last tile may hold fewer
    # Load keys first to first + keys - 1 into k_smem[:, :D].
    # Your lines start here.
    for i in range(thread, keys * D, THREADS):  # neighbouring threads read neighbouring elements
        k_smem[i // D, i % D] = k[first + i // D, i % D]
    cuda.syncthreads()  # the whole tile is written before any thread reads it
    # Your lines end here.
    for t in range(warp, T, THREADS // 32):
        if lane < keys:
            score = float32(0)
            for d in range(D):
                score += q[t, d] * k_smem[lane, d]
            s[t, first + lane] = score
