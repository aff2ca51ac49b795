"""What a layer's mixer is given, and what decoding carries from byte to byte."""

from dataclasses import dataclass, fields

import numpy as np

__all__ = ["AttentionInputs", "ScanInputs", "State"]


class _Inputs:
    """What a mixer was given: attributes, and a mapping, so that ``scan(**inputs)`` works."""

    def keys(self):
        """Return the names of the arrays."""
        return [field.name for field in fields(self)]

    def __getitem__(self, name):
        if name not in self.keys():
            raise KeyError(name)
        return getattr(self, name)


@dataclass
class AttentionInputs(_Inputs):
    """What an attention layer hands to attention, rotary positions applied.

    Parameters
    ----------
    q : ndarray of shape (B, H, T, D)
        Queries.
    k, v : ndarray of shape (B, G, S, D)
        Keys and values.
    """

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray


@dataclass
class ScanInputs(_Inputs):
    """What a Mamba layer hands to ``selective_scan.scan(..., delta_softplus=True)``.

    Parameters
    ----------
    u, delta, z : ndarray of shape (B, T, E)
        Inputs after convolution and silu; step sizes before bias and softplus; gates.
    a : ndarray of shape (E, N)
        Rates.
    b, c : ndarray of shape (B, T, N)
        Input and output vectors.
    d, delta_bias : ndarray of shape (E,)
        The input's direct share; the bias of the step sizes.
    """

    u: np.ndarray
    delta: np.ndarray
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    d: np.ndarray
    z: np.ndarray
    delta_bias: np.ndarray


class State:
    """What decoding carries from byte to byte: a KV cache for each attention layer, a state for each Mamba layer.

    Attributes
    ----------
    position : int
        Bytes seen so far.
    caches : list
        A layer's (k, v), each (B, G, position, D), or its (convolution tail (B, K-1, E), h (B, E, N)).
    """

    def __init__(self, config, B=1):
        self.position = 0
        G, D, E, N, K = config.G, config.D, config.E, config.N, config.K
        sizes = {"attention": ((B, G, 0, D),) * 2, "mamba": ((B, K - 1, E), (B, E, N))}
        self.caches = [tuple(np.zeros(size, np.float32) for size in sizes[kind]) for kind in config.layers]

    @property
    def nbytes(self):
        """Return the bytes that the caches take."""
        return sum(array.nbytes for cache in self.caches for array in cache)
