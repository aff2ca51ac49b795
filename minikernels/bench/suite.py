"""What is timed together: the kernels of one case of one technique, ours and the production ones, and their judge."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minikernels import launch

__all__ = ["Entry", "Suite", "on_gpu"]


@dataclass(frozen=True)
class Entry:
    """A kernel to time: ``kind`` is ``rung`` or ``peer``, ``run()`` returns {name: CuPy array}.

    One that cannot run here has a ``reason`` instead.
    """

    kind: str
    name: str
    run: Callable | None = None
    reason: str = ""


@dataclass(frozen=True)
class Suite:
    """One case of one technique.

    Attributes
    ----------
    technique : str
        Its name in the catalog.
    sizes : dict of str to int
        By letter.
    dtype : str
        Of the inputs.
    causal : bool
        Whether a causal mask is on.
    flop : int
        Work of the case.
    entries : tuple of Entry
        What to time.
    judge : callable
        ``judge(outputs)`` returns a list of verdicts.
    variant : str
        What else tells the case from others of the same sizes: ``backward``, ``ragged lengths``, ``density 0.25``.
    bytes : int
        What any kernel must move, where bytes and not FLOP are the natural measure of speed; else 0.
    """

    technique: str
    sizes: dict
    dtype: str
    causal: bool
    flop: int
    entries: tuple
    judge: Callable
    variant: str = ""
    bytes: int = 0

    @property
    def row(self):
        """What a recorded result says of its case; two results are compared only if all of it is equal."""
        row = {"technique": self.technique, "sizes": self.sizes, "dtype": self.dtype, "causal": self.causal}
        return row | ({"variant": self.variant} if self.variant else {})

    def __str__(self):
        sizes = (f"{letter}{size}" for letter, size in self.sizes.items())
        words = [self.technique, *sizes, self.dtype, "causal" if self.causal else "", self.variant]
        return " ".join(word for word in words if word)


def on_gpu(inputs):
    """Return the inputs with their arrays on the GPU."""
    return {name: launch.to_gpu(x) if isinstance(x, np.ndarray) else x for name, x in inputs.items()}
