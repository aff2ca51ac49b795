"""Linear attention: a D x D state in place of a cache, with decay per head or gates per channel."""

from minikernels.linear_attention.api import attention, attention_backward
from minikernels.linear_attention.slopes import slopes

__all__ = ["attention", "attention_backward", "slopes"]
