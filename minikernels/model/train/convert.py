"""Fewer key/value heads: turn an attention checkpoint with G heads into one with fewer, group by group [1]_.

References
----------
.. [1] Ainslie et al., GQA, arXiv:2305.13245.
"""

import numpy as np

from minikernels.core.errors import ShapeError

__all__ = ["METHODS", "pool"]

METHODS = ("mean", "first", "random")


def pool(config, weights, G, method="mean", seed=0):
    """Return the configuration and weights of a model with G key/value heads.

    Parameters
    ----------
    config, weights : Config, dict of ndarray
        The model to convert; its own G must be a multiple of the new one.
    G : int
        Key/value heads to keep.
    method : {"mean", "first", "random"}
        Average each group's heads, keep its first, or start the projections anew.
    seed : int
        Of the random start.

    Returns
    -------
    Config, dict of ndarray, float32
        The converted model; every weight but the key and value projections is unchanged.
    """
    if G < 1 or config.G % G:
        raise ShapeError(f"G={G} must divide the {config.G} key/value heads of the model")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; it is one of {', '.join(METHODS)}")
    rng = np.random.default_rng(seed)
    converted = {name: np.asarray(weight, np.float32) for name, weight in weights.items()}
    for name, weight in converted.items():
        if name.endswith((".key", ".value")):
            heads = weight.reshape(G, config.G // G, config.D, config.M)
            converted[name] = _pooled(heads, method, rng).reshape(G * config.D, config.M)
    return config.with_groups(G), converted


def _pooled(heads, method, rng):
    """Return (G, D, M) from the (G, group, D, M) heads."""
    if method == "mean":
        return heads.mean(axis=1)
    if method == "first":
        return heads[:, 0]
    return rng.normal(0, heads.shape[-1] ** -0.5, heads[:, 0].shape).astype(np.float32)
