"""The public functions of flash: validate, pick the rung, call it where the data lives."""

from importlib import import_module

import numpy as np

from minikernels.core.errors import DtypeError, ShapeError
from minikernels.core.numerics import FLOATS, accumulator, keys_seen, score_scale
from minikernels.core.shapes import bind, same_dtype
from minikernels.launch import Ladder, architecture, back, gathered

FORWARD = Ladder("flash", {  # rung -> where its function stands, from the equation to the fastest kernel
    "reference": "reference.attention",
    "online": "online.attention",
    "tiled_keys_outside": "tiled.attention_keys_outside",
    "tiled": "tiled.attention",
    "v1_three_pass": "numba_cuda.launch_v1_three_pass",
    "v2_keys_outside": "numba_cuda.launch_v2_keys_outside",
    "v2_tiled": "numba_cuda.launch_v2_tiled",
    "v3_split_rows": "numba_cuda.launch_v3_split_rows",
    "v4_register_tiles": "raw.launch_v4_register_tiles",
    "v5_mma": "raw.launch_v5_mma",
    "v6_async": "raw.launch_v6_async",
    "v7_wgmma": "raw.launch_v7_wgmma",
})
BACKWARD = Ladder("flash", {
    "reference": "reference.attention_backward",
    "tiled": "tiled_backward.attention_backward",
    "v3_split_rows": "numba_cuda.launch_backward_v3_split_rows",
    "v4_mma": "raw_backward.launch_v4_mma",
    "v5_wgmma": "raw_backward.launch_v5_wgmma",
    "v6_roles": "raw_backward.launch_v6_roles",
})
RAW_NEEDS = {  # fastest first: least compute capability
    "v7_wgmma": (9, 0), "v6_async": (8, 0), "v5_mma": (8, 0), "v4_register_tiles": (8, 0),
}
EXACT = ("v7_wgmma",)  # and on nothing newer


def attention(q, k, v, *, causal=False, scale=None, return_lse=False, rung=None):
    """Return softmax attention with H query heads that share G key/value heads, without ever storing T x S scores.

    Parameters
    ----------
    q : array of shape (B, H, T, D), float16 or float32 (float64 too in the NumPy rungs)
        Queries: a NumPy array, a CuPy array, or anything on a GPU with DLPack, such as a torch CUDA tensor.
    k, v : array of shape (B, G, S, D), of q's kind and dtype
        Keys and values; query head h reads head ``h // (H / G)``.
    causal : bool
        Query t sees key s iff ``s <= t + S - T``: the mask is aligned bottom right.
    scale : float, optional
        Factor on every score; ``D ** -0.5`` by default.
    return_lse : bool
        Whether to return the log-sum-exp of every row of scores too, which the backward pass needs.
    rung : str, optional
        One of `FORWARD`. A rung asked for by name runs or raises. The default is ``tiled`` for NumPy arrays and the
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
        If dtypes differ or the rung does not take them.
    DeviceError
        If arrays live in different places, or the rung cannot run where they live.
    ValueError
        If there is no rung of that name.

    Notes
    -----
    Equation 1 and the derivation stand in this folder's README. Work 4*B*H*T*S*D FLOP, half if causal; HBM traffic of
    each rung in `minikernels.flash.traffic`. Sums are float32 or wider.

    References
    ----------
    .. [1] Dao et al., FlashAttention, arXiv:2205.14135.
    .. [2] Dao, FlashAttention-2, arXiv:2307.08691.

    Examples
    --------
    >>> q = k = v = np.ones((1, 1, 3, 2), np.float32)
    >>> attention(q, k, v, causal=True)[0, 0]
    array([[1., 1.],
           [1., 1.],
           [1., 1.]], dtype=float32)
    """
    FORWARD.check_name(rung)
    (q, k, v), like, place = gathered(q=q, k=k, v=v)
    sizes = bind(q=(q, "BHTD"), k=(k, "BGSD"), v=(v, "BGSD"))
    sizes.divides("G", "H")
    same_dtype(FLOATS, q=q, k=k, v=v)
    FORWARD.check_place(rung, place)
    causal, scale = bool(causal), score_scale(scale, sizes["D"])
    if 0 in sizes.values():
        o, lse = nothing(q, sizes, causal)
    else:
        rung = rung or ("tiled" if place == "cpu" else fastest_on_gpu(q, k, v))
        FORWARD.check_dtype(rung, q=q)
        o, lse = FORWARD.function(rung)(q, k, v, causal, scale)
    o = back(o.astype(q.dtype, copy=False), like)
    return (o, back(lse.astype(accumulator(q.dtype), copy=False), like)) if return_lse else o


