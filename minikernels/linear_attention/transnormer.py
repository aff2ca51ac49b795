"""TransNormer: normalise the output of linear attention in place of its weights; and what TransNormerLLM adds.

A weight ``p_j = s_j / sum s`` has gradients that grow as 1 / s where scores are small, which softmax does not have and
training does not survive. `NormAttention`, here `normalised`, drops the denominator and normalises what comes out:
gradients are bounded whatever the scores are ([1]_, section 3.1 and appendix). All functions are NumPy's.

References
----------
.. [1] Qin et al., The Devil in Linear Transformer, arXiv:2210.10340.
.. [2] Qin et al., TransNormerLLM, arXiv:2307.14995.
"""

import numpy as np

from minikernels.core.numerics import softmax
from minikernels.core.shapes import bind
from minikernels.linear_attention.api import attention

EPSILON = 1e-6  # under the root of a mean square


def feature(x):
    """Return ``elu(x) + 1``, the feature map of most linear attention with a denominator: positive everywhere."""
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def divided(q, k, v, decay=None):
    """Return linear attention with the 1/sum denominator: ``phi(q) S / (phi(q) . sum phi(k))``, (B, H, T, D)."""
    q, k = feature(q), feature(k)
    return attention(q, k, v, decay=decay) / attention(q, k, np.ones_like(v), decay=decay)


def normalised(q, k, v, decay=None):
    """Return TransNormer's linear attention: ``RMSNorm(phi(q) S)``, (B, H, T, D), with no denominator."""
    return srms_norm(attention(feature(q), feature(k), v, decay=decay))


def srms_norm(x):
    """Return SimpleRMSNorm, ``x / rms(x)`` over the last axis, with no learned factor ([2]_)."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPSILON)


def diagonal_blocks(q, k, v, block):
    """Return causal softmax attention inside diagonal blocks of tokens: what TransNormer's early layers do.

    Linear attention spreads its weight over a long text, where early layers want their neighbours ([1]_, section 3.2).
    A block costs as much wherever it stands, so this is linear in T as well.

    Parameters
    ----------
    q, k, v : ndarray of shape (B, H, T, D)
    block : int
        Tokens of a block; the last may hold fewer.
    """
    D = bind(q=(q, "BHTD"), k=(k, "BHTD"), v=(v, "BHTD"))["D"]
    o = np.empty_like(q)
    for first in range(0, q.shape[2], block):
        here = np.s_[:, :, first : first + block]
        score = q[here] @ k[here].swapaxes(-1, -2) / np.sqrt(D)
        seen = np.tril(np.ones(score.shape[-2:], bool))
        o[here] = softmax(np.where(seen, score, -np.inf).astype(q.dtype))[0] @ v[here]
    return o


def weight_gradients(scores):
    """Return the largest gradient of a row's weights by its scores, for softmax and for ``s / sum s``.

    Parameters
    ----------
    scores : ndarray of shape (..., S), positive

    Returns
    -------
    by_softmax, by_division : ndarray of shape (...)
        ``max |p_j (1[j=k] - p_k)|``, at most 1/4; and ``max |p_j (1[j=k] - p_k) / s_k|``, which has no bound ([1]_,
        section 3.1).
    """
    def spread(p):
        return np.abs(p[..., :, None] * (np.eye(p.shape[-1]) - p[..., None, :]))  # [j, k]

    by_softmax = spread(softmax(scores)[0])
    by_division = spread(scores / scores.sum(axis=-1, keepdims=True)) / scores[..., None, :]
    return by_softmax.max(axis=(-1, -2)), by_division.max(axis=(-1, -2))


def output_gradients(scores, v):
    """Return the largest gradient of a row's output by its scores, for division and for normalising.

    Parameters
    ----------
    scores : ndarray of shape (S,), positive
    v : ndarray of shape (S, D)

    Returns
    -------
    by_division, by_norm : float
        Of ``(s / sum s) v``; and of ``srms_norm(s v)``, at most about ``2 max |v| sqrt(D / EPSILON)``, and far less as
        soon as the output is larger than EPSILON's root.
    """
    total, o = scores.sum(), scores @ v
    by_division = np.abs(v - o / total).max() / total
    size = np.sqrt(np.mean(o * o) + EPSILON)
    by_norm = np.abs(v / size - np.outer(v @ o, o) / (len(o) * size**3)).max()
    return float(by_division), float(by_norm)


def rotate(x, theta):
    """Return x with a rotary phase: pairs of channels turned by ``theta t``; q . k then has ``e^(i theta (t - s))``.

    Parameters
    ----------
    x : ndarray of shape (B, H, T, D)
        D is even; channel i and channel i + D / 2 are a pair.
    theta : ndarray of shape (D / 2,)
        Radians a token. TransNormerLLM has it in its first layer: ``a_ts = q_t k_s lambda^(t-s) e^(i theta (t-s))``.
    """
    angle = np.arange(x.shape[2])[:, None] * theta
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


def gated(q, k, v, u, decay, theta=None):
    """Return TransNormerLLM's gated linear attention, ``srms_norm(attention) * u``, (B, H, T, D) ([2]_)."""
    if theta is not None:
        q, k = rotate(q, theta), rotate(k, theta)
    return srms_norm(attention(q, k, v, decay=decay)) * u


def sglu(x, to_value, to_gate, out):
    """Return a simple gated linear unit, ``((x W_v) * (x W_u)) W_o``: no activation function ([2]_)."""
    return ((x @ to_value) * (x @ to_gate)) @ out
