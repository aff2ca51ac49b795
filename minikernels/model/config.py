"""The sizes of a model, in one dataclass.

Letters: M model width, H query heads, G key/value heads, D head width, F feed-forward width, E channels of a Mamba
layer, N state width, R rank of the step size's projection, K taps of the short convolution, V symbols (the 256
bytes).
"""

import json
from dataclasses import asdict, dataclass, replace

from minikernels.core.errors import ShapeError

__all__ = ["Config"]

V = 256


@dataclass(frozen=True)
class Config:
    """Sizes and choices of one byte-level decoder.

    Parameters
    ----------
    layers : tuple of {"attention", "mamba"}
        The mixer of each layer, first to last; every mixer is followed by a SwiGLU feed-forward.
    M, H, G, D, F : int
        Model width, query heads, key/value heads, head width (free of M), feed-forward width.
    E, N, R, K : int
        Channels, states a channel, rank of the step size and taps of the convolution of a Mamba layer.
    context : int
        The longest sequence the model was trained on, in bytes.
    rotary : bool
        Whether queries and keys are rotated by their position; a hybrid gets its positions from the Mamba layers.
    rotary_base, epsilon : float
        Base of the rotary frequencies; the RMSNorm's guard.
    """

    layers: tuple[str, ...] = ("attention",) * 4
    M: int = 128
    H: int = 8
    G: int = 8
    D: int = 32
    F: int = 256
    E: int = 256
    N: int = 16
    R: int = 8
    K: int = 4
    context: int = 2048
    rotary: bool = True
    rotary_base: float = 10000.0
    epsilon: float = 1e-5

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(self.layers))
        unknown = set(self.layers) - {"attention", "mamba"}
        if unknown or not self.layers:
            raise ShapeError(
                f"layers is {self.layers}; each layer is 'attention' or 'mamba', and there is at least one"
            )
        if self.G < 1 or self.H % self.G:
            raise ShapeError(f"G={self.G} must divide H={self.H}")
        if self.D % 2:
            raise ShapeError(f"D={self.D} must be even: rotary positions turn pairs of channels")

    def with_groups(self, G):
        """Return the same sizes with G key/value heads."""
        return replace(self, G=G)

    def shapes(self):
        """Return the name and shape of every weight, in a fixed order.

        Projections are stored (out, in), so that key and value have the (G*D, M) that ``gqa.pool_heads`` returns.
        """
        M, F = self.M, self.F
        shapes = {"embedding": (V, M)}
        for layer, kind in enumerate(self.layers):
            mixer = self._attention_shapes() if kind == "attention" else self._mamba_shapes()
            feed_forward = {"norm_ffn": (M,), "gate": (F, M), "up": (F, M), "down": (M, F)}
            shapes |= {
                f"layers.{layer}.{name}": shape for name, shape in ({"norm": (M,)} | mixer | feed_forward).items()
            }
        return shapes | {"norm": (M,)}

    def _attention_shapes(self):
        M, H, G, D = self.M, self.H, self.G, self.D
        return {"query": (H * D, M), "key": (G * D, M), "value": (G * D, M), "output": (M, H * D)}

    def _mamba_shapes(self):
        M, E, N, R, K = self.M, self.E, self.N, self.R, self.K
        return {
            "input": (2 * E, M),  # u, then its gate z
            "taps": (E, K),
            "taps_bias": (E,),
            "select": (R + 2 * N, E),  # the step size's R numbers, then b, then c
            "delta": (E, R),
            "delta_bias": (E,),
            "a_log": (E, N),
            "d": (E,),
            "output": (M, E),
        }

    def to_json(self):
        """Return the configuration as a JSON string."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text):
        """Return the configuration that ``to_json`` wrote."""
        return cls(**json.loads(text))
