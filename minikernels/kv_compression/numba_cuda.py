"""The numba rungs of decode; each stands in a file of its own."""

from minikernels.kv_compression.numba_folded import launch_v2_folded_scales
from minikernels.kv_compression.numba_loop import launch_v1_dequantize

__all__ = ["launch_v1_dequantize", "launch_v2_folded_scales"]
