"""A key or value cache in 8 or 4 bits: what it holds, how tokens enter it, and how they are read again."""

import numbers
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minikernels.core.errors import DtypeError, ShapeError
from minikernels.core.numerics import FLOATS
from minikernels.core.shapes import bind, same_dtype
from minikernels.kv_compression.rounding import AXES, WIDER, encode, pack, spread, unpack
from minikernels.launch import back, gathered

__all__ = ["ARRAYS", "QuantizedCache", "quantize"]

ARRAYS = ("codes", "scales", "minima", "recent")


@dataclass(eq=False)
class QuantizedCache:
    """Keys or values of S tokens: the older N as codes in groups, the newest S - N as they came.

    Tokens join `recent`. When a whole `group` of them is older than the `window` newest, they are rounded together. A
    number is ``minimum + scale * code``, asymmetric, with one scale and minimum for `group` tokens of a channel (keys,
    whose channels differ in size) or `group` channels of a token (values).

    Attributes
    ----------
    codes : array of shape (B, G, N, ceil(D * bits / 8)), uint8
        Of two 4-bit codes in a byte, the even channel's stands in the lower half. N is a multiple of `group`.
    scales, minima : array of shape (B, G, N / group, D) for axis "channel", (B, G, N, ceil(D / group)) for "token"
        In the dtype that the tokens came in: 16 bits each for a float16 cache.
    recent : array of shape (B, G, S - N, D)
        The residual window, in that dtype.
    bits : int
        8 or 4.
    axis : str
        "channel" or "token".
    group : int
        Numbers that share a scale, and tokens that are rounded at a time.
    window : int
        Newest tokens that are never rounded.

    References
    ----------
    .. [1] Liu et al., KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache, arXiv:2402.02750.
    """

    codes: Any
    scales: Any
    minima: Any
    recent: Any
    bits: int
    axis: str
    group: int
    window: int = 0

    def __repr__(self):
        held = f"{self.quantized} tokens in {self.bits} bits by {self.axis}, groups of {self.group}"
        return f"<QuantizedCache {self.shape} of {self.dtype}: {held}, {self.bytes():,} bytes>"

    @property
    def shape(self):
        """(B, G, S, D) of the tokens it stands for."""
        B, G, _, D = self.recent.shape
        return B, G, self.quantized + int(self.recent.shape[2]), D

    @property
    def dtype(self):
        """The dtype that the tokens came in."""
        return self.recent.dtype

    @property
    def quantized(self):
        """N: how many tokens are held as codes."""
        return int(self.codes.shape[2])

    @property
    def arrays(self):
        """{name: array} of all that it holds."""
        return {name: getattr(self, name) for name in ARRAYS}

    def bytes(self):
        """Return the bytes of codes, scales, minima and residual window together."""
        return sum(int(x.nbytes) for x in self.arrays.values())

    def append(self, x):
        """Let the tokens x (B, G, n, D) join, newest last, and round every group that is now old enough.

        Raises
        ------
        ShapeError, DtypeError, DeviceError
            If x is not of the cache's B, G, D, dtype or place; the cache is as it was.
        """
        (x, *held), like, _ = gathered(x=x, **self.arrays)
        codes, scales, minima, recent = held
        bind(recent=(recent, "BGND"), x=(x, "BGnD"))
        same_dtype([str(recent.dtype)], x=x)
        recent = np.concatenate((recent, x), axis=2)
        full = max(0, recent.shape[2] - self.window) // self.group * self.group
        if full:
            new, *ranges = encode(recent[:, :, :full], self.bits, self.axis, self.group)
            codes = np.concatenate((codes, pack(new, self.bits)), axis=2)
            scales, minima = (np.concatenate(pair, axis=2) for pair in zip((scales, minima), ranges, strict=True))
            recent = recent[:, :, full:].copy()
        for name, held in zip(ARRAYS, (codes, scales, minima, recent), strict=True):
            setattr(self, name, back(held, like))

    def dequantize(self, dtype=None):
        """Return all tokens (B, G, S, D): the rounded ones as ``minimum + scale * code``, the newest as they came.

        Parameters
        ----------
        dtype : dtype, optional
            Of the result; the cache's own by default. Computed in float32 or wider, and never beyond its finite range,
            but for what came as an infinity.
        """
        return self.tokens(0, self.shape[2], dtype)

    def tokens(self, start, stop, dtype=None):
        """Return the tokens start, ..., stop - 1, dequantised as by `dequantize`."""
        held, like, _ = gathered(**self.arrays)
        codes, scales, minima, recent = held
        dtype = recent.dtype if dtype is None else np.dtype(dtype)
        wide, D, N = np.result_type(WIDER[recent.dtype.name], dtype), recent.shape[3], self.quantized
        old = max(start, min(stop, N))
        scale, minimum = (spread(x, self.axis, self.group, start, old, D).astype(wide) for x in (scales, minima))
        with np.errstate(invalid="ignore", over="ignore"):
            x = unpack(codes[:, :, start:old], self.bits, D).astype(wide) * scale + minimum
        newest = recent[:, :, max(0, start - N) : max(0, stop - N)]
        limit = float(min(np.finfo(dtype).max, np.finfo(recent.dtype).max))
        newest = np.where(np.isinf(newest), newest, np.clip(newest, -limit, limit))
        limit = float(np.finfo(dtype).max)
        return back(np.concatenate((np.clip(x, -limit, limit).astype(dtype), newest.astype(dtype)), axis=2), like)

    def shortened(self, count):
        """Return a cache of the same tokens of which only the first `count` are codes, a multiple of `group`."""
        if count == self.quantized:
            return self
        rows = count // self.group if self.axis == "channel" else count
        recent = np.concatenate((self.tokens(count, self.quantized), self.recent), axis=2)
        return replace(self, codes=self.codes[:, :, :count], scales=self.scales[:, :, :rows],
                       minima=self.minima[:, :, :rows], recent=recent)


