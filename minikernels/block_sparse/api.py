"""The public function of block_sparse: validate, pick the rung, call it where the data lives."""

from contextlib import suppress
from importlib import import_module

import numpy as np

from minikernels.block_sparse.lists import check_block, check_mask, visible
from minikernels.core.errors import DtypeError, ShapeError
from minikernels.core.numerics import FLOATS, accumulator, score_scale
from minikernels.core.shapes import bind, same_dtype
from minikernels.launch import HOPPER, Ladder, architecture, back, gathered

ATTENTION = Ladder("block_sparse", {  # rung -> where its function stands, from the equation to the fastest kernel
    "reference": "reference.attention",
    "tiled": "tiled.attention",
    "v1_masked_dense": "numba_cuda.launch_v1_masked_dense",
    "v2_skip_test": "numba_cuda.launch_v2_skip_test",
    "v3_block_lists": "numba_cuda.launch_v3_block_lists",
    "v4_full_partial": "numba_cuda.launch_v4_full_partial",
    "v5_mma": "raw.launch_v5_mma",
    "v6_async": "raw.launch_v6_async",
    "v7_wgmma": "raw_wgmma.launch_v7_wgmma",
}, takes={"raw": ("float16",)})
RAW_NEEDS = {"v6_async": (8, 0), "v5_mma": (8, 0)}  # fastest first: least compute capability


def attention(q, k, v, mask, *, block, causal=False, scale=None, return_lse=False, rung=None):
    """Return softmax attention over the blocks of keys that a mask keeps for each block of queries.

    Parameters
    ----------
    q : array of shape (B, H, T, D), float16 or float32 (float64 too in the NumPy rungs)
        Queries: a NumPy array, a CuPy array, or anything on a GPU with DLPack, such as a torch CUDA tensor.
    k, v : array of shape (B, G, S, D), of q's kind and dtype
        Keys and values; query head h reads head ``h // (H / G)``.
    mask : array of shape (B or 1, H or 1, ceil(T/R), ceil(S/C)), bool, of q's kind
        Query t sees key s only if ``mask[b, h, t // R, s // C]``; an axis of 1 serves all sequences, or all heads.
        `minikernels.block_sparse.patterns` makes such masks.
    block : (int, int)
        R queries by C keys. The last blocks may be ragged: R need not divide T, nor C divide S.
    causal : bool
        Query t sees key s only if ``s <= t + S - T``, too: the diagonal is aligned bottom right.
    scale : float, optional
        Factor on every score; ``D ** -0.5`` by default.
    return_lse : bool
        Whether to return the log-sum-exp of every row of scores too.
    rung : str, optional
        One of `ATTENTION`. A rung asked for by name runs or raises. The default is ``tiled`` for NumPy arrays and the
        fastest kernel that takes these inputs for arrays on a GPU.

    Returns
    -------
    o : array of shape (B, H, T, D), of q's kind and dtype
        0 in rows that see no key.
    lse : array of shape (B, H, T), of q's kind, float32 (float64 for float64 inputs); only if `return_lse`
        Natural logarithm; -inf in rows that see no key.

    Raises
    ------
    ShapeError
        If a shape does not fit, or G does not divide H, or D is too wide for the rung.
    DtypeError
        If dtypes differ, the mask is not boolean, or the rung does not take them.
    DeviceError
        If arrays live in different places, or the rung cannot run where they live.
    ValueError
        If there is no rung of that name.

    Notes
    -----
    Work 4*B*H*T*S*D FLOP times the density, the share of cells in kept blocks (`traffic.work`); HBM traffic of each
    rung in `minikernels.block_sparse.traffic`. Sums are float32 or wider.

    References
    ----------
    .. [1] Dao et al., FlashAttention, section 3.3, arXiv:2205.14135.

    Examples
    --------
    >>> q = k = np.ones((1, 1, 4, 2), np.float32)
    >>> v = np.arange(8, dtype=np.float32).reshape(1, 1, 4, 2)
    >>> mask = np.array([[[[True, False], [False, False]]]])
    >>> attention(q, k, v, mask, block=(2, 2))[0, 0]
    array([[1., 2.],
           [1., 2.],
           [0., 0.],
           [0., 0.]], dtype=float32)
    """
    ATTENTION.check_name(rung)
    (q, k, v, mask), like, place = gathered(q=q, k=k, v=v, mask=mask)
    sizes = bind(q=(q, "BHTD"), k=(k, "BGSD"), v=(v, "BGSD"))
    sizes.divides("G", "H")
    same_dtype(FLOATS, q=q, k=k, v=v)
    block = check_block(block)
    check_mask(mask, sizes["T"], sizes["S"], block, sizes["B"], sizes["H"])
    ATTENTION.check_place(rung, place)
    causal, scale = bool(causal), score_scale(scale, sizes["D"])
    if 0 in sizes.values():
        o, lse = nothing(q, mask, sizes, block, causal)
    else:
        rung = rung or ("tiled" if place == "cpu" else fastest_on_gpu(q, k, v, block))
        ATTENTION.check_dtype(rung, q=q)
        o, lse = ATTENTION.function(rung)(q, k, v, mask, block, causal, scale)
    o = back(o.astype(q.dtype, copy=False), like)
    return (o, back(lse.astype(accumulator(q.dtype), copy=False), like)) if return_lse else o


def nothing(q, mask, sizes, block, causal):
    """Return o and lse where an axis is empty: empty, or 0, and the logarithm of how many keys a row sees."""
    B, H, T, S = sizes.unpack("BHTS")
    count = np.sum(visible(mask, T, S, block, causal), axis=3)  # with D = 0 every score is 0; else no key is left
    with np.errstate(divide="ignore"):
        lse = np.log(count.astype(accumulator(q.dtype)))
    return np.zeros_like(q), np.broadcast_to(lse, (B, H, T)).copy()


def fastest_on_gpu(q, k, v, block):
    """Return the name of the fastest rung that takes these CuPy arrays, and such blocks, on this GPU."""
    raw, found = import_module("minikernels.block_sparse.raw"), architecture()
    if found == HOPPER["min_arch"]:
        with suppress(ShapeError, DtypeError):
            import_module("minikernels.block_sparse.raw_wgmma").check(q, k, v, block)
            return "v7_wgmma"
    for rung, needed in RAW_NEEDS.items():
        try:
            raw.check(q, k, v, rung)
        except (ShapeError, DtypeError):
            continue
        if found >= needed:
            return rung
    return "v4_full_partial"
