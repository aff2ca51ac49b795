"""The gradients of linear attention in NumPy, float64 inside: the oracle of the backward rungs."""

import numpy as np

from minikernels.core.numerics import accumulator
from minikernels.core.oracle import check
from minikernels.linear_attention.reference import begun, kept, largest

NAMES = ("dq", "dk", "dv", "dgate", "dinitial_state")
LETTERS = ("BHTD", "BHTD", "BHTD", "BHTD", "BHDD")


def attention_backward(q, k, v, do, decay, gate, scale, initial_state=None, dstate=None):
    """Return dq, dk, dv, dgate and dinitial_state in float64, given the gradients by o and by the last state.

    Parameters
    ----------
    q, k, v, decay, gate, scale, initial_state
        As in `reference.attention`.
    do : ndarray of shape (B, H, T, D)
        Gradient of a loss by o.
    dstate : ndarray of shape (B, H, D, D) or None
        Gradient of the loss by the last state; zeros by default.

    Notes
    -----
    With ``a_t = decay e^g_t`` and dS running backwards from `dstate`: ``dS_t = a_(t+1) dS_(t+1) + scale q_t do_t^T``,
    ``dq_t = scale S_t do_t``, ``dk_t = dS_t v_t``, ``dv_t = dS_t^T k_t``. For the gates no state is kept:
    ``dg_t = dg_(t+1) + q_t dq_t - k_t dk_t``, which starts from the row sums of ``S_T dS_T`` ([1]_, section 4.4).

    References
    ----------
    .. [1] Yang et al., Gated Linear Attention, arXiv:2312.06635.
    """
    q, k, v, do = (x.astype(np.float64) for x in (q, k, v, do))
    return backward(q, k, v, do, decay, gate, scale, initial_state, dstate)


def backward(q, k, v, do, decay, gate, scale, initial_state, dstate):
    """Return the five gradients token by token, in q's precision."""
    a, state, grad, scale = kept(q, decay, gate), begun(q, initial_state), begun(q, dstate), q.dtype.type(scale)
    dq, dk, dv, dgate = (np.empty_like(q) for _ in range(4))
    for t in range(q.shape[2]):
        state = a[:, :, t, :, None] * state + k[:, :, t, :, None] * v[:, :, t, None, :]
        dq[:, :, t] = scale * (state @ do[:, :, t, :, None])[..., 0]
    below = np.sum(state * grad, axis=-1)
    for t in reversed(range(q.shape[2])):
        grad = grad + scale * q[:, :, t, :, None] * do[:, :, t, None, :]
        dk[:, :, t] = (grad @ v[:, :, t, :, None])[..., 0]
        dv[:, :, t] = (k[:, :, t, None, :] @ grad)[:, :, 0]
        below = below + q[:, :, t] * dq[:, :, t] - k[:, :, t] * dk[:, :, t]
        dgate[:, :, t] = below
        grad = a[:, :, t, :, None] * grad
    return dq, dk, dv, dgate, grad


def plain_backward(q, k, v, do, decay, gate, scale, initial_state=None, dstate=None):
    """Return the gradients as plain NumPy computes them in the inputs' own precision; the budget's measure."""
    wide = accumulator(q.dtype)
    *grads, dinitial = backward(*(x.astype(wide) for x in (q, k, v, do)), decay, gate, scale, initial_state, dstate)
    dtypes = (q.dtype, q.dtype, q.dtype, q.dtype if gate is None else gate.dtype)
    return (*(x.astype(dtype) for x, dtype in zip(grads, dtypes, strict=True)), dinitial)


def judge_backward(grads, q, k, v, do, decay, gate, scale, initial_state=None, dstate=None):
    """Return the oracle's verdicts on the gradients by name; those that are None are passed over."""
    inputs = q, k, v, do, decay, gate, scale, initial_state, dstate
    exact, rough, sizes = attention_backward(*inputs), plain_backward(*inputs), terms(*inputs)
    rows = zip(NAMES, LETTERS, grads, exact, rough, sizes, strict=True)
    return {name: check(x, e, r, name=name, letters=letters, magnitude=size, rounded=largest(e))
            for name, letters, x, e, r, size in rows if x is not None}


def terms(q, k, v, do, decay, gate, scale, initial_state, dstate):
    """Return the largest sum of absolute terms of each gradient; the rounding band's measure."""
    wide = accumulator(q.dtype)
    states = (None if x is None else np.abs(x) for x in (initial_state, dstate))
    q, k, v, do = (np.abs(x).astype(wide) for x in (q, k, v, do))
    dq, dk, dv, _, dinitial = backward(q, k, v, do, decay, gate, abs(scale), *states)
    running = np.sum(q * dq + k * dk, axis=2)  # what dgate's running sum is made of
    return [largest(x) for x in (dq, dk, dv, running, dinitial)]
