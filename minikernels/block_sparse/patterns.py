"""Masks of blocks: which keys a block of queries may look at, by position or by content.

A pattern by position is a rule for cells: query t sees key s if the distance ``t + S - T - s`` or the places t and s
obey it. The mask keeps every block that holds such a cell, so a block may show more than the rule asks for. Masks have
shape (1, 1, ceil(T/R), ceil(S/C)), or more sequences and heads where chance or content decides.
Most know nothing of causality, which `attention` adds: blocks in the future cost nothing.
"""

import numpy as np

from minikernels.block_sparse import gate as gates
from minikernels.block_sparse.lists import check_block
from minikernels.core.errors import ShapeError

__all__ = ["best", "bigbird", "from_gate", "local", "random", "streaming", "strided"]


def local(T, S, *, block, window):
    """Return the mask of blocks with a key less than `window` tokens away.

    Parameters
    ----------
    T, S : int
        Queries and keys.
    block : (int, int)
        R queries by C keys.
    window : int
        ``window=1`` sees the token itself alone, ``window=0`` nothing.

    Returns
    -------
    ndarray of shape (1, 1, ceil(T/R), ceil(S/C)), bool

    Examples
    --------
    >>> local(8, 8, block=(2, 2), window=2)[0, 0].astype(int)
    array([[1, 1, 0, 0],
           [1, 1, 1, 0],
           [0, 1, 1, 1],
           [0, 0, 1, 1]])
    """
    check(T=T, S=S, window=window)
    nearest, farthest = distances(T, S, block)
    return ((nearest < window) & (farthest > -window) & (window > 0))[None, None]


