"""Plain NumPy approximations of attention, to measure what each costs; the techniques' folders have the fast ones.

Each factory returns an ``attention(q, k, v, layer)`` or a ``hook(layer, inputs)`` for ``Model.loss``. The model was
trained for none of them.
"""

import functools

import numpy as np

from minikernels.core.errors import ShapeError

__all__ = ["keep_blocks", "merge", "probabilities", "quantise", "round_to_bits", "window"]

ROWS = 256


def probabilities(q, k, allowed):
    """Return softmax attention weights (B, H, T, S) over the allowed pairs (T, S) or (B, H, T, S)."""
    B, H, T, D = q.shape
    k = np.repeat(k, H // k.shape[1], axis=1)
    s = np.where(allowed, (q * np.float32(D**-0.5)) @ k.swapaxes(-1, -2), np.float32(-np.inf))
    p = np.exp(s - s.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def _in_rows(rows):
    """Run an attention on `rows` queries at a time, each with no more keys than its last row sees.

    The scores of a whole context would be 0.1 GB.
    """

    def decorate(attention):
        @functools.wraps(attention)
        def blocked(q, k, v, layer):
            T, S = q.shape[2], k.shape[2]
            parts = [
                attention(
                    q[:, :, start : start + rows], *(x[:, :, : S - T + min(start + rows, T)] for x in (k, v)), layer
                )
                for start in range(0, T, rows)
            ]
            return np.concatenate(parts, axis=2)

        return blocked

    return decorate


def window(kept, sinks=4):
    """Return attention to the first `sinks` keys and the newest `kept` alone."""

    @_in_rows(ROWS)
    def attention(q, k, v, layer):
        t, s = _pairs(q, k)
        allowed = (s <= t) & ((s > t - kept) | (s < sinks))
        return probabilities(q, k, allowed) @ _repeat(v, q)

    return attention


def keep_blocks(density, block=64, choose="mass"):
    """Return attention to a share of the causal blocks; the block on the diagonal is always among them.

    Parameters
    ----------
    density : float
        Share of each row of blocks to keep, rounded up.
    block : int
        Rows and columns of a block.
    choose : {"mass", "pooled", "local"}
        The blocks that hold the most attention (an oracle: it computes all of it first); those whose mean key meets
        the mean query best; or the newest.
    """
    if choose not in ("mass", "pooled", "local"):
        raise ValueError(f"choose is {choose!r}; it is 'mass', 'pooled' or 'local'")

    @_in_rows(block * max(1, ROWS // block))
    def attention(q, k, v, layer):
        if (k.shape[2] - q.shape[2]) % block:
            raise ShapeError(
                f"q has T={q.shape[2]} and k has S={k.shape[2]}; S - T must be a multiple of the block of {block}"
            )
        t, s = _pairs(q, k)
        p = probabilities(q, k, s <= t)
        kept = np.repeat(np.repeat(_chosen(q, k, p, density, block, choose), block, axis=-2), block, axis=-1)
        p *= kept[..., : p.shape[-2], : p.shape[-1]]
        return (p / p.sum(axis=-1, keepdims=True)) @ _repeat(v, q)

    return attention


def block_mass(p, block):
    """Return the attention weights (B, H, T, S) summed over blocks; a ragged edge is a smaller block."""
    edges = [np.arange(0, size, block) for size in p.shape[-2:]]
    return np.add.reduceat(np.add.reduceat(p, edges[0], axis=-2), edges[1], axis=-1)


def _chosen(q, k, p, density, block, choose):
    """Return which blocks (B, H, rows, columns) to keep."""
    mass = block_mass(p, block)
    column = np.arange(mass.shape[-1])
    row = column[mass.shape[-1] - mass.shape[-2] :, None]
    if choose == "local":
        mass = np.broadcast_to(column.astype(np.float32), mass.shape).copy()
    elif choose == "pooled":
        mass = _pooled(q, block) @ np.repeat(_pooled(k, block), q.shape[1] // k.shape[1], axis=1).swapaxes(-1, -2)
    mass = np.where(column < row, mass, np.where(column == row, np.inf, -np.inf))
    rank = np.argsort(np.argsort(-mass, axis=-1, kind="stable"), axis=-1, kind="stable")
    kept = np.ceil(density * (row + 1) * (1 - 1e-12))  # 0.07 * 100 is a little more than 7
    return (rank < kept) & (column <= row)


def _pooled(x, block):
    """Return the mean of x (B, H, T, D) over blocks of T."""
    starts = np.arange(0, x.shape[2], block)
    sizes = np.diff(np.append(starts, x.shape[2]))
    return np.add.reduceat(x, starts, axis=2) / sizes[:, None].astype(x.dtype)


def merge(ratio, recent=64):
    """Return attention in which keys and values older than `recent` are averaged, `ratio` neighbours into one slot."""

    @_in_rows(ROWS)
    def attention(q, k, v, layer):
        t, s = _pairs(q, k)
        slots = k.shape[2] // ratio
        merged = [
            np.mean(x[:, :, : slots * ratio].reshape(*x.shape[:2], slots, ratio, x.shape[3]), axis=3) for x in (k, v)
        ]
        # A slot serves the queries from which all its tokens are at least `recent` away; its tokens serve the others.
        last = np.arange(slots) * ratio + ratio - 1
        old = last <= t - recent
        covered = np.repeat(old, ratio, axis=1)
        covered = np.pad(covered, ((0, 0), (0, k.shape[2] - covered.shape[1])))
        allowed = np.concatenate((old, (s <= t) & ~covered), axis=1)
        k, v = np.concatenate((merged[0], k), axis=2), np.concatenate((merged[1], v), axis=2)
        return probabilities(q, k, allowed) @ _repeat(v, q)

    return attention


def quantise(bits, key_axis="channel", value_axis="token", group=64):
    """Return a hook that rounds every attention layer's keys and values to `bits`, asymmetric, in groups.

    Parameters
    ----------
    bits : int
        Of each number.
    key_axis, value_axis : {"channel", "token"}
        One scale for `group` tokens of a channel, or for the channels (at most `group`) of a token.
    group : int
        Numbers that share a scale.
    """

    def hook(layer, inputs):
        if "k" not in inputs.keys():
            return None
        k, v = (round_to_bits(x, bits, axis, group) for x, axis in ((inputs.k, key_axis), (inputs.v, value_axis)))
        return type(inputs)(inputs.q, k, v)

    return hook


def round_to_bits(x, bits, axis, group=64):
    """Return x (B, G, S, D) rounded to 2**bits levels between each group's least and greatest number."""
    if axis not in ("channel", "token"):
        raise ValueError(f"axis is {axis!r}; it is 'channel' or 'token'")
    along = x.swapaxes(-1, -2) if axis == "channel" else x
    starts = np.arange(0, along.shape[-1], group)
    sizes = np.diff(np.append(starts, along.shape[-1]))
    low, high = (np.repeat(f.reduceat(along, starts, axis=-1), sizes, axis=-1) for f in (np.minimum, np.maximum))
    step = np.maximum(high - low, np.float32(1e-12)) / np.float32(2**bits - 1)
    rounded = np.round((along - low) / step) * step + low
    return rounded.swapaxes(-1, -2) if axis == "channel" else rounded


def _pairs(q, k):
    """Return the query and key indices as a column and a row; the last query is the newest key's."""
    T, S = q.shape[2], k.shape[2]
    return np.arange(S - T, S)[:, None], np.arange(S)


def _repeat(v, q):
    """Return v (B, G, S, D) as (B, H, S, D)."""
    return np.repeat(v, q.shape[1] // v.shape[1], axis=1)
