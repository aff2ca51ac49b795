"""The layers of a decoder in NumPy: norm, rotary positions, attention, feed-forward, convolution, scan.

Every function takes and returns float32 (or whatever its arrays are) and holds no weights of its own.
"""

import numpy as np

__all__ = ["attend", "convolve", "rms_norm", "rotate", "scan", "sigmoid", "silu", "softplus", "swiglu"]

BLOCK_T = 256  # query rows whose scores are held at once


def rms_norm(x, weight, epsilon):
    """Return x over its root mean square along the last axis, times `weight`."""
    square = np.einsum("...i,...i->...", x, x)[..., None] / x.dtype.type(x.shape[-1])
    return x / np.sqrt(square + x.dtype.type(epsilon)) * weight


def sigmoid(x):
    """Return 1 / (1 + exp(-x)) without overflow."""
    return (np.tanh(x * x.dtype.type(0.5)) + x.dtype.type(1)) * x.dtype.type(0.5)


def silu(x):
    """Return x * sigmoid(x)."""
    return x * sigmoid(x)


def softplus(x):
    """Return log(1 + exp(x)) without overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def swiglu(x, gate, up, down):
    """Return the gated feed-forward of x (..., M); gate and up are (F, M), down is (M, F)."""
    return (silu(x @ gate.T) * (x @ up.T)) @ down.T


def rotate(x, position, base):
    """Turn the channel pairs (i, i + D/2) of x (B, H, T, D), whose first row stands at `position`."""
    T, D = x.shape[-2:]
    frequency = base ** (-np.arange(0, D, 2) / D)
    angle = (position + np.arange(T))[:, None] * frequency  # float64: a float32 angle of 2,000 is only good to 1e-4
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
    first, second = x[..., : D // 2], x[..., D // 2 :]
    return np.concatenate((first * cos - second * sin, second * cos + first * sin), axis=-1)


def attend(q, k, v):
    """Return causal attention of q (B, H, T, D) over k, v (B, G, S, D); the last query sees every key.

    A block of rows at a time, so that the scores never take more than BLOCK_T * S numbers a head.
    """
    B, H, T, D = q.shape
    G, S = k.shape[1:3]
    grouped = (q * q.dtype.type(D**-0.5)).reshape(B, G, H // G, T, D)
    k, v = k[:, :, None].swapaxes(-1, -2), v[:, :, None]
    o = np.empty_like(grouped)
    for start in range(0, T, BLOCK_T):
        stop = min(start + BLOCK_T, T)
        seen = S - T + stop  # keys that the block's last row sees
        s = grouped[..., start:stop, :] @ k[..., :seen]
        # Only the block's own triangle, its last columns, holds pairs that causality hides.
        np.copyto(s[..., seen - (stop - start) :], -np.inf, where=~np.tri(stop - start, dtype=bool))
        s -= s.max(axis=-1, keepdims=True)
        np.exp(s, out=s)
        o[..., start:stop, :] = s @ v[..., :seen, :] / s.sum(axis=-1, keepdims=True)
    return o.reshape(B, H, T, D)


def convolve(u, tail, taps, bias):
    """Return the causal convolution of u (B, T, E) along T, and the last K - 1 inputs.

    Parameters
    ----------
    u : ndarray of shape (B, T, E)
        Inputs.
    tail : ndarray of shape (B, K - 1, E)
        The inputs before them.
    taps, bias : ndarray of shape (E, K), (E,)
        One filter a channel; the last tap meets the newest input.
    """
    K, T = taps.shape[1], u.shape[1]
    padded = np.concatenate((tail, u), axis=1)
    return sum(padded[:, i : i + T] * taps[:, i] for i in range(K)) + bias, padded[:, T:]


def scan(u, delta, a, b, c, d, z, delta_bias, h):
    """Return the gated selective scan (B, T, E) and its last state.

    Parameters
    ----------
    u, delta, z : ndarray of shape (B, T, E)
        Inputs, step sizes before bias and softplus, gates.
    a : ndarray of shape (E, N)
        Rates.
    b, c : ndarray of shape (B, T, N)
        Input and output vectors.
    d, delta_bias : ndarray of shape (E,)
        The input's direct share; the bias of the step sizes.
    h : ndarray of shape (B, E, N)
        The state before the first step.
    """
    step = softplus(delta + delta_bias)
    y = np.empty_like(u)
    for t in range(u.shape[1]):
        decay = np.exp(step[:, t, :, None] * a)
        h = decay * h + (step[:, t] * u[:, t])[:, :, None] * b[:, t, None, :]
        y[:, t] = (h @ c[:, t, :, None])[..., 0]
    return (y + d * u) * silu(z), h