def strided(T, S, *, block, window, stride):
    """Return `local` and every key whose distance is a multiple of `stride`.

    The strided pattern of [1]_: with a stride near the root of S, any key is two steps away from any query.

    References
    ----------
    .. [1] Child et al., Generating Long Sequences with Sparse Transformers, arXiv:1904.10509.

    Examples
    --------
    >>> strided(8, 8, block=(1, 1), window=1, stride=3)[0, 0, 7].astype(int)
    array([0, 1, 0, 0, 1, 0, 0, 1])
    """
    check(T=T, S=S, window=window, stride=stride)
    nearest, farthest = distances(T, S, block)
    return local(T, S, block=block, window=window) | (farthest // stride * stride >= nearest)


def bigbird(T, S, *, block, window, anchors, extra, heads=1, seed=0):
    """Return `local`, the first tokens as global ones, and some blocks at random in every row.

    Parameters
    ----------
    T, S, block, window
        As in `local`.
    anchors : int
        That many first tokens see all keys, and all queries see that many first keys.
    extra : int
        Blocks a row that are drawn at random, among all its blocks.
    heads : int
        Heads that draw differently: the mask's second axis.
    seed : int

    References
    ----------
    .. [1] Zaheer et al., Big Bird: Transformers for Longer Sequences, section 2, arXiv:2007.14062.

    Examples
    --------
    >>> bigbird(8, 8, block=(2, 2), window=1, anchors=1, extra=0)[0, 0].astype(int)
    array([[1, 1, 1, 1],
           [1, 1, 0, 0],
           [1, 0, 1, 0],
           [1, 0, 0, 1]])
    """
    check(T=T, S=S, window=window, anchors=anchors, extra=extra, heads=heads)
    mask = np.repeat(local(T, S, block=block, window=window), heads, axis=1)
    mask[:, :, : -(-anchors // block[0])] = True
    mask[..., : -(-anchors // block[1])] = True
    drawn = np.argsort(np.random.default_rng(seed).random(mask.shape), axis=-1)[..., :extra]
    np.put_along_axis(mask, drawn, True, axis=-1)
    return mask


def streaming(T, S, *, block, sinks, window):
    """Return the first `sinks` keys and the newest `window`, the query's own among them.

    References
    ----------
    .. [1] Xiao et al., Efficient Streaming Language Models with Attention Sinks, arXiv:2309.17453.

    Examples
    --------
    >>> streaming(8, 8, block=(2, 2), sinks=1, window=2)[0, 0].astype(int)
    array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [1, 1, 1, 0],
           [1, 0, 1, 1]])
    """
    check(T=T, S=S, sinks=sinks, window=window)
    nearest, farthest = distances(T, S, block)
    mask = (nearest < window) & (farthest >= 0) & (window > 0)
    mask[:, : -(-sinks // block[1])] = True
    return mask[None, None]


def random(T, S, *, block, density, batch=1, heads=1, seed=0):
    """Return as many blocks of every row as `density` says (rounded; at least one if it is not 0), drawn at random.

    Parameters
    ----------
    T, S, block
        As in `local`.
    density : float
        Share of a row's blocks, 0 to 1.
    batch, heads : int
        The mask's first two axes; each sequence and head draws for itself.
    seed : int

    Examples
    --------
    >>> random(64, 64, block=(16, 16), density=0.5).sum(axis=3)[0, 0]
    array([2, 2, 2, 2])
    """
    check(T=T, S=S, batch=batch, heads=heads)
    check_share(density=density)
    R, C = check_block(block)
    shape = batch, heads, -(-T // R), -(-S // C)
    count = max(round(density * shape[3]), density > 0)
    rank = np.argsort(np.argsort(np.random.default_rng(seed).random(shape), axis=-1), axis=-1)
    return rank < count


def from_gate(q, k, *, block, gate=None, top_k=None, density=None, threshold=None, causal=True):
    """Return the blocks that a gate finds worth looking at: SeerAttention.

    Parameters
    ----------
    q : ndarray of shape (B, H, T, D)
        Queries.
    k : ndarray of shape (B, G, S, D)
        Keys.
    block : (int, int)
        R queries by C keys.
    gate : Gate, optional
        Trained weights (`minikernels.block_sparse.gate`); mean query against mean key by default.
    top_k : int, optional
        Blocks to keep in each row: those of the largest scores.
    density : float, optional
        Keep that share, 0 to 1, of the blocks that a row sees, rounded up.
    threshold : float, optional
        Keep the blocks whose score, a share of the row's 1, is at least this. One of the three must be given.
    causal : bool
        Whether blocks in the future are left out of the softmax.

    Returns
    -------
    ndarray of shape (B, H, ceil(T/R), ceil(S/C)), bool
        The block or blocks on the diagonal are always kept (and count among those).

    References
    ----------
    .. [1] Gao et al., SeerAttention, arXiv:2410.13276.

    Examples
    --------
    >>> q = np.eye(4, dtype=np.float32).reshape(1, 1, 4, 4)
    >>> from_gate(q, q[:, :, ::-1], block=(1, 1), top_k=2, causal=False)[0, 0].astype(int)
    array([[1, 0, 0, 1],
           [0, 1, 1, 0],
           [0, 1, 1, 0],
           [1, 0, 0, 1]])
    """
    return best(gates.scores(q, k, block, gate, causal), q.shape[2], k.shape[2], block, top_k=top_k, density=density,
                threshold=threshold, causal=causal)


def best(score, T, S, block, *, top_k=None, density=None, threshold=None, causal=True):
    """Return the mask of the blocks with the largest scores (..., ceil(T/R), ceil(S/C)); options as in `from_gate`."""
    if sum(value is not None for value in (top_k, density, threshold)) != 1:
        raise ShapeError(f"give one of top_k, density and threshold; they are {top_k}, {density} and {threshold}")
    nearest, farthest = distances(T, S, block)
    diagonal, seen = (nearest <= 0) & (farthest >= 0), (farthest >= 0) | (not causal)
    if threshold is not None:
        check_share(threshold=threshold)
        return ((score >= threshold) | diagonal) & seen
    if density is None:
        check(top_k=top_k)
    else:
        check_share(density=density)
        share = density * np.sum(seen, axis=1, keepdims=True)
        top_k = np.ceil(share * (1 - 1e-12))  # 0.07 * 100 is a little more than 7
    order = np.argsort(np.where(diagonal, -np.inf, np.where(seen, -score, np.inf)), axis=-1, kind="stable")
    rank = np.argsort(order, axis=-1, kind="stable")
    return ((rank < top_k) | diagonal) & seen


def distances(T, S, block):
    """Return each block's least and greatest distance ``t + S - T - s``, two arrays (ceil(T/R), ceil(S/C))."""
    R, C = check_block(block)
    i, j = np.arange(0, T, R)[:, None], np.arange(0, S, C)
    shift = S - T
    return i + shift - (np.minimum(j + C, S) - 1), np.minimum(i + R, T) - 1 + shift - j


def check(**sizes):
    """Raise ShapeError unless every size is an integer of at least 0 (a stride: 1)."""
    for name, size in sizes.items():
        least = 1 if name in ("stride", "heads", "batch") else 0
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < least:
            raise ShapeError(f"{name} is {size!r}; it must be an integer of at least {least}")


def check_share(**shares):
    """Raise ShapeError unless every share is a number from 0 to 1."""
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, (int, float, np.number)) or not 0 <= share <= 1:
            raise ShapeError(f"{name} is {share!r}; it must be a number from 0 to 1")
