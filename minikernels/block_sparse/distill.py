"""Train SeerAttention's gate: its map of block scores is to look like true attention, pooled to blocks.

The teacher is attention itself, computed in full on a few texts and kept as one number a block: the largest
probability in it. The student's softmax is pulled towards it by the Kullback-Leibler divergence, in plain NumPy.
"""

from typing import NamedTuple

import numpy as np

from minikernels.block_sparse.gate import Gate, features, logits_of
from minikernels.block_sparse.lists import reach, visible
from minikernels.core.numerics import softmax

__all__ = ["Sample", "block_mass", "loss", "probabilities", "recall", "target", "train"]

BETAS, EPSILON = (0.9, 0.99), 1e-8  # Adam's


class Sample(NamedTuple):
    """One text as the gate sees it: pooled queries and keys, the teacher's map, and which blocks count.

    Attributes
    ----------
    queries, keys : ndarray of shape (B, H, blocks, 3*D)
    target : ndarray of shape (B, H, ceil(T/R), ceil(S/C))
        Rows add up to 1.
    seen : ndarray of shape (ceil(T/R), ceil(S/C)), bool
    """

    queries: np.ndarray
    keys: np.ndarray
    target: np.ndarray
    seen: np.ndarray

    @classmethod
    def of(cls, q, k, block, causal=True, pool="mass"):
        """Return the sample of one layer's q (B, H, T, D) and k (B, G, S, D)."""
        keys = np.repeat(features(k, block[1]), q.shape[1] // k.shape[1], axis=1)
        seen, _ = reach(q, q.shape[2], k.shape[2], block, causal)
        wanted = target(probabilities(q, k, causal), block, pool)
        return cls(features(q, block[0]), keys, wanted, seen)


def probabilities(q, k, causal):
    """Return attention's probabilities (B, H, T, S), with scale ``D ** -0.5``."""
    T, S, D = q.shape[2], k.shape[2], q.shape[3]
    score = q @ np.repeat(k, q.shape[1] // k.shape[1], axis=1).swapaxes(-1, -2) * q.dtype.type(D**-0.5)
    seen = visible(np.ones((1, 1, 1, 1), bool), T, S, (T, S), causal)  # all cells, or those below the diagonal
    return softmax(np.where(seen, score, -np.inf))[0]


def target(p, block, pool="mass"):
    """Return attention as one number a block, rows scaled to add up to 1 (0 where a row sees nothing).

    Parameters
    ----------
    p : ndarray of shape (B, H, T, S)
        Attention's probabilities.
    block : (int, int)
    pool : {"mass", "max"}
        The block's sum, which is what recall asks for; or its largest probability, as in [1]_, which a block with one
        key that matters to one query has too.

    References
    ----------
    .. [1] Gao et al., SeerAttention, arXiv:2410.13276.
    """
    if pool not in ("mass", "max"):
        raise ValueError(f"pool is {pool!r}; it is 'mass' or 'max'")
    pooled = over_blocks(np.add if pool == "mass" else np.maximum, p, block)
    total = pooled.sum(axis=-1, keepdims=True)
    return pooled / np.where(total == 0, 1, total)


def block_mass(p, block):
    """Return the sum of the probabilities in each block."""
    return over_blocks(np.add, p, block)


def over_blocks(pick, p, block):
    """Reduce (B, H, T, S) to one number a block; a ragged edge is a smaller block."""
    (R, C), (T, S) = block, p.shape[2:]
    return pick.reduceat(pick.reduceat(p, np.arange(0, T, R), axis=2), np.arange(0, S, C), axis=3)


def recall(p, mask, block):
    """Return the share of attention that lies in the blocks of a mask, a mean over rows that see something.

    Parameters
    ----------
    p : ndarray of shape (B, H, T, S)
        Attention's probabilities.
    mask : ndarray of shape (B, H, ceil(T/R), ceil(S/C)), bool
    block : (int, int)

    Returns
    -------
    float
        1 where nothing is lost.
    """
    return float(np.sum(block_mass(p, block) * mask) / max(1, np.count_nonzero(p.sum(axis=-1))))


def loss(gate, sample):
    """Return the divergence of the gate's map from the teacher's, a mean over rows, and its gradient as a `Gate`.

    Notes
    -----
    ``KL(t || p) = sum t (ln t - ln p)`` with ``p = softmax(z)``: the gradient by z is p - t.
    """
    wanted, scale = sample.target, gate.query.shape[-1] ** -0.5
    p, lse = softmax(np.where(sample.seen, logits_of(sample.queries, sample.keys, gate), -np.inf))
    rows = wanted[..., 0].size
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 ln 0 is 0
        divergence = np.sum(np.where(wanted > 0, wanted * np.log(wanted / p), 0)) / rows
    error = (p - wanted) * (scale / rows)
    to_keys, to_queries = error @ (sample.keys @ gate.key), error.swapaxes(-1, -2) @ (sample.queries @ gate.query)
    slopes = sample.queries.swapaxes(-1, -2) @ to_keys, sample.keys.swapaxes(-1, -2) @ to_queries
    return float(divergence), Gate(*(slope.sum(axis=0) for slope in slopes))


def train(samples, gate, steps=200, rate=0.01):
    """Return the gate trained on all samples at once, and the mean loss before each step.

    Parameters
    ----------
    samples : list of Sample
    gate : Gate
        Where to start, such as `gate.untrained`; it is not changed.
    steps : int
        Of Adam, whose rate falls linearly to 0. Nothing is drawn at random: a second run gives the same numbers.
    rate : float

    Returns
    -------
    gate : Gate
    losses : list of float
    """
    weights = [w.astype(np.float32) for w in gate]
    means, squares = ([np.zeros_like(w) for w in weights] for _ in range(2))
    losses = []
    for step in range(1, steps + 1):
        found = [loss(Gate(*weights), sample) for sample in samples]
        losses.append(float(np.mean([value for value, _ in found])))
        for n, w in enumerate(weights):
            slope = np.mean([slopes[n] for _, slopes in found], axis=0)
            means[n] = BETAS[0] * means[n] + (1 - BETAS[0]) * slope
            squares[n] = BETAS[1] * squares[n] + (1 - BETAS[1]) * slope**2
            mean, square = means[n] / (1 - BETAS[0] ** step), squares[n] / (1 - BETAS[1] ** step)
            weights[n] = (w - rate * (1 - step / steps) * mean / (np.sqrt(square) + EPSILON)).astype(np.float32)
    return Gate(*weights), losses
