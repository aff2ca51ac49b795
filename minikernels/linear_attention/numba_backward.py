"""The backward pass of linear attention token by token, in three kernels, none of which needs an atomic.

With ``a_t = decay e^gate_t`` and dS running backwards: ``dq_t = scale S_t do_t``, ``dk_t = dS_t v_t``,
``dv_t = dS_t^T k_t``. The first two sum over a row of a state, the last over a column: a thread owns the row, or the
column, and no two threads add to one number. dS is computed twice.
"""

import math
from functools import cache

import numpy as np

from minikernels.core.limits import check_grid
from minikernels.launch import cuda, float32, kernel
from minikernels.linear_attention.numba_recurrent import WIDEST
from minikernels.linear_attention.outputs import check_width, columns, new, optional


@cache
def queries_kernel(D, GATED, BEGUN, ENDED):
    """Return the kernel that writes dq, for one head width, with or without gates, initial state and dstate."""

    @kernel
    def queries_kernel(k, v, do, decay, gate, scale, initial_state, dstate, dq, last):
        """Walk forwards over the tokens of one head with the state.

        A thread owns row i of the state and element i of dq; a block owns head h of sequence b. `last` gets the sum of
        S * dS over the row after the last token, where the gates' gradient starts. No shared memory.
        """
        s_reg = cuda.local.array(D, float32)
        i = cuda.threadIdx.x
        h, b = cuda.blockIdx.x, cuda.blockIdx.y
        if i < D:
            lam = float32(decay[h])
            for j in range(D):
                s_reg[j] = float32(0)
                if BEGUN:
                    s_reg[j] = initial_state[b, h, i, j]
            for t in range(k.shape[2]):
                a = lam
                if GATED:
                    a = lam * math.exp(float32(gate[b, h, t, i]))
                k_element = float32(k[b, h, t, i])
                acc = float32(0)
                for j in range(D):
                    s_reg[j] = a * s_reg[j] + k_element * float32(v[b, h, t, j])
                    acc += s_reg[j] * float32(do[b, h, t, j])
                dq[b, h, t, i] = acc * scale
            total = float32(0)
            if ENDED:
                for j in range(D):
                    total += s_reg[j] * dstate[b, h, i, j]
            last[b, h, i] = total

    return queries_kernel


@cache
def keys_kernel(D, GATED, ENDED):
    """Return the kernel that writes dk and dgate, for one head width, with or without gates and dstate."""

    @kernel
    def keys_kernel(q, k, v, do, decay, gate, scale, dstate, dq, last, dk, dgate):
        """Walk backwards over the tokens of one head with the state's gradient.

        A thread owns row i of dS and element i of dk and dgate; a block owns head h of sequence b. No shared memory.
        Differs from queries_kernel: from the last token to the first, and dS takes the place of S.
        """
        ds_reg = cuda.local.array(D, float32)
        i = cuda.threadIdx.x
        h, b = cuda.blockIdx.x, cuda.blockIdx.y
        T = k.shape[2]
        if i < D:
            lam = float32(decay[h])
            for j in range(D):
                ds_reg[j] = float32(0)
                if ENDED:
                    ds_reg[j] = dstate[b, h, i, j]
            below = float32(0)  # the sum over later tokens of q dq - k dk
            if GATED:
                below = last[b, h, i]
            for n in range(T):
                t = T - 1 - n
                a = lam
                if GATED:
                    a = lam * math.exp(float32(gate[b, h, t, i]))
                q_element = float32(q[b, h, t, i])
                acc = float32(0)
                for j in range(D):
                    grad = ds_reg[j] + q_element * scale * float32(do[b, h, t, j])
                    acc += grad * float32(v[b, h, t, j])
                    ds_reg[j] = a * grad
                dk[b, h, t, i] = acc
                if GATED:
                    below += q_element * dq[b, h, t, i] - float32(k[b, h, t, i]) * acc
                    dgate[b, h, t, i] = below

    return keys_kernel


@cache
def values_kernel(D, GATED, ENDED):
    """Return the kernel that writes dv and the initial state's gradient, with or without gates and dstate."""

    @kernel
    def values_kernel(q, k, do, decay, gate, scale, dstate, dv, dinitial_state):
        """Walk backwards over the tokens of one head with the state's gradient.

        A thread owns column j of dS and element j of dv; a block owns head h of sequence b. No shared memory.
        Differs from keys_kernel: columns of dS in place of rows. It is the forward pass with q and k exchanged, do in
        the place of v, and time reversed.
        """
        ds_reg = cuda.local.array(D, float32)
        j = cuda.threadIdx.x
        h, b = cuda.blockIdx.x, cuda.blockIdx.y
        T = k.shape[2]
        if j < D:
            lam = float32(decay[h])
            for i in range(D):
                ds_reg[i] = float32(0)
                if ENDED:
                    ds_reg[i] = dstate[b, h, i, j]
            for n in range(T):
                t = T - 1 - n
                do_element = float32(do[b, h, t, j]) * scale
                acc = float32(0)
                for i in range(D):
                    a = lam
                    if GATED:
                        a = lam * math.exp(float32(gate[b, h, t, i]))
                    grad = ds_reg[i] + float32(q[b, h, t, i]) * do_element
                    acc += float32(k[b, h, t, i]) * grad
                    ds_reg[i] = a * grad
                dv[b, h, t, j] = acc
            for i in range(D):
                dinitial_state[b, h, i, j] = ds_reg[i]

    return values_kernel


def launch_backward_v1_recurrent(q, k, v, do, decay, gate, scale, initial_state, dstate):
    """Return dq (float32, since the gates' gradient is a sum of it), dk, dv, dgate or None, and dinitial_state."""
    B, H, _, D = q.shape
    check_grid(B=B)
    check_width(D, WIDEST, "v1_recurrent")
    scale, gated, ended = np.float32(scale), gate is not None, dstate is not None
    dq, dk, dv = new(q, q.shape, np.float32), new(q, q.shape, q.dtype), new(q, q.shape, q.dtype)
    dgate = new(q, q.shape, np.float32) if gated else None
    last, dinitial = new(q, (B, H, D), np.float32), new(q, (B, H, D, D), np.float32)
    gates, start, end = (optional(x, q) for x in (gate, initial_state, dstate))
    grid, threads = (H, B), columns(D)
    forwards = queries_kernel(D, gated, initial_state is not None, ended)
    forwards[grid, threads](k, v, do, decay, gates, scale, start, end, dq, last)
    keys_kernel(D, gated, ended)[grid, threads](q, k, v, do, decay, gates, scale, end, dq, last, dk, optional(dgate, q))
    values_kernel(D, gated, ended)[grid, threads](q, k, do, decay, gates, scale, end, dv, dinitial)
    return dq, dk, dv, dgate, dinitial
