"""PagedAttention: keys and values in pages of a shared pool, found through a page table."""

from minikernels.paged.api import decode
from minikernels.paged.pool import OutOfPagesError, PagePool

__all__ = ["OutOfPagesError", "PagePool", "decode"]
