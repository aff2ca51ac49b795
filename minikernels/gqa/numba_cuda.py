"""The numba rungs, of decode and of attention; each stands in a file of its own."""

from minikernels.gqa.numba_attention import launch_attention_v1_head_per_block, launch_attention_v2_group_per_block
from minikernels.gqa.numba_block import launch_v1_block_per_head, launch_v2_shared_group
from minikernels.gqa.numba_warp import launch_v3_warp_dot

__all__ = [
    "launch_attention_v1_head_per_block", "launch_attention_v2_group_per_block", "launch_v1_block_per_head",
    "launch_v2_shared_group", "launch_v3_warp_dot",
]
