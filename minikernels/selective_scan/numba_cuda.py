"""The numba rungs; each pair stands in a file of its own."""

from minikernels.selective_scan.numba_parallel import launch_v3_hillis_steele, launch_v4_blelloch
from minikernels.selective_scan.numba_sequential import launch_v1_channel_major, launch_v2_token_major

__all__ = ["launch_v1_channel_major", "launch_v2_token_major", "launch_v3_hillis_steele", "launch_v4_blelloch"]
