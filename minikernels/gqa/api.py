"""The public functions of gqa: validate, pick the rung, call it where the data lives."""

import numbers
from importlib import import_module

import numpy as np

from minikernels.core.errors import DtypeError, ShapeError
from minikernels.core.lengths import checked_lengths, marked
from minikernels.core.numerics import FLOATS, score_scale
from minikernels.core.shapes import bind, same_dtype
from minikernels.launch import Ladder, architecture, back, gathered

DECODE = Ladder("gqa", {  # rung -> where its function stands, from the equation to the fastest kernel
    "reference": "reference.decode",
    "tiled": "tiled.decode",
    "v1_block_per_head": "numba_cuda.launch_v1_block_per_head",
    "v2_shared_group": "numba_cuda.launch_v2_shared_group",
    "v3_warp_dot": "numba_cuda.launch_v3_warp_dot",
    "v4_wide_loads": "raw.launch_v4_wide_loads",
    "v5_split_kv": "raw.launch_v5_split_kv",
    "v6_stream_k": "raw.launch_v6_stream_k",
    "v7_mma_group": "raw.launch_v7_mma_group",
    "v8_mma_stream_k": "raw.launch_v8_mma_stream_k",
}, takes={"v7_mma_group": ("float16",), "v8_mma_stream_k": ("float16",)})
RAW = DECODE.of_kind("raw")  # rungs that need no lengths where all sequences have S keys
MARKS = ("v7_mma_group", "v8_mma_stream_k")  # rungs that make NaN of a length out of range themselves
PREFILL = Ladder("gqa", {
    "reference": "reference.attention",
    "tiled": "tiled.attention",
    "v1_head_per_block": "numba_cuda.launch_attention_v1_head_per_block",
    "v2_group_per_block": "numba_cuda.launch_attention_v2_group_per_block",
})


def attention(q, k, v, *, causal=False, scale=None, rung=None):
    """Return softmax attention of T queries with H query heads that share G key/value heads.

    Parameters
    ----------
    q : array of shape (B, H, T, D), float16 or float32 (float64 too in the NumPy rungs)
        Queries: a NumPy array, a CuPy array, or anything on a GPU with DLPack, such as a torch CUDA tensor.
    k, v : array of shape (B, G, S, D), of q's kind and dtype
        Keys and values; query head h reads head ``h // (H / G)``: G = H is multi-head, G = 1 multi-query attention.
    causal : bool
        Query t sees key s iff ``s <= t + S - T``: the mask is aligned bottom right.
    scale : float, optional
        Factor on every score; ``D ** -0.5`` by default.
    rung : str, optional
        One of `PREFILL`. A rung asked for by name runs or raises. The default is ``tiled`` for NumPy arrays and
        ``v2_group_per_block`` on a GPU; `minikernels.flash` has faster ones.

    Returns
    -------
    array of shape (B, H, T, D), of q's kind and dtype
        0 in rows that see no key.

    Raises
    ------
    ShapeError
        If a shape does not fit, or G does not divide H, or D is too wide for the rung.
    DtypeError
        If dtypes differ or the rung does not take them.
    DeviceError
        If arrays live in different places, or the rung cannot run where they live.
    ValueError
        If there is no rung of that name.

    Notes
    -----
    Work 4*B*H*T*S*D FLOP, half if causal, whatever G is; HBM traffic of each rung in `minikernels.gqa.traffic`.

    References
    ----------
    .. [1] Ainslie et al., GQA, arXiv:2305.13245.

    Examples
    --------
    >>> q, k = np.ones((1, 4, 2, 2), np.float32), np.ones((1, 1, 3, 2), np.float32)
    >>> attention(q, k, 2 * k)[0, 3]
    array([[2., 2.],
           [2., 2.]], dtype=float32)
    """
    PREFILL.check_name(rung)
    (q, k, v), like, place = gathered(q=q, k=k, v=v)
    sizes = bind(q=(q, "BHTD"), k=(k, "BGSD"), v=(v, "BGSD"))
    sizes.divides("G", "H")
    same_dtype(FLOATS, q=q, k=k, v=v)
    PREFILL.check_place(rung, place)
    causal, scale = bool(causal), score_scale(scale, sizes["D"])
    if 0 in sizes.values():
        return back(np.zeros_like(q), like)
    rung = rung or ("tiled" if place == "cpu" else "v2_group_per_block")
    PREFILL.check_dtype(rung, q=q)
    return back(PREFILL.function(rung)(q, k, v, causal, scale).astype(q.dtype, copy=False), like)


