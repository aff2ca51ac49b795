r"""A tiny trained byte-level language model in NumPy: real activations, and an approximation's cost in bits per byte.

>>> import minikernels.model as m
>>> model = m.load("mha")
>>> inputs = model.activations("def f(x):\n    return x", layer=1)
>>> inputs.q.shape
(1, 8, 22, 32)
"""

from minikernels.model.config import Config
from minikernels.model.forward import Model, load
from minikernels.model.inputs import AttentionInputs, ScanInputs, State
from minikernels.model.text import held_out
from minikernels.model.weights import NAMES, WeightsError

__all__ = ["NAMES", "AttentionInputs", "Config", "Model", "ScanInputs", "State", "WeightsError", "held_out", "load"]
