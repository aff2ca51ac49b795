"""v1_recurrent: a thread owns a column of the state, in registers, and takes one token after another."""

import math
from functools import cache

import numpy as np

from minikernels.core.limits import check_grid
from minikernels.launch import cuda, float32, kernel
from minikernels.linear_attention.outputs import check_width, columns, new, optional

WIDEST = 1024  # threads of a block, and so columns of a head


@cache
def v1_recurrent(D, GATED, BEGUN, KEPT):
    """Return the kernel for one head width, with or without gates, an initial state, and a last state to keep."""

    @kernel
    def v1_recurrent(q, k, v, decay, gate, scale, initial_state, o, state):
        """Walk over the tokens of one head, the state on the chip.

        A thread owns column j of the state, of v and of o. A block owns head h of sequence b. No shared memory: all
        threads of a warp read the same element of q, k and the gates at a time.
        """
        s_reg = cuda.local.array(D, float32)
        j = cuda.threadIdx.x
        h, b = cuda.blockIdx.x, cuda.blockIdx.y
        if j < D:
            lam = float32(decay[h])
            for i in range(D):
                s_reg[i] = float32(0)
                if BEGUN:
                    s_reg[i] = initial_state[b, h, i, j]
            for t in range(q.shape[2]):
                v_element = float32(v[b, h, t, j])
                acc = float32(0)
                for i in range(D):
                    a = lam
                    if GATED:
                        a = lam * math.exp(float32(gate[b, h, t, i]))
                    s_reg[i] = a * s_reg[i] + float32(k[b, h, t, i]) * v_element
                    acc += float32(q[b, h, t, i]) * s_reg[i]
                o[b, h, t, j] = acc * scale
            if KEPT:
                for i in range(D):
                    state[b, h, i, j] = s_reg[i]

    return v1_recurrent


def launch_v1_recurrent(q, k, v, decay, gate, scale, initial_state, return_state):
    """Return o and, if `return_state`, the last state."""
    B, H, _, D = q.shape
    check_grid(B=B)
    check_width(D, WIDEST, "v1_recurrent")
    o, state = new(q, q.shape, q.dtype), new(q, (B, H, D, D), np.float32) if return_state else None
    run = v1_recurrent(D, gate is not None, initial_state is not None, return_state)
    run[(H, B), columns(D)](q, k, v, decay, optional(gate, q), np.float32(scale), optional(initial_state, q), o,
                            optional(state, q))
    return o, state
