"""The numba rungs of attention, forward and backward; each stands in a file of its own."""

from minikernels.flash.numba_backward import launch_backward_v3_split_rows
from minikernels.flash.numba_split_rows import launch_v3_split_rows
from minikernels.flash.numba_three_pass import launch_v1_three_pass
from minikernels.flash.numba_tiled import launch_v2_keys_outside, launch_v2_tiled

__all__ = [
    "launch_backward_v3_split_rows", "launch_v1_three_pass", "launch_v2_keys_outside", "launch_v2_tiled",
    "launch_v3_split_rows",
]
