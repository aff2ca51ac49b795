"""The public function of selective_scan: validate, pick the rung, call it where the data lives."""

import numpy as np

from minikernels.core.errors import DtypeError, ShapeError
from minikernels.core.numerics import FLOATS, accumulator
from minikernels.core.shapes import bind, same_dtype
from minikernels.launch import Ladder, architecture, back, gathered
from minikernels.selective_scan.gates import silu
from minikernels.selective_scan.outputs import check_warp

SCAN = Ladder("selective_scan", {  # rung -> where its function stands, from the equation to the fastest kernel
    "reference": "reference.scan",
    "tiled": "tiled.scan",
    "v1_channel_major": "numba_cuda.launch_v1_channel_major",
    "v2_token_major": "numba_cuda.launch_v2_token_major",
    "v3_hillis_steele": "numba_cuda.launch_v3_hillis_steele",
    "v4_blelloch": "numba_cuda.launch_v4_blelloch",
    "v5_registers": "raw.launch_v5_registers",
    "v6_three_phase": "raw.launch_v6_three_phase",
    "v7_channel_pairs": "raw.launch_v7_channel_pairs",
    "v8_staging_warps": "raw.launch_v8_staging_warps",
})
LAYOUTS = {"u": "BTE", "delta": "BTE", "a": "EN", "b": "BTN", "c": "BTN", "d": "E", "z": "BTE", "delta_bias": "E",
           "initial_state": "BEN"}
PARAMETERS = ("a", "d", "delta_bias", "initial_state")  # float32 whatever the tokens' dtype is
RAW_NEEDS = (8, 0)  # least compute capability


def scan(u, delta, a, b, c, *, d=None, z=None, delta_bias=None, delta_softplus=False, initial_state=None,
         return_state=False, rung=None):
    """Return the selective scan of a Mamba layer: N states a channel, which decay and grow as each token says.

    Parameters
    ----------
    u : array of shape (B, T, E), float16 or float32 (float64 too in the NumPy rungs)
        Inputs: a NumPy array, a CuPy array, or anything on a GPU with DLPack, such as a torch CUDA tensor.
    delta : array of shape (B, T, E), of u's kind and dtype
        Step sizes, before bias and softplus.
    a : array of shape (E, N), float32 (u's dtype is taken too)
        Rates. They are negative in a model, so that states decay: ``exp(delta a)`` is in (0, 1].
    b, c : array of shape (B, T, N), of u's kind and dtype
        How much of a token enters each state, and how much of each state leaves.
    d : array of shape (E,), float32 (u's dtype is taken too), optional
        The input's direct share of the output.
    z : array of shape (B, T, E), of u's kind and dtype, optional
        Gates: the output is multiplied by ``silu(z) = z / (1 + exp(-z))``.
    delta_bias : array of shape (E,), float32 (u's dtype is taken too), optional
        Added to delta.
    delta_softplus : bool
        Whether ``log(1 + exp(delta + delta_bias))`` is taken for the step size; above 20 it is its argument.
    initial_state : array of shape (B, E, N), float32 (u's dtype is taken too), optional
        The states before the first token; 0 by default.
    return_state : bool
        Whether to return the states after the last token too. Given as `initial_state` of the tokens that follow, they
        give what one scan of all tokens gives.
    rung : str, optional
        One of `SCAN`. A rung asked for by name runs or raises. The default is ``tiled`` for NumPy arrays and the
        fastest kernel that takes these inputs for arrays on a GPU.

    Returns
    -------
    o : array of shape (B, T, E), of u's kind and dtype
    state : array of shape (B, E, N), float32 (float64 where u is), of u's kind
        If `return_state`.

    Raises
    ------
    ShapeError
        If a shape does not fit, or N is too large for the rung.
    DtypeError
        If a dtype does not fit, or the rung does not take it.
    DeviceError
        If arrays live in different places, or the rung cannot run where they live.
    ValueError
        If there is no rung of that name.

    Notes
    -----
    ``h_t = exp(delta_t a) h_{t-1} + delta_t u_t b_t``, ``o_t = (c_t . h_t + d u_t) silu(z_t)``. States and sums are
    float32 (float64 where u is). Work 6*B*T*E*N FLOP and B*T*E*(N + 3) exponentials and logarithms at most; HBM traffic
    of each rung in `minikernels.selective_scan.traffic`.

    Rungs that compose tokens by a prefix scan (``tiled``, ``v3_hillis_steele``, ``v4_blelloch``), or chunks of tokens
    (from ``v6_three_phase`` on), want ``delta a <= 0``, as in a model, or sums of it over a chunk below about 88 (709
    in float64): the decay of many tokens at once is infinite beyond, and times a state of 0 it is NaN.

    References
    ----------
    .. [1] Gu, Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, arXiv:2312.00752.

    Examples
    --------
    >>> ones = np.ones((1, 3, 1), np.float32)
    >>> halved = np.log(np.full((1, 1), 0.5, np.float32))
    >>> o, state = scan(ones, ones, halved, ones, ones, return_state=True)
    >>> o.ravel(), state.ravel()
    (array([1.  , 1.5 , 1.75], dtype=float32), array([1.75], dtype=float32))
    """
    SCAN.check_name(rung)
    given = {"u": u, "delta": delta, "a": a, "b": b, "c": c, "d": d, "z": z, "delta_bias": delta_bias,
             "initial_state": initial_state}
    values, like, place = gathered(**given)
    arrays = dict(zip(given, values, strict=True))
    sizes = bind(**{name: (x, LAYOUTS[name]) for name, x in arrays.items() if x is not None})
    check_dtypes(arrays)
    SCAN.check_place(rung, place)
    arrays = widened(arrays)
    if 0 in sizes.values():
        o, state = without_states(arrays, sizes)
    else:
        rung = rung or ("tiled" if place == "cpu" else fastest_on_gpu(sizes["N"]))
        SCAN.check_dtype(rung, u=arrays["u"])
        o, state = SCAN.function(rung)(**arrays, delta_softplus=bool(delta_softplus))
    o = back(o.astype(arrays["u"].dtype, copy=False), like)
    return (o, back(state.astype(accumulator(arrays["u"].dtype), copy=False), like)) if return_state else o


