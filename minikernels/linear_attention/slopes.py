"""The decay rates that Lightning Attention and TransNormerLLM give their heads."""

import numpy as np

from minikernels.core.errors import ShapeError


def slopes(heads, *, layer=0, layers=1):
    """Return each head's slope s: the rate at which its state fades, ``decay = np.exp(-slopes(H))``.

    Parameters
    ----------
    heads : int
        H.
    layer, layers : int
        Which layer of how many: later layers fade more slowly.

    Returns
    -------
    ndarray of shape (H,), float32
        ``2 ** (-8 (h + 1) / H) * (1 - layer / layers)`` for h = 0 .. H - 1: from fast heads, which see a few tokens, to
        slow ones, which see some hundreds (1 / s is about as far as a head looks back).

    Notes
    -----
    The slopes of ALiBi, as the models of [1]_ and [2]_ take them, times the layer's factor of [1]_, section 3.1.

    References
    ----------
    .. [1] Qin et al., TransNormerLLM, arXiv:2307.14995.
    .. [2] Qin et al., Lightning Attention-2, arXiv:2401.04658.

    Examples
    --------
    >>> slopes(4)
    array([0.25      , 0.0625    , 0.015625  , 0.00390625], dtype=float32)
    """
    for name, number in (("heads", heads), ("layers", layers)):
        if number < 1:
            raise ShapeError(f"{name} is {number}; it must be at least 1")
    if not 0 <= layer < layers:
        raise ShapeError(f"layer is {layer}; there are layers 0 to {layers - 1}")
    rate = 2.0 ** (-8 * np.arange(1, heads + 1) / heads)
    return (rate * (1 - layer / layers)).astype(np.float32)