def attention_backward(q, k, v, o, lse, do, *, causal=False, scale=None, rung=None):
    """Return the gradients of a loss by q, k and v, given its gradient by o.

    Parameters
    ----------
    q, k, v, causal, scale
        As in `attention`.
    o : array of shape (B, H, T, D)
    lse : array of shape (B, H, T), float32 (float64 for float64 inputs)
        Both as `attention` returned them.
    do : array of shape (B, H, T, D)
        Gradient of the loss by o.
    rung : str, optional
        One of `BACKWARD`. The default is ``tiled`` for NumPy arrays and the fastest kernel that takes these inputs for
        arrays on a GPU.

    Returns
    -------
    dq : array of shape (B, H, T, D)
    dk, dv : array of shape (B, G, S, D)
        Of q's kind and dtype. A key/value head sums over the query heads that share it.

    Raises
    ------
    ShapeError, DtypeError, DeviceError, ValueError
        As in `attention`.

    Notes
    -----
    ``delta = rowsum(do * o)``, ``P = exp(S - lse)``, ``dV = P^T dO``, ``dS = P * (dO V^T - delta)``,
    ``dQ = dS K scale``, ``dK = dS^T Q scale``; algorithm 2 of [1]_. Work 10*B*H*T*S*D FLOP in the equation and in
    the tensor-core rungs, which add to dq by atomics; 14 in the others, which compute each score twice.

    References
    ----------
    .. [1] Dao, FlashAttention-2, arXiv:2307.08691.
    """
    BACKWARD.check_name(rung)
    (q, k, v, o, lse, do), like, place = gathered(q=q, k=k, v=v, o=o, lse=lse, do=do)
    sizes = bind(q=(q, "BHTD"), k=(k, "BGSD"), v=(v, "BGSD"), o=(o, "BHTD"), lse=(lse, "BHT"), do=(do, "BHTD"))
    sizes.divides("G", "H")
    same_dtype(FLOATS, q=q, k=k, v=v, o=o, do=do)
    same_dtype((accumulator(q.dtype).name,), lse=lse)
    BACKWARD.check_place(rung, place)
    causal, scale = bool(causal), score_scale(scale, sizes["D"])
    if 0 in sizes.values():
        gradients = tuple(np.zeros_like(x) for x in (q, k, v))
    else:
        rung = rung or ("tiled" if place == "cpu" else fastest_backward_on_gpu(q, k, v))
        BACKWARD.check_dtype(rung, q=q)
        gradients = BACKWARD.function(rung)(q, k, v, o, lse, do, causal, scale)
    return tuple(back(x.astype(q.dtype, copy=False), like) for x in gradients)


def nothing(q, sizes, causal):
    """Return o and lse where an axis is empty: empty, or 0, and the logarithm of how many keys a row sees."""
    B, H, T, S, D = sizes.unpack("BHTSD")
    count = keys_seen(T, S, causal) if D == 0 else np.zeros(T)  # with D = 0 every score is 0; else no key is left
    with np.errstate(divide="ignore"):
        lse = np.broadcast_to(np.log(count), (B, H, T)).astype(accumulator(q.dtype))
    return np.zeros_like(q), np.asarray(lse, like=q)


def fastest_on_gpu(q, k, v):
    """Return the name of the fastest rung that takes these CuPy arrays on this GPU."""
    raw, found = import_module("minikernels.flash.raw"), architecture()
    for rung, needed in RAW_NEEDS.items():
        try:
            getattr(raw, f"check_{rung}")(q, k, v)
        except (ShapeError, DtypeError):
            continue
        if found == needed or (found > needed and rung not in EXACT):
            return rung
    wide = import_module("minikernels.flash.outputs").WIDTH_LIMIT
    return "v3_split_rows" if q.shape[3] <= wide else "v1_three_pass"


def fastest_backward_on_gpu(q, k, v):
    """Return the name of the fastest rung of the backward pass that takes these CuPy arrays on this GPU."""
    return import_module("minikernels.flash.raw_backward").fastest(q, k, v) or "v3_split_rows"
