"""Softmax attention without the T x S matrix, by online-softmax tiling (FlashAttention)."""

from minikernels.flash.api import attention, attention_backward

__all__ = ["attention", "attention_backward"]
