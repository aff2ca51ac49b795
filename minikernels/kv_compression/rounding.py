"""Asymmetric rounding of groups of numbers to 8 or 4 bits, and the packing of 4-bit codes: plain functions of arrays.

Everything here takes NumPy's or CuPy's arrays. A group is ``group`` neighbouring tokens of one channel (axis "channel")
or ``group`` neighbouring channels of one token (axis "token"); its least number is its minimum, a 2**bits - 1th of its
range its scale.
"""

import numpy as np

AXES = ("channel", "token")
WIDER = {"float16": np.float32, "float32": np.float64, "float64": np.float64}  # in which a group's range is taken


def encode(x, bits, axis, group):
    """Return codes, scales and minima of x (B, G, N, D): ``x ~ minimum + scale * code``.

    Parameters
    ----------
    x : array of shape (B, G, N, D), a float dtype
        N is a multiple of `group` for axis "channel".
    bits : int
    axis : {"channel", "token"}
    group : int

    Returns
    -------
    codes : array of shape (B, G, N, D), uint8
        0 to 2**bits - 1.
    scales, minima : array of shape (B, G, N / group, D) or (B, G, N, ceil(D / group)), x's dtype
        A scale is rounded up, so that the code of a group's largest number is not above the highest: every number is
        off by at most half a scale.

    Notes
    -----
    A group whose numbers are all equal has the scale 0 and is exact. One that holds a NaN or an infinity has a minimum
    or a scale that is none either, as ``min`` and ``max`` say, and comes back as NaN.
    """
    (B, G, N, D), levels = x.shape, 2**bits - 1
    wide = WIDER[x.dtype.name]
    if axis == "channel":
        y, along = x.reshape(B, G, N // group, group, D), 3
    else:
        width = max(1, min(group, D))
        count = -(-D // width)
        column = np.asarray(np.minimum(np.arange(count * width), D - 1), like=x)  # the last one fills the last group
        y, along = x[..., column].reshape(B, G, N, count, width), 4
    low, high = (f(axis=along, keepdims=True).astype(wide) for f in (y.min, y.max))
    with np.errstate(invalid="ignore", over="ignore"):
        step = rounded_up((high - low) / levels, x.dtype)
        place = np.rint((y.astype(wide) - low) / np.where(step == 0, 1, step))
        codes = np.clip(np.nan_to_num(place, nan=0, posinf=0, neginf=0), 0, levels).astype(np.uint8)
    codes = codes.reshape(B, G, N, D) if axis == "channel" else codes.reshape(B, G, N, y.shape[3] * y.shape[4])[..., :D]
    return codes, step.squeeze(along).astype(x.dtype), low.squeeze(along).astype(x.dtype)


def rounded_up(x, dtype):
    """Return non-negative numbers rounded to the next of `dtype` that is not less, in x's own dtype."""
    near, info = x.astype(dtype).astype(x.dtype), np.finfo(dtype)
    next_up = near * (1 + 0.6 * float(info.eps)) + float(info.smallest_subnormal)  # 0.6 to 1.2 units in the last place
    above = next_up.astype(dtype).astype(x.dtype)
    return np.where(near < x, above, near)


def pack(codes, bits):
    """Return codes (..., D), uint8, as bytes (..., ceil(D * bits / 8)); of two 4-bit codes the first stands low.

    >>> pack(np.array([1, 2, 15], np.uint8), 4)
    array([33, 15], dtype=uint8)
    """
    if bits == 8:
        return codes
    D = codes.shape[-1]
    low, high = np.zeros_like(codes, shape=(2, *codes.shape[:-1], (D + 1) // 2))
    low[...], high[..., : D // 2] = codes[..., ::2], codes[..., 1::2]
    return low | high << 4


def unpack(packed, bits, D):
    """Return the codes (..., D), uint8, that `pack` was given.

    >>> unpack(np.array([33, 15], np.uint8), 4, 3)
    array([ 1,  2, 15], dtype=uint8)
    """
    if bits == 8:
        return packed
    both = np.stack((packed & 15, packed >> 4), axis=-1)
    return both.reshape(*packed.shape[:-1], 2 * packed.shape[-1])[..., :D]


def spread(x, axis, group, start, stop, D):
    """Return scales or minima as they apply to each number of the tokens start to stop - 1: an array (B, G, n, D).

    Parameters
    ----------
    x : array of shape (B, G, N / group, D) or (B, G, N, ceil(D / group))
    axis, group
        As in `encode`.
    start, stop, D : int
    """
    if axis == "channel":
        return x[:, :, np.asarray(np.arange(start, stop) // group, like=x)]
    return x[:, :, start:stop, np.asarray(np.arange(D) // group, like=x)]