def decode(q, k, v, *, lengths=None, scale=None, rung=None):
    """Return attention of one new token a sequence over the keys and values that its cache holds.

    Parameters
    ----------
    q : array of shape (B, H, D), float16 or float32 (float64 too in the NumPy rungs)
        The new token's queries: a NumPy array, a CuPy array, or anything on a GPU with DLPack.
    k, v : array of shape (B, G, S, D), of q's kind and dtype
        The cache, the new token's own key and value included; query head h reads head ``h // (H / G)``. What stands
        past a sequence's length is not read.
    lengths : array of shape (B,), int32 or int64, optional
        Keys of each sequence, 0 to S; S for all by default.
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
        If a shape does not fit, or G does not divide H, or a length is not in 0..S, or D is too wide for the rung.
    DtypeError
        If dtypes differ, lengths are not integers, or the rung does not take them.
    DeviceError
        If arrays live in different places, or the rung cannot run where they live.
    ValueError
        If there is no rung of that name.

    Notes
    -----
    On a GPU, looking at lengths would make the host wait for it: there a sequence whose length is not in 0..S comes
    out as NaN. Work 4*H*D*sum(lengths) FLOP over 2*G*D*sum(lengths) numbers of the cache: H / G multiply-adds each.

    References
    ----------
    .. [1] Shazeer, Fast Transformer Decoding: One Write-Head is All You Need, arXiv:1911.02150.
    .. [2] Ainslie et al., GQA, arXiv:2305.13245.

    Examples
    --------
    >>> q, k = np.ones((2, 4, 2), np.float32), np.ones((2, 1, 3, 2), np.float32)
    >>> decode(q, k, k, lengths=np.array([3, 0]))[:, 0]
    array([[1., 1.],
           [0., 0.]], dtype=float32)
    """
    DECODE.check_name(rung)
    (q, k, v, lengths), like, place = gathered(q=q, k=k, v=v, lengths=lengths)
    sizes = bind(q=(q, "BHD"), k=(k, "BGSD"), v=(v, "BGSD"))
    sizes.divides("G", "H")
    same_dtype(FLOATS, q=q, k=k, v=v)
    DECODE.check_place(rung, place)
    empty = 0 in sizes.values()
    rung = rung or ("tiled" if empty or place == "cpu" else fastest_on_gpu(q, k, v, lengths is not None))
    bad = None
    if lengths is not None or rung not in RAW:
        lengths, bad = checked_lengths(lengths, q, sizes, place, marks=rung in MARKS and not empty)
    scale = score_scale(scale, sizes["D"])
    if empty:
        return back(marked(np.zeros_like(q), bad), like)
    DECODE.check_dtype(rung, q=q)
    o = DECODE.function(rung)(q, k, v, lengths, scale)
    return back(marked(o.astype(q.dtype, copy=False), bad), like)


def pool_heads(w, *, heads, groups):
    """Return a key or value projection with `groups` heads, each the mean of the heads it replaces.

    Parameters
    ----------
    w : array of shape (H*D, M), a float dtype
        The projection of a checkpoint with H = `heads` key/value heads; head h holds rows h*D to (h+1)*D.
    heads, groups : int
        H, and the number of key/value heads wanted, which divides it.

    Returns
    -------
    array of shape (G*D, M), of w's kind and dtype
        Head g is the mean of heads g*H/G to (g+1)*H/G - 1, the ones that its query heads read before.

    Notes
    -----
    Section 2.1 of [1]_: the start of uptraining. Averages are taken in float32 or wider.

    References
    ----------
    .. [1] Ainslie et al., GQA, arXiv:2305.13245.

    Examples
    --------
    >>> pool_heads(np.array([[1.0], [2.0], [3.0], [6.0]]), heads=4, groups=2)
    array([[1.5],
           [4.5]])
    """
    (w,), like, _ = gathered(w=w)
    for name, count in (("heads", heads), ("groups", groups)):
        if isinstance(count, bool) or not isinstance(count, numbers.Integral) or count < 1:
            raise ShapeError(f"{name} is {count!r}; it must be an integer of at least 1")
    if heads % groups:
        raise ShapeError(f"groups={groups} must divide heads={heads}")
    if w.ndim != 2 or w.shape[0] % heads:
        raise ShapeError(f"w has shape {tuple(w.shape)}; it must be (H*D, M) with H = heads = {heads}")
    same_dtype(FLOATS, w=w)
    D, M = w.shape[0] // heads, w.shape[1]
    pooled = w.reshape(groups, heads // groups, D, M).mean(axis=1, dtype=np.result_type(w.dtype, np.float32))
    return back(pooled.reshape(groups * D, M).astype(w.dtype, copy=False), like)


def fastest_on_gpu(q, k, v, ragged=False):
    """Return the name of the fastest decode rung that takes these CuPy arrays on this GPU, where lengths may differ."""
    raw = import_module("minikernels.gqa.raw")
    first = "v8_mma_stream_k" if ragged else "v7_mma_group"
    for rung in (first, "v5_split_kv") if architecture() >= raw.NEEDS else ():
        try:
            raw.check(q, k, v, rung)
        except (ShapeError, DtypeError):
            continue
        return rung
    wide = import_module("minikernels.gqa.numba_warp").WIDTH_LIMIT
    return "v3_warp_dot" if q.shape[2] <= wide else "v1_block_per_head"