def quantize(x, *, bits, axis, group=64, window=0):
    """Return a cache that holds the tokens x in 8 or 4 bits, all but the newest.

    Parameters
    ----------
    x : array of shape (B, G, S, D), float16, float32 or float64
        Keys or values, the newest token last: a NumPy array, a CuPy array, or anything on a GPU with DLPack.
    bits : {8, 4}
    axis : {"channel", "token"}
        What shares a scale: `group` tokens of a channel, or `group` channels of a token.
    group : int
        At least 1. A token's last group of channels may be smaller. Tokens are rounded `group` at a time.
    window : int
        Newest tokens that stay as they are; of those before them, up to group - 1 that do not fill a group stay too.

    Returns
    -------
    QuantizedCache
        Its arrays are of x's kind.

    Raises
    ------
    ShapeError
        If x has not four axes, or group or window is too small.
    DtypeError
        If x is no array of floats, or bits, group or window no whole number.
    ValueError
        If bits or axis is not one of those above.

    Notes
    -----
    Every number comes back within half a scale. Bytes of a 16-bit cache to those of its codes, group 64 along a full
    axis: 16 / 8.5 = 1.88 for 8 bits, 16 / 4.5 = 3.56 for 4.

    References
    ----------
    .. [1] Liu et al., KIVI, arXiv:2402.02750, section 3.

    Examples
    --------
    >>> cache = quantize(np.arange(6, dtype=np.float32).reshape(1, 1, 3, 2), bits=4, axis="channel", group=2)
    >>> cache.codes.ravel(), cache.recent.ravel()
    (array([  0, 255], dtype=uint8), array([4., 5.], dtype=float32))
    >>> cache.dequantize()[0, 0]
    array([[0., 1.],
           [2., 3.],
           [4., 5.]], dtype=float32)
    """
    bits, group, window = whole("bits", bits, 0), whole("group", group, 1), whole("window", window, 0)
    if bits not in (8, 4):
        raise ValueError(f"bits is {bits}; it must be 8 or 4")
    if axis not in AXES:
        raise ValueError(f"axis is {axis!r}; it must be 'channel' (for keys) or 'token' (for values)")
    (x,), like, _ = gathered(x=x)
    B, G, _, D = bind(x=(x, "BGSD")).unpack("BGSD")
    same_dtype(FLOATS, x=x)
    codes = np.zeros_like(x, shape=(B, G, 0, -(-D * bits // 8)), dtype=np.uint8)
    ranges = np.zeros_like(x, shape=(B, G, 0, D if axis == "channel" else -(-D // group)))
    held = (back(array, like) for array in (codes, ranges, ranges, x[:, :, :0]))
    cache = QuantizedCache(*held, bits, axis, group, window)
    cache.append(like)
    return cache


def whole(name, value, least):
    """Return a whole number as an int; raise unless it is one, and not less than `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise DtypeError(f"{name} is {value!r}; it must be a whole number")
    if value < least:
        raise ShapeError(f"{name} is {value}; it must be at least {least}")
    return int(value)
