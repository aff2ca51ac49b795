"""The numba rungs, forward and backward; each stands in a file of its own."""

from minikernels.linear_attention.numba_backward import launch_backward_v1_recurrent
from minikernels.linear_attention.numba_chunk import launch_v2_chunk
from minikernels.linear_attention.numba_recurrent import launch_v1_recurrent

__all__ = ["launch_backward_v1_recurrent", "launch_v1_recurrent", "launch_v2_chunk"]
