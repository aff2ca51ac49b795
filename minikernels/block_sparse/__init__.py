"""Softmax attention over the blocks that a mask keeps, patterns of such masks, and a gate that learns them."""

from minikernels.block_sparse import dba, gate, patterns
from minikernels.block_sparse.api import attention
from minikernels.block_sparse.lists import BlockLists, block_lists

__all__ = ["BlockLists", "attention", "block_lists", "dba", "gate", "patterns"]
