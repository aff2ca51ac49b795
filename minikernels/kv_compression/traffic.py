"""HBM traffic of every rung of decode over quantised caches, in closed form.

The forms of the kernels are exact for any sizes and lengths: those of the numba rungs equal, number for number, what
the SIMT machine counts. The forms of the NumPy rungs give the bytes of the schedule that each of them spells out, for a
kernel that keeps everything else on the chip: they fill in ``load_bytes`` and ``store_bytes`` alone.

Every function takes the sizes B, H, G, S and D, the ``itemsize`` of q, o, scales, minima and recent tokens in bytes,
the ``lengths`` of the sequences (S for all by default), and ``bits``, ``group`` and ``window`` of both caches; keys
have scales by channel, values by token. Where an axis is empty nothing is launched and nothing moves; where a kernel in
CUDA C++ does not take a cache, its form raises ShapeError as its launcher does.
"""

from functools import wraps

from minikernels.core.sectors import Access, heads, rows, run
from minikernels.core.shapes import bind_shapes
from minikernels.core.traffic import Traffic
from minikernels.kv_compression import traffic_matrices, traffic_raw
from minikernels.kv_compression.outputs import check_codes
from minikernels.kv_compression.traffic_cache import ROW, Cache

FLOAT = INT = 4  # bytes of a float32, and of a length


def nothing_if_empty(form, cuda=False):
    """Return the form, made to give no traffic where an axis is empty, and handed a `Cache`.

    That of a kernel in CUDA C++ (`cuda`) raises where its launcher does.
    """

    @wraps(form)
    def guarded(B, H, G, S, D, itemsize=FLOAT, lengths=None, *, bits=4, group=64, window=0, **tile):
        if 0 in (B, H, G, S, D):
            return Traffic()
        if cuda:
            sizes = bind_shapes(q=((B, H, D), "BHD"))
            check_codes(sizes, bits, group, group, form.__name__)
        lengths = [S] * B if lengths is None else [int(n) for n in lengths]
        return form(B, H, G, D, itemsize, Cache(G, S, D, itemsize, lengths, bits, group, window), **tile)

    return guarded


def pieces(R, most=8):
    """Return how many query heads each block of a group takes: 8, 8, ..., and what is left."""
    return [min(most, R - first) for first in range(0, R, most)]


@nothing_if_empty
def reference(B, H, G, D, itemsize, held):
    """The caches dequantised to float64 in HBM and read back; scores and probabilities written and read back."""
    keys = sum(held.lengths)
    wide, square, once = 2 * G * keys * D * 8, H * keys * 8, B * H * D * itemsize
    return Traffic(load_bytes=once + held.bytes() + wide + 2 * square, store_bytes=wide + 2 * square + once)


@nothing_if_empty
def tiled(B, H, G, D, itemsize, held):
    """Codes, scales, minima and recent tokens read once, up to each sequence's length; q and o cross once."""
    once = B * H * D * itemsize
    return Traffic(load_bytes=once + held.bytes(), store_bytes=once)


@nothing_if_empty
def v1_dequantize(B, H, G, D, itemsize, held, warps=4):
    """A number costs three loads: its code, its scale and its minimum."""
    ranges = held.scales_by_channel(again=True) + held.scales()
    return of_warps(B, H, G, D, itemsize, held, ranges, warps)


@nothing_if_empty
def v2_folded_scales(B, H, G, D, itemsize, held, warps=4):
    """As v1, but the keys' scales and minima are read once a group of tokens."""
    ranges = held.scales_by_channel(again=False) + held.scales()
    return of_warps(B, H, G, D, itemsize, held, ranges, warps)


def of_warps(B, H, G, D, itemsize, held, ranges, warps):
    """Return the traffic of blocks of up to 8 heads of a group whose warps read tokens, and q each for itself."""
    parts = pieces(H // G)
    q, o = Access(), Access()
    for i, count in enumerate(parts):
        before, stride = sum(parts[:i]) * D * itemsize, H // G * D * itemsize
        q += heads(B * G, stride, lambda first, at=before, n=count: rows(first + at, n, D, itemsize, **ROW))
        o += heads(B * G, stride, lambda first, at=before, n=count: run(first + at, n * D, itemsize))
    cache = held.codes() + ranges + held.newest()  # of keys and of values; a scale and a minimum cost the same
    cache += held.codes() + ranges + held.newest()
    blocks = B * G * len(parts)
    lookups = Access(blocks * warps, blocks * warps, blocks * warps * 32 * INT)
    loads = lookups + q.times(warps) + cache.times(len(parts))
    traffic = loads.loads() + o.stores()
    traffic.barriers = blocks  # one before the warps' states are merged
    return traffic


v3_wide_loads = nothing_if_empty(traffic_raw.v3_wide_loads, cuda=True)
v4_half2 = nothing_if_empty(traffic_raw.v4_half2, cuda=True)
v5_split_kv = nothing_if_empty(traffic_raw.v5_split_kv, cuda=True)
v6_mma = nothing_if_empty(traffic_raw.v6_mma, cuda=True)
v7_matrices = nothing_if_empty(traffic_matrices.v7_matrices, cuda=True)
v8_ring = nothing_if_empty(traffic_matrices.v8_ring, cuda=True)
