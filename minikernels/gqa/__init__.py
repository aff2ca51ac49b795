"""Attention with H query heads that share G key/value heads (MHA, MQA, GQA), over a prompt and one token at a time."""

from minikernels.gqa.api import attention, decode, pool_heads

__all__ = ["attention", "decode", "pool_heads"]
