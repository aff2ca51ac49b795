"""Exercise 05.4: a prefix scan with the least work.

Hillis and Steele's scan composes nearly C log2 C maps. A tree does with fewer than 2 C, in place. On the way up, for
reach = 1, 2, 4, ..: the place 2 * reach * (i + 1) - 1 takes in the place `reach` before it, for every i for which there
is such a place. Then the places at 2^k - 1 hold whole prefixes. On the way down, for reach = .., 2, 1: the place half
way between two such places, `reach` after the first, takes in the place `reach` before it.

Budget: 2 C - 2 - log2 C compositions of 3 FLOP each; a barrier for each of the 2 log2 C - 1 levels, and the one that
stands there; 6 loads of shared memory a level and warp; decay and drive are read once.
Check it with ``minikernels check 05.4``.
"""

from minikernels.launch import cuda, float32, kernel

C = 32  # tokens of a chunk, a power of two, and threads of a block; the grader tries other sizes too


@kernel
def blelloch(decay, drive, h):
    """Write the states h (E, C) after each token of decay and drive (E, C), all float32, from a state of 0.

    A thread owns token t, and the t-th pair of places of each level. A block owns channel e. Shared memory: 2*C*4
    bytes.
    """
    decay_smem = cuda.shared.array(C, float32)
    drive_smem = cuda.shared.array(C, float32)
    t, e = cuda.threadIdx.x, cuda.blockIdx.x
    decay_smem[t] = decay[e, t]
    drive_smem[t] = drive[e, t]
    cuda.syncthreads()  # every map is written before another thread composes it
    reach = 1
    while reach < C:
        # Up: place 2 * reach * (t + 1) - 1 takes in the place `reach` before it.
        # Your lines start here.
        # Your lines end here.
        reach *= 2
    reach = C // 4
    while reach > 0:
        # Down: the places half way between.
        # Your lines start here.
        # Your lines end here.
        reach //= 2
    h[e, t] = drive_smem[t]
