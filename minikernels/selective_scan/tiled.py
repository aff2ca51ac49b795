"""The selective scan in NumPy, in a kernel's own loop order: a chunk of tokens at once, a state from chunk to chunk.

``hbm`` in a comment marks what a kernel would read from or write to HBM; everything else would live in shared memory
and registers.
"""

import numpy as np

from minikernels.core.numerics import accumulator
from minikernels.selective_scan.gates import silu, step_sizes
from minikernels.selective_scan.operators import affine, blelloch

CHUNK = 32  # tokens


def scan(u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state, chunk=CHUNK):
    """Return o in u's dtype and the last state.

    Differs from reference: the tokens of a chunk do not wait for one another. A token is the map
    ``h -> decay * h + drive``, and a prefix scan composes the maps of a chunk; the state before the chunk is put in
    last. Nothing of size (B, T, E, N) exists, but for a chunk.

    Parameters
    ----------
    u, delta, a, b, c, d, z, delta_bias, delta_softplus, initial_state
        As in `reference.scan`.
    chunk : int
        Tokens of a chunk.

    Notes
    -----
    HBM bytes: `traffic.tiled`.
    """
    (B, T), wide = u.shape[:2], accumulator(u.dtype)
    a = a.astype(wide)  # hbm read
    h = np.zeros((B, *a.shape), wide) if initial_state is None else initial_state.astype(wide)  # hbm read
    o = np.full(u.shape, np.nan, u.dtype)
    for first in range(0, T, chunk):
        tokens = slice(first, first + chunk)
        tiles = (x[:, tokens].swapaxes(0, 1).astype(wide) for x in (u, delta, b, c))  # hbm read: (tokens, B, E or N)
        u_tile, delta_tile, b_tile, c_tile = tiles
        step = step_sizes(delta_tile, delta_bias, delta_softplus)
        leaves = np.exp(step[..., None] * a), (step * u_tile)[..., None] * b_tile[:, :, None]
        (decay, drive), _ = blelloch(affine, leaves)
        states = decay * h + drive  # (tokens, B, E, N)
        h = states[-1]
        y = (states * c_tile[:, :, None]).sum(axis=-1)
        y = y if d is None else y + d * u_tile
        if z is not None:
            y = y * silu(z[:, tokens].swapaxes(0, 1).astype(wide))  # hbm read
        o[:, tokens] = y.swapaxes(0, 1)  # hbm write
    return o, h
