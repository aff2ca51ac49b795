"""The public functions of linear_attention: validate, pick the rung, call it where the data lives."""

from importlib import import_module

import numpy as np

from minikernels.core.errors import DtypeError, ShapeError
from minikernels.core.numerics import FLOATS, accumulator, score_scale
from minikernels.core.shapes import bind, same_dtype
from minikernels.launch import HOPPER, Ladder, architecture, back, gathered

FORWARD = Ladder("linear_attention", {  # rung -> where its function stands, from the equation to the fastest kernel
    "reference": "reference.attention",
    "tiled": "tiled.attention",
    "v1_recurrent": "numba_cuda.launch_v1_recurrent",
    "v2_chunk": "numba_cuda.launch_v2_chunk",
    "v3_mma_chunk": "raw.launch_v3_mma_chunk",
    "v4_split_along_time": "raw.launch_v4_split_along_time",
    "v5_wgmma": "raw_wgmma.launch_v5_wgmma",
    "v6_factored_gates": "raw_wgmma.launch_v6_factored_gates",
}, takes=dict.fromkeys(("v3_mma_chunk", "v4_split_along_time", "v5_wgmma", "v6_factored_gates"), ("float16",)))
BACKWARD = Ladder("linear_attention", {
    "reference": "reference_backward.attention_backward",
    "tiled": "tiled_backward.attention_backward",
    "v1_recurrent": "numba_cuda.launch_backward_v1_recurrent",
})
GATES = ("float16", "float32")  # dtypes of a gate that kernels take, whatever q's is
RAW_NEEDS = (8, 0)  # least compute capability


def attention(q, k, v, *, decay=None, gate=None, scale=1.0, initial_state=None, return_state=False, rung=None):
    """Return linear attention, ``o_t = scale q_t S_t`` with ``S_t = diag(decay e^gate_t) S_(t-1) + k_t v_t^T``.

    Causal by nature: o_t depends on the tokens up to t. There is no softmax and no denominator.

    Parameters
    ----------
    q, k, v : array of shape (B, H, T, D), float16 or float32 (float64 too in the NumPy rungs)
        Queries, keys, values: NumPy arrays, CuPy arrays, or anything on a GPU with DLPack, such as torch CUDA tensors.
    decay : array of shape (H,), any of these dtypes, optional
        What one token leaves of a head's state: S is multiplied by ``decay[h]``, a number in (0, 1], once a token,
        before ``k_t v_t^T`` is added. So a token n places back counts ``decay[h] ** n``. It is lambda itself and no
        logarithm: ``np.exp(-slopes(H))`` gives those of Lightning Attention and TransNormerLLM. 1 by default: nothing
        fades.
    gate : array of shape (B, H, T, D), any of these dtypes, optional
        The logarithm of what token t leaves of each row (key channel) of the state, at most 0: row i of S_(t-1) is
        multiplied by ``exp(gate[b, h, t, i])``. 0 by default. With a decay too, both apply.
    scale : float
        Factor on every output; None means ``D ** -0.5``.
    initial_state : array of shape (B, H, D, D), any of these dtypes, optional
        ``S[i, j]``, key channel i and value channel j, before the first token; zeros by default.
    return_state : bool
        Whether to return the state after the last token too: the next call's `initial_state`.
    rung : str, optional
        One of `FORWARD`. A rung asked for by name runs or raises. The default is ``tiled`` for NumPy arrays and the
        fastest kernel that takes these inputs for arrays on a GPU.

    Returns
    -------
    o : array of shape (B, H, T, D), of q's kind and dtype
    state : array of shape (B, H, D, D), of q's kind, float32 (float64 for float64 inputs); only if `return_state`

    Raises
    ------
    ShapeError
        If a shape does not fit, or D is too wide for the rung.
    DtypeError
        If dtypes differ or the rung does not take them.
    DeviceError
        If arrays live in different places, or the rung cannot run where they live.
    ValueError
        If there is no rung of that name, a decay is not in (0, 1], or a gate is more than 0.

    Notes
    -----
    States, decays and gates are float32 inside (float64 for float64 inputs). On a GPU, looking at decays and gates
    would make the host wait for them: there they are used as they are. Work 4*B*H*T*D*D FLOP, constant a token; HBM
    traffic of each rung in `minikernels.linear_attention.traffic`.

    References
    ----------
    .. [1] Qin et al., Lightning Attention-2, arXiv:2401.04658.
    .. [2] Yang et al., Gated Linear Attention, arXiv:2312.06635.

    Examples
    --------
    >>> q = k = v = np.ones((1, 1, 3, 1), np.float32)
    >>> attention(q, k, v, decay=np.array([0.5], np.float32))[0, 0, :, 0]
    array([1.  , 1.5 , 1.75], dtype=float32)
    """
    FORWARD.check_name(rung)
    (q, k, v, decay, gate, initial_state), like, place = gathered(
        q=q, k=k, v=v, decay=decay, gate=gate, initial_state=initial_state)
    sizes = bound(q, k, v, decay, gate, initial_state)
    FORWARD.check_place(rung, place)
    decay, initial_state = prepared(q, decay, gate, initial_state, place)
    scale = score_scale(scale, sizes["D"])
    if 0 in sizes.values():
        o, state = np.zeros_like(q), untouched(q, initial_state)
    else:
        rung = rung or ("tiled" if place == "cpu" else fastest_on_gpu(q, k, v, gate))
        FORWARD.check_dtype(rung, q=q)
        if gate is not None and FORWARD.kind(rung) != "numpy":
            same_dtype(GATES, gate=gate)
        given = (bool(return_state),) if FORWARD.kind(rung) != "numpy" else ()
        o, state = FORWARD.function(rung)(q, k, v, decay, gate, scale, initial_state, *given)
    o = back(o.astype(q.dtype, copy=False), like)
    return (o, back(state.astype(accumulator(q.dtype), copy=False), like)) if return_state else o


