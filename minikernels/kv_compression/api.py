"""`decode` over quantised caches: validate, pick the rung, call it where the data lives."""

import math
from dataclasses import replace
from importlib import import_module

import numpy as np

from minikernels.core.errors import DtypeError, ShapeError
from minikernels.core.lengths import checked_lengths, marked
from minikernels.core.numerics import FLOATS, score_scale
from minikernels.core.shapes import bind, same_dtype
from minikernels.kv_compression.cache import ARRAYS, QuantizedCache
from minikernels.launch import Ladder, architecture, back, gathered

DECODE = Ladder("kv_compression", {  # rung -> where its function stands, from the equation to the fastest kernel
    "reference": "reference.decode",
    "tiled": "tiled.decode",
    "v1_dequantize": "numba_cuda.launch_v1_dequantize",
    "v2_folded_scales": "numba_cuda.launch_v2_folded_scales",
    "v3_wide_loads": "raw.launch_v3_wide_loads",
    "v4_half2": "raw.launch_v4_half2",
    "v5_split_kv": "raw.launch_v5_split_kv",
    "v6_mma": "raw.launch_v6_mma",
    "v7_matrices": "raw.launch_v7_matrices",
    "v8_ring": "raw.launch_v8_ring",
}, takes=dict.fromkeys(("v7_matrices", "v8_ring"), ("float16",)))
RAW_NEEDS = (8, 0)  # least compute capability


def decode(q, k_cache, v_cache, *, lengths=None, scale=None, rung=None):
    """Return attention of one new token a sequence over a cache of 8-bit or 4-bit keys and values.

    Parameters
    ----------
    q : array of shape (B, H, D), float16 or float32 (float64 too in the NumPy rungs)
        The new token's queries: a NumPy array, a CuPy array, or anything on a GPU with DLPack.
    k_cache, v_cache : QuantizedCache of shape (B, G, S, D), of q's kind and dtype
        Made by `quantize`, the new token's own key and value included; query head h reads head ``h // (H / G)``. They
        may differ in bits, axis, group and window.
    lengths : array of shape (B,), int32 or int64, optional
        Keys of each sequence, 0 to S; S for all by default. What stands past a length is not read, though it had a
        part in the scales of its group: fill it with numbers, not with NaN.
    scale : float, optional
        Factor on every score; ``D ** -0.5`` by default.
    rung : str, optional
        One of `DECODE`. A rung asked for by name runs or raises. The default is ``tiled`` for NumPy arrays and the
        fastest kernel that takes these inputs for arrays on a GPU.

    Returns
    -------
    array of shape (B, H, D), of q's kind and dtype
        0 in sequences of length 0.

    Raises
    ------
    ShapeError
        If a shape does not fit, or G does not divide H, or a length is not in 0..S, or the rung does not take the
        caches' D, bits, axes or groups.
    DtypeError
        If dtypes differ, lengths are not integers, a cache is none, or the rung does not take them.
    DeviceError
        If arrays live in different places, or the rung cannot run where they live.
    ValueError
        If there is no rung of that name.

    Notes
    -----
    ``o_h = softmax(q_h (k_min + k_scale k_code)^T scale) (v_min + v_scale v_code)``. On a GPU a sequence whose length
    is not in 0..S comes out as NaN. Work 4*H*D*sum(lengths) FLOP; HBM traffic of each rung in
    `minikernels.kv_compression.traffic`.

    References
    ----------
    .. [1] Liu et al., KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache, arXiv:2402.02750.

    Examples
    --------
    >>> from minikernels.kv_compression import quantize
    >>> q, k = np.ones((1, 4, 2), np.float32), np.ones((1, 1, 3, 2), np.float32)
    >>> k_cache, v_cache = quantize(k, bits=4, axis="channel"), quantize(2 * k, bits=4, axis="token")
    >>> decode(q, k_cache, v_cache)[0, 3]
    array([2., 2.], dtype=float32)
    """
    DECODE.check_name(rung)
    q, k_cache, v_cache, lengths, like, place = here(q, k_cache, v_cache, lengths)
    sizes = bind(q=(q, "BHD"), k_cache=(k_cache, "BGSD"), v_cache=(v_cache, "BGSD"))
    sizes.divides("G", "H")
    same_dtype(FLOATS, q=q, k_cache=k_cache, v_cache=v_cache)
    lengths, bad = checked_lengths(lengths, q, sizes, place)
    DECODE.check_place(rung, place)
    scale = score_scale(scale, sizes["D"])
    if 0 in sizes.values():
        return back(marked(np.zeros_like(q), bad), like)
    rung = rung or ("tiled" if place == "cpu" else fastest_on_gpu(q, k_cache, v_cache))
    DECODE.check_dtype(rung, q=q)
    if DECODE.kind(rung) != "numpy" and k_cache.quantized != v_cache.quantized:  # a kernel's loop has one boundary
        step = math.lcm(k_cache.group, v_cache.group)
        both = min(k_cache.quantized, v_cache.quantized) // step * step
        k_cache, v_cache = k_cache.shortened(both), v_cache.shortened(both)
    o = DECODE.function(rung)(q, k_cache, v_cache, lengths, scale)
    return back(marked(o.astype(q.dtype, copy=False), bad), like)


def here(q, k_cache, v_cache, lengths):
    """Return q, the caches and lengths as NumPy's or CuPy's, q as it came, and where they live."""
    both = ("k_cache", k_cache), ("v_cache", v_cache)
    for name, cache in both:
        if not isinstance(cache, QuantizedCache):
            raise DtypeError(f"{name} is of type {type(cache).__name__}; it must be a QuantizedCache, which "
                             "kv_compression.quantize makes of an array")
    parts = {f"{name}.{part}": x for name, cache in both for part, x in cache.arrays.items()}
    (q, lengths, *held), like, place = gathered(q=q, lengths=lengths, **parts)
    k_held, v_held = held[: len(ARRAYS)], held[len(ARRAYS) :]
    caches = (replace(cache, **dict(zip(ARRAYS, x))) for cache, x in ((k_cache, k_held), (v_cache, v_held)))
    return q, *caches, lengths, like, place


def fastest_on_gpu(q, k_cache, v_cache):
    """Return the name of the fastest decode rung that takes q and these caches of CuPy arrays on this GPU."""
    if architecture() >= RAW_NEEDS:
        for rung in ("v8_ring", "v6_mma", "v5_split_kv"):
            try:
                import_module("minikernels.kv_compression.raw").check(q, k_cache, v_cache, rung)
            except (ShapeError, DtypeError):
                continue
            return rung
    return "v2_folded_scales" if (k_cache.axis, v_cache.axis) == ("channel", "token") else "v1_dequantize"
