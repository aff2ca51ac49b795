"""The numba rungs; each stands in a file of its own."""

from minikernels.paged.numba_gather import launch_v1_gather
from minikernels.paged.numba_table import launch_v2_page_table
from minikernels.paged.numba_warp import launch_v3_warp_key

__all__ = ["launch_v1_gather", "launch_v2_page_table", "launch_v3_warp_key"]