def attention_backward(q, k, v, do, *, decay=None, gate=None, scale=1.0, initial_state=None, dstate=None, rung=None):
    """Return the gradients of a loss by q, k, v and, where they are given, the gates and the initial state.

    Parameters
    ----------
    q, k, v, decay, gate, scale, initial_state
        As in `attention`. Decays are constants here; what a head keeps is learned through gates.
    do : array of shape (B, H, T, D), of q's dtype
        Gradient of the loss by o.
    dstate : array of shape (B, H, D, D), optional
        Gradient of the loss by the last state; zeros by default.
    rung : str, optional
        One of `BACKWARD`. The default is ``tiled`` for NumPy arrays and ``v1_recurrent`` on a GPU.

    Returns
    -------
    dq, dk, dv : array of shape (B, H, T, D), of q's kind and dtype
    dgate : array of shape (B, H, T, D), of the gate's dtype; only if there is a gate
    dinitial_state : array of shape (B, H, D, D), float32 (float64 for float64 inputs); only if there is one

    Raises
    ------
    ShapeError, DtypeError, DeviceError, ValueError
        As in `attention`.

    Notes
    -----
    The forward pass in reverse: the gradient of the state runs from the last token to the first. Nothing of the forward
    pass is needed but its inputs. The equations stand in `reference_backward.attention_backward`.

    References
    ----------
    .. [1] Yang et al., Gated Linear Attention, arXiv:2312.06635, section 4.4.
    """
    BACKWARD.check_name(rung)
    (q, k, v, do, decay, gate, initial_state, dstate), like, place = gathered(
        q=q, k=k, v=v, do=do, decay=decay, gate=gate, initial_state=initial_state, dstate=dstate)
    sizes = bound(q, k, v, decay, gate, initial_state, do=do, dstate=dstate)
    BACKWARD.check_place(rung, place)
    decay, begun = prepared(q, decay, gate, initial_state, place)
    dstate, scale = wide(q, dstate), score_scale(scale, sizes["D"])
    if 0 in sizes.values():
        grads = (*(np.zeros_like(x) for x in (q, k, v)), None if gate is None else np.zeros_like(gate),
                 untouched(q, dstate))
    else:
        rung = rung or ("tiled" if place == "cpu" else "v1_recurrent")
        BACKWARD.check_dtype(rung, q=q)
        if gate is not None and BACKWARD.kind(rung) != "numpy":
            same_dtype(GATES, gate=gate)
        grads = BACKWARD.function(rung)(q, k, v, do, decay, gate, scale, begun, dstate)
    found = [x.astype(q.dtype, copy=False) for x in grads[:3]]
    if gate is not None:
        found.append(grads[3].astype(gate.dtype, copy=False))
    if initial_state is not None:
        found.append(grads[4].astype(accumulator(q.dtype), copy=False))
    return tuple(back(x, like) for x in found)