def check_dtypes(arrays):
    """Raise DtypeError unless what belongs to a token has one dtype, and parameters are float32 or of that dtype."""
    tokens = {name: x for name, x in arrays.items() if name not in PARAMETERS and x is not None}
    dtype = same_dtype(FLOATS, **tokens)
    for name in PARAMETERS:
        if arrays[name] is not None and arrays[name].dtype.name not in ("float32", dtype):
            allowed = " or ".join(dict.fromkeys(("float32", dtype)))
            raise DtypeError(f"{name} has dtype {arrays[name].dtype}; beside u of {dtype} it must be {allowed}")


def widened(arrays):
    """Return the arrays, parameters in float32 (float64 where u is)."""
    wide = accumulator(arrays["u"].dtype)
    parameters = {name: arrays[name].astype(wide, copy=False) for name in PARAMETERS if arrays[name] is not None}
    return arrays | parameters


def without_states(arrays, sizes):
    """Return o and the state where an axis is empty: nothing at all, or (N = 0) the direct share and its gate."""
    u, d, z, state = (arrays[name] for name in ("u", "d", "z", "initial_state"))
    wide = accumulator(u.dtype)
    y = np.zeros_like(u, dtype=wide, order="C")
    y = y if d is None else d * u.astype(wide)
    y = y if z is None else y * silu(z.astype(wide))
    if state is None:
        return y, np.zeros_like(u, dtype=wide, shape=sizes.unpack("BEN"), order="C")
    return y, state.copy()


def fastest_on_gpu(N):
    """Return the name of the fastest rung that takes N states a channel on this GPU."""
    try:
        check_warp(N, "v8_staging_warps")
    except ShapeError:
        return "v2_token_major"
    return "v8_staging_warps" if architecture() >= RAW_NEEDS else "v2_token_major"
