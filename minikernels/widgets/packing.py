"""Plain arrays and a header as one small block of bytes, which the page unpacks without any library.

Layout, gzipped: the header's length (4 bytes, little endian), the header as JSON, then every array's bytes. An
array of integers is stored as differences of neighbours and every array of wider elements byte plane by byte
plane, so that the regular addresses of a kernel shrink to almost nothing. `static/shared.js` holds the reader.
"""

import gzip
import json
import struct

import numpy as np

__all__ = ["MANTISSA_BITS", "pack", "unpack"]

MANTISSA_BITS = 12  # of a float32's 23: a shown value has four figures at most, an error below 0.02 %


def pack(header, arrays, *, exact=()):
    """Return the bytes that carry a header and named arrays to the page, the same from run to run.

    Parameters
    ----------
    header : dict
        Anything JSON holds.
    arrays : dict of str to ndarray
        uint8, int16, int32 or float32.
    exact : collection of str
        Float arrays that keep every bit; the others keep `MANTISSA_BITS` of their mantissa, enough to be shown.
    """
    listed, parts = [], []
    for name, array in arrays.items():
        array = np.ascontiguousarray(array)
        kind = array.dtype.name
        if kind not in ("uint8", "int16", "int32", "float32"):
            raise TypeError(f"array {name!r} is {kind}; a page carries uint8, int16, int32 or float32")
        listed.append({"name": name, "dtype": kind, "shape": list(array.shape)})
        if kind == "float32" and name not in exact:
            array = _rounded(array)
        if kind.startswith("int"):
            flat = array.ravel().view(f"u{array.itemsize}")
            array = np.diff(flat, prepend=flat.dtype.type(0))  # wraps around, and back in the reader
        parts.append(array.reshape(-1).view(np.uint8).reshape(-1, array.itemsize).T.tobytes())
    head = json.dumps({**header, "packed": listed}, separators=(",", ":"), allow_nan=False).encode()
    return gzip.compress(struct.pack("<I", len(head)) + head + b"".join(parts), 9, mtime=0)


def unpack(packed):
    """Return (header, arrays) of what `pack` made; the page's reader does the same."""
    data = gzip.decompress(packed)
    end = 4 + struct.unpack_from("<I", data)[0]
    header, arrays = json.loads(data[4:end]), {}
    for entry in header.pop("packed"):
        dtype = np.dtype(entry["dtype"])
        size = int(np.prod(entry["shape"])) * dtype.itemsize
        planes = np.frombuffer(data, np.uint8, size, end).reshape(dtype.itemsize, -1)
        array = np.ascontiguousarray(planes.T).view(dtype).reshape(-1)
        if dtype.kind == "i":
            array = np.cumsum(array.view(f"u{dtype.itemsize}"), dtype=f"u{dtype.itemsize}").view(dtype)
        arrays[entry["name"]] = array.reshape(entry["shape"])
        end += size
    return header, arrays


def _rounded(array):
    """Return float32 values with the low bits of their mantissa zero; inf and NaN stay what they are."""
    drop = np.uint32(23 - MANTISSA_BITS)
    bits = array.view(np.uint32)
    half = np.uint32(1) << (drop - np.uint32(1))
    finite = np.isfinite(array) & (np.abs(array) < 3e38)  # rounding up must not reach inf
    return np.where(finite, (bits + half) >> drop << drop, bits).astype(np.uint32).view(np.float32)