def bound(q, k, v, decay, gate, initial_state, do=None, dstate=None):
    """Return the sizes by letter, or raise ShapeError or DtypeError in letters."""
    arrays = {"q": (q, "BHTD"), "k": (k, "BHTD"), "v": (v, "BHTD"), "do": (do, "BHTD"), "decay": (decay, "H"),
              "gate": (gate, "BHTD"), "initial_state": (initial_state, "BHDD"), "dstate": (dstate, "BHDD")}
    sizes = bind(**{name: pair for name, pair in arrays.items() if pair[0] is not None})
    same_dtype(FLOATS, q=q, k=k, v=v, **({} if do is None else {"do": do}))
    for name in ("decay", "gate", "initial_state", "dstate"):
        if arrays[name][0] is not None:
            same_dtype(FLOATS, **{name: arrays[name][0]})
    return sizes


def prepared(q, decay, gate, initial_state, place):
    """Return decay and initial state in float32 or wider, beside q; ValueError where a decay or gate is none."""
    if place == "cpu":
        refuse_first("decay", decay, lambda x: (x <= 0) | (x > 1), "it must be in (0, 1]")
        refuse_first("gate", gate, lambda x: x > 0, "a log-gate is at most 0")
    if decay is None:
        decay = np.ones_like(q, dtype=accumulator(q.dtype), shape=(q.shape[1],))
    return wide(q, decay), wide(q, initial_state)


def refuse_first(name, x, wrong, rule):
    """Raise ValueError that names the first element of an array for which ``wrong`` holds."""
    if x is not None and (bad := wrong(x)).any():
        index = np.unravel_index(int(np.argmax(bad)), x.shape)
        raise ValueError(f"{name}[{', '.join(map(str, index))}] is {x[index]:g}; {rule}")


def wide(q, x):
    """Return an array in float32, or wider where q is; None stays None."""
    return None if x is None else x.astype(accumulator(q.dtype), copy=False)


def untouched(q, initial_state):
    """Return the last state where no token came: the initial one, or zeros."""
    (B, H, _, D), dtype = q.shape, accumulator(q.dtype)
    return np.zeros_like(q, dtype=dtype, shape=(B, H, D, D)) if initial_state is None else initial_state.copy()


def fastest_on_gpu(q, k, v, gate=None):
    """Return the name of the fastest rung that takes these CuPy arrays on this GPU."""
    try:
        import_module("minikernels.linear_attention.raw").check(q, k, v, "v4_split_along_time")
    except (ShapeError, DtypeError):
        wide_enough = import_module("minikernels.linear_attention.numba_chunk").WIDTH_LIMIT
        return "v2_chunk" if q.shape[3] <= wide_enough else "v1_recurrent"
    if architecture() == HOPPER["min_arch"]:
        return "v5_wgmma" if gate is None else "v6_factored_gates"
    return "v4_split_along_time" if architecture() >= RAW_NEEDS else "v2_chunk"
