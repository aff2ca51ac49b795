"""Fewer key/value heads: turn an attention checkpoint with G heads into one with fewer, group by group [1]_.

References
----------
.. [1] Ainslie et al., GQA, arXiv:2305.13245.
"""

import numpy as np

from minikernels.core.errors import ShapeError

__all__ = ["METHODS", "align", "pool"]

METHODS = ("mean", "aligned", "first", "random")
ROUNDS = 30  # of turning each head towards the mean of its group


def pool(config, weights, G, method="mean", seed=0):
    """Return the configuration and weights of a model with G key/value heads.

    Parameters
    ----------
    config, weights : Config, dict of ndarray
        The model to convert; its own G must be a multiple of the new one.
    G : int
        Key/value heads to keep.
    method : {"mean", "aligned", "first", "random"}
        Average each group's heads, average them once they are aligned, keep its first, or start the projections anew.
    seed : int
        Of the random start.

    Returns
    -------
    Config, dict of ndarray, float32
        The converted model; every weight but the key and value projections (and, where heads were aligned, the query
        and output projections) is unchanged.
    """
    if G < 1 or config.G % G:
        raise ShapeError(f"G={G} must divide the {config.G} key/value heads of the model")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; it is one of {', '.join(METHODS)}")
    rng = np.random.default_rng(seed)
    converted = {name: np.asarray(weight, np.float32) for name, weight in weights.items()}
    if method == "aligned":
        converted = align(config, converted, G)
    for name, weight in converted.items():
        if name.endswith((".key", ".value")):
            heads = weight.reshape(G, config.G // G, config.D, config.M)
            converted[name] = _pooled(heads, method, rng).reshape(G * config.D, config.M)
    return config.with_groups(G), converted


def _pooled(heads, method, rng):
    """Return (G, D, M) from the (G, group, D, M) heads."""
    if method == "first":
        return heads[:, 0]
    if method == "random":
        return rng.normal(0, heads.shape[-1] ** -0.5, heads[:, 0].shape).astype(np.float32)
    return heads.mean(axis=1)


def align(config, weights, G):
    """Return the same model in other coordinates, in which the heads of each of G groups are as alike as can be.

    A head's values may be turned by any orthogonal matrix if its columns of the output projection are turned with
    them, and a pair of rotary channels of its keys by any angle if the same pair of its queries is: neither changes
    what the model computes, but both change what a mean over heads means. Each head is turned to fit the mean of its
    group best in the least squares, and the mean taken anew, a few times over (a generalised Procrustes problem).

    Parameters
    ----------
    config, weights : Config, dict of ndarray
        A model with a key/value head for each query head.
    G : int
        Groups.

    Returns
    -------
    dict of ndarray, float32
        All of the weights.
    """
    if config.G != config.H:
        raise ShapeError(f"G={config.G} must be H={config.H}: heads that share keys cannot be turned apart")
    aligned = dict(weights)
    for layer in (i for i, kind in enumerate(config.layers) if kind == "attention"):
        names = [f"layers.{layer}.{name}" for name in ("query", "key", "value", "output")]
        query, key, value, output = (np.array(weights[name], np.float64) for name in names)
        heads = (G, config.H // G, config.D, config.M)
        q, k, v, o = (x.reshape(heads) for x in (query, key, value, output.T))
        for group in range(G):
            q[group], k[group] = _turned_pairs(q[group], k[group])
            o[group], v[group] = _turned(o[group], v[group])
        projections = (q.reshape(query.shape), k.reshape(key.shape), v.reshape(value.shape), o.reshape(query.shape).T)
        aligned |= {name: np.float32(x) for name, x in zip(names, projections, strict=True)}
    return aligned


def _turned_pairs(q, k):
    """Turn channel pairs (i, i + D/2) of heads (group, D, M), seen as complex numbers, towards the mean key."""
    q, k = (x[:, : x.shape[1] // 2] + 1j * x[:, x.shape[1] // 2 :] for x in (q, k))
    target = k[0]
    for _ in range(ROUNDS):
        overlap = np.einsum("dm,hdm->hd", target, k.conj())
        turn = np.exp(1j * np.angle(overlap))[..., None]
        target = (turn * k).mean(axis=0)
    return (np.concatenate(((turn * x).real, (turn * x).imag), axis=1) for x in (q, k))


def _turned(o, v):
    """Turn the channels of heads (group, D, M) towards the mean value, and the output's rows with them."""
    target = v[0]
    for _ in range(ROUNDS):
        left, _, right = np.linalg.svd(target @ v.swapaxes(1, 2))
        turn = left @ right
        target = (turn @ v).mean(axis=0)
    return turn @ o, turn @ v
