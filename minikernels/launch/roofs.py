"""The simplest work that meets a GPU's limits: a copy for its memory, matrix products for its arithmetic."""

from minikernels.launch.gpu import require_gpu

__all__ = ["limits"]


def limits(elements=2**29, side=8192):
    """Yield (kind, name, amount, function) of what is timed to find a GPU's ceilings.

    Parameters
    ----------
    elements : int
        Of the float32 array that is copied: many times what a cache holds.
    side : int
        Of the square matrices that are multiplied.

    Yields
    ------
    kind : str
        ``"bandwidth"`` or ``"compute"``.
    name : str
    amount : int
        Bytes moved, or FLOP.
    function : callable
        Does it once, without arguments.
    """
    require_gpu("measuring ceilings")
    import cupy

    there, here = cupy.zeros(elements, cupy.float32), cupy.empty(elements, cupy.float32)
    yield "bandwidth", "copy", 2 * there.nbytes, lambda: cupy.copyto(here, there)
    for dtype in ("float16", "float32"):  # cuBLAS: tensor cores, and CUDA cores (no TF32 unless it is asked for)
        a, b = (cupy.random.standard_normal((side, side), cupy.float32).astype(dtype) for _ in "ab")
        c = cupy.empty((side, side), dtype)
        yield "compute", f"matrix product {dtype}", 2 * side**3, lambda a=a, b=b, c=c: cupy.matmul(a, b, out=c)
