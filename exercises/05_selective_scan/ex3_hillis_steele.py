"""Exercise 05.3: a prefix scan in the fewest steps.

A token is the map h -> decay * h + drive. Doing map 1 and then map 2 is the map (decay2 * decay1, decay2 * drive1 +
drive2), so maps can be composed in any grouping. Hillis and Steele: at step k every map is composed with the one 2^k
places before it, if there is one; after ceil(log2 C) steps, map t stands for all tokens up to t. A thread reads what
another one is about to overwrite: that is what the second side of the shared arrays is for.

Budget: as many compositions of 3 FLOP a thread as there are steps, and one more; a barrier a step, and the one that
stands there; 6 loads of shared memory a step and warp; no bank conflict; decay and drive are read once.
Check it with ``minikernels check 05.3``.
"""

from minikernels.launch import cuda, float32, kernel

C = 32  # tokens of a chunk, and threads of a block; the grader tries other sizes too


@kernel
def hillis_steele(decay, drive, h):
    """Write the states h (E, C) after each token of decay and drive (E, C), all float32, from a state of 0.

    A thread owns token t. A block owns channel e. Shared memory: 4*C*4 bytes.
    """
    decay_smem = cuda.shared.array((2, C), float32)
    drive_smem = cuda.shared.array((2, C), float32)
    t, e = cuda.threadIdx.x, cuda.blockIdx.x
    my_decay = decay[e, t]
    my_drive = drive[e, t]
    decay_smem[0, t] = my_decay
    drive_smem[0, t] = my_drive
    cuda.syncthreads()  # every map is written before another thread composes its own with it
    reach, side = 1, 0
    while reach < C:
        # Compose: read this side, `reach` places before; write the other one.
        # Your lines start here.
        # Your lines end here.
        reach *= 2
        side = 1 - side
    h[e, t] = my_drive
