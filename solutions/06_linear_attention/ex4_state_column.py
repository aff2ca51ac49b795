"""Exercise 06.4: the state in registers.

A block owns a head, and each of its D threads one column of the state, which no other thread ever needs: it stays in
the thread's registers from the first token to the last. HBM never sees it, and nobody waits at a barrier.

Budget: v is read once and o is written once; q and k are read once a warp, an element a request; no barrier, no shared
memory.
Check it with ``minikernels check 06.4``.
"""

from minikernels.launch import cuda, float32, kernel

D = 32  # head width; the grader tries other sizes too


@kernel
def state_column(q, k, v, decay, o):
    """Write linear attention of q, k and v (H, T, D) with decay (H,), all float32, to o (H, T, D).

    A thread owns column j of the state, of v and of o. A block owns head h and has D threads.
    """
    column = cuda.local.array(D, float32)  # S[:, j]
    j, h = cuda.threadIdx.x, cuda.blockIdx.x
    T = q.shape[1]
    left = decay[h]  # what one token leaves of the state
    for i in range(D):
        column[i] = float32(0)
    for t in range(T):
        value = v[h, t, j]
        acc = float32(0)
        # Move the column on by token t, and sum q[h, t] . column up in acc.
        # Your lines start here.
        for i in range(D):
            column[i] = left * column[i] + k[h, t, i] * value
            acc += q[h, t, i] * column[i]
        # Your lines end here.
        o[h, t, j] = acc
