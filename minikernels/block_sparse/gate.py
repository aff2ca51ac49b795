"""SeerAttention's gate: block scores from pooled queries and keys, which decide what blocks are worth computing.

A block of queries, and one of keys, is pooled by mean, maximum and minimum (3 D numbers); a linear map a head takes
each to W numbers; the softmax of their products is a small map of scores, one number a block. The map is trained to be
what true attention, pooled to blocks, looks like (`minikernels.block_sparse.distill`).
"""

from typing import NamedTuple

import numpy as np

from minikernels.block_sparse.lists import check_block, reach
from minikernels.core.errors import DeviceError, ShapeError
from minikernels.core.numerics import FLOATS, softmax
from minikernels.core.shapes import bind, same_dtype

__all__ = ["Gate", "features", "scores", "untrained"]


class Gate(NamedTuple):
    """The weights of one layer's gate.

    Attributes
    ----------
    query, key : ndarray of shape (H, 3*D, W), float32
        Linear maps of pooled queries and of pooled keys, one a query head.
    """

    query: np.ndarray
    key: np.ndarray


def untrained(H, D):
    """Return the gate that training starts from, with W = D: mean query against mean key."""
    mean = np.broadcast_to(np.concatenate([np.eye(D), np.zeros((2 * D, D))]), (H, 3 * D, D)).astype(np.float32)
    return Gate(mean, mean.copy())


def features(x, size):
    """Return mean, maximum and minimum over blocks of `size` tokens: (B, H, T, D) to (B, H, ceil(T/size), 3*D).

    >>> features(np.array([[[[1.0], [3.0], [5.0]]]]), 2)[0, 0]
    array([[2., 3., 1.],
           [5., 5., 5.]])
    """
    starts = np.arange(0, x.shape[2], size)
    lengths = np.diff(np.append(starts, x.shape[2])).astype(x.dtype)[:, None]
    mean = np.add.reduceat(x, starts, axis=2) / lengths
    extremes = [pick.reduceat(x, starts, axis=2) for pick in (np.maximum, np.minimum)]
    return np.concatenate([mean, *extremes], axis=3)


def scores(q, k, block, gate=None, causal=True):
    """Return how much attention the gate expects of every block: softmax over a row's blocks.

    Parameters
    ----------
    q : ndarray of shape (B, H, T, D)
        Queries.
    k : ndarray of shape (B, G, S, D)
        Keys; query head h reads head ``h // (H / G)``.
    block : (int, int)
        R queries by C keys.
    gate : Gate, optional
        `untrained` by default.
    causal : bool
        Whether blocks without a key that the row of blocks sees get 0.

    Returns
    -------
    ndarray of shape (B, H, ceil(T/R), ceil(S/C)), float32 or wider
        A row adds up to 1, or to 0 if it sees nothing.

    Raises
    ------
    ShapeError, DtypeError
        If shapes or dtypes do not fit.
    DeviceError
        If q or k lives on a GPU.

    Notes
    -----
    ``softmax(pool(q) Wq (pool(k) Wk)^T / sqrt(W))``, section 3 of [1]_. Work 6*(T/R + S/C)*D*W + 2*(T/R)*(S/C)*W FLOP a
    head, against the 4*T*S*D of dense attention.

    References
    ----------
    .. [1] Gao et al., SeerAttention, arXiv:2410.13276.
    """
    sizes = bind(q=(q, "BHTD"), k=(k, "BGSD"))
    sizes.divides("G", "H")
    same_dtype(FLOATS, q=q, k=k)
    for name, x in (("q", q), ("k", k)):
        if not isinstance(x, np.ndarray):
            raise DeviceError(f"{name} is no NumPy array, and the gate is NumPy's alone; pass cupy.asnumpy({name})")
    (H, T, S, D), (R, C) = sizes.unpack("HTSD"), check_block(block)
    gate = untrained(H, D) if gate is None else gate
    for name, w in zip(gate._fields, gate, strict=True):
        if w.ndim != 3 or w.shape[:2] != (H, 3 * D):
            raise ShapeError(f"gate.{name} has shape {w.shape}; it must be (H, 3*D, W) with H={H} and D={D}")
    widths = [w.shape[2] for w in gate]
    if widths[0] != widths[1] or widths[0] == 0:
        raise ShapeError(f"gate.query has W={widths[0]} and gate.key W={widths[1]}; they must be equal, and not 0")
    if 0 in (T, S, D):
        return np.zeros((q.shape[0], H, -(-T // R), -(-S // C)), np.float32)
    wide = np.result_type(q.dtype, np.float32)
    q, k = q.astype(wide), np.repeat(k.astype(wide), H // k.shape[1], axis=1)
    logits = logits_of(features(q, R), features(k, C), gate)
    seen, _ = reach(q, T, S, (R, C), causal)
    return softmax(np.where(seen, logits, -np.inf))[0]


def logits_of(pooled_q, pooled_k, gate):
    """Return the gate's scores before the softmax, (B, H, rows, columns), from pooled queries and keys."""
    W = gate.query.shape[-1]
    return (pooled_q @ gate.query) @ (pooled_k @ gate.key).swapaxes(-1, -2) * pooled_q.dtype.type(W**-0.5)
