"""The numba rungs: two that look the mask up, two that walk lists made from it."""

from minikernels.block_sparse.numba_lists import launch_v3_block_lists, launch_v4_full_partial
from minikernels.block_sparse.numba_mask import launch_v1_masked_dense, launch_v2_skip_test

__all__ = ["launch_v1_masked_dense", "launch_v2_skip_test", "launch_v3_block_lists", "launch_v4_full_partial"]
