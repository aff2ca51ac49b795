"""HBM traffic of every rung of decode, in closed form.

The forms of the kernels are exact for any sizes and lengths: those of the numba rungs equal, number for number, what
the SIMT machine counts. The forms of the NumPy rungs give the bytes of the schedule that each of them spells out, for
a kernel that keeps everything else on the chip: they fill in ``load_bytes`` and ``store_bytes`` alone.

Every function takes the sizes B, H, G, S and D, the ``itemsize`` of q, k, v and o in bytes and the ``lengths`` of the
sequences (S for all by default, and then no kernel in CUDA C++ loads any). Where an axis is empty nothing is launched
and nothing moves; where a kernel in CUDA C++ does not take D, its form raises ShapeError as its launcher does.
"""

from collections import Counter
from functools import wraps

from minikernels.core.sectors import SECTOR, Access, heads, rows, run
from minikernels.core.shapes import bind_shapes
from minikernels.core.traffic import Traffic
from minikernels.gqa import traffic_raw
from minikernels.gqa.outputs import MMA, block_s, check_rows

FLOAT = INT = 4  # bytes of a float32, and of a length
ROW = {"group": 1, "width": 32}  # a warp reads one row at a time, 32 neighbouring columns of it


def nothing_if_empty(form, cuda=False):
    """Return the form, made to give no traffic where an axis is empty, and lengths as a list of ints.

    That of a kernel in CUDA C++ (`cuda`) raises where its launcher does, and is told as ``given`` whether there are
    lengths to be read.
    """

    @wraps(form)
    def guarded(B, H, G, S, D, itemsize=FLOAT, lengths=None, **tile):
        if 0 in (B, H, G, S, D):
            return Traffic()
        if cuda:
            sizes = bind_shapes(q=((B, H, D), "BHD"))
            check_rows(sizes, "float16" if form.__name__ in MMA else f"float{8 * itemsize}", form.__name__)
            tile["given"] = lengths is not None
        return form(B, H, G, S, D, itemsize, [S] * B if lengths is None else [int(n) for n in lengths], **tile)

    return guarded


def caches(G, S, D, itemsize, lengths, cost):
    """Return the sum of ``cost(first_byte, length)`` over the key/value heads of a cache (B, G, S, D)."""
    stride = S * D * itemsize
    places = Counter(((b * G + g) * stride % SECTOR, n) for b, n in enumerate(lengths) for g in range(G))
    return sum((cost(first, length).times(count) for (first, length), count in places.items()), Access())


def length_loads(blocks, threads):
    """Return the cost of every warp of every block looking up its sequence's length: one sector each."""
    warps = blocks * threads // 32
    return Access(warps, warps, blocks * threads * INT)


def tiles(lengths, size):
    """Return how many tiles of `size` keys all the sequences have."""
    return sum(-(-n // size) for n in lengths)


def pieces(R, most=8):
    """Return how many query heads each block of a group takes: 8, 8, ..., and what is left."""
    return [min(most, R - first) for first in range(0, R, most)]


@nothing_if_empty
def reference(B, H, G, S, D, itemsize, lengths):
    """Scores and probabilities written to HBM and read back; K and V read once a group, as one matrix product does."""
    keys = sum(lengths)
    square = H * keys * FLOAT
    once = B * H * D * itemsize
    return Traffic(load_bytes=once + 2 * G * keys * D * itemsize + 2 * square, store_bytes=2 * square + once)


@nothing_if_empty
def tiled(B, H, G, S, D, itemsize, lengths):
    """The cache read once, up to each sequence's length; q and o cross once."""
    once = B * H * D * itemsize
    return Traffic(load_bytes=once + 2 * G * sum(lengths) * D * itemsize, store_bytes=once)


@nothing_if_empty
def v1_block_per_head(B, H, G, S, D, itemsize, lengths):
    """A block a query head: K by one thread a key, V by one thread a column; both H / G times as often as needed."""
    threads = 32 * -(-D // 32)
    once = heads(B * H, D * itemsize, lambda first: run(first, D, itemsize))  # q, and o
    keys = caches(G, S, D, itemsize, lengths, lambda first, n: rows(first, n, D, itemsize))
    values = caches(G, S, D, itemsize, lengths, lambda first, n: rows(first, n, D, itemsize, **ROW))
    loads = length_loads(B * H, threads) + once + (keys + values).times(H // G)
    traffic = loads.loads() + once.stores()
    traffic.barriers = H * (B + 2 * tiles(lengths, threads))  # one for q, two a tile
    return traffic


@nothing_if_empty
def v2_shared_group(B, H, G, S, D, itemsize, lengths, threads=128):
    """A block a group: K and V cross once, consecutive threads reading consecutive elements."""
    R, size = H // G, block_s(H // G, D)

    def one_head(first, length):
        starts = range(0, length, size)
        return sum((run(first + s * D * itemsize, min(size, length - s) * D, itemsize) for s in starts), Access())

    once = heads(B * G, R * D * itemsize, lambda first: run(first, R * D, itemsize))  # q, and o
    loads = length_loads(B * G, threads) + once + caches(G, S, D, itemsize, lengths, one_head).times(2)
    traffic = loads.loads() + once.stores()
    traffic.barriers = 3 * G * tiles(lengths, size)
    return traffic


@nothing_if_empty
def v3_warp_dot(B, H, G, S, D, itemsize, lengths, warps=4):
    """A block for up to 8 heads of a group: a warp reads whole rows of K and V; every warp reads q."""
    parts = pieces(H // G)
    q, o = Access(), Access()
    for i, held in enumerate(parts):
        before = sum(parts[:i]) * D * itemsize
        stride = H // G * D * itemsize
        q += heads(B * G, stride, lambda first, at=before, n=held: rows(first + at, n, D, itemsize, **ROW))
        o += heads(B * G, stride, lambda first, at=before, n=held: run(first + at, n * D, itemsize))
    cache = caches(G, S, D, itemsize, lengths, lambda first, n: rows(first, n, D, itemsize, **ROW))
    blocks = B * G * len(parts)
    loads = length_loads(blocks, 32 * warps) + q.times(warps) + cache.times(2 * len(parts))
    traffic = loads.loads() + o.stores()
    traffic.barriers = blocks  # one before the warps' states are merged
    return traffic


v4_wide_loads = nothing_if_empty(traffic_raw.v4_wide_loads, cuda=True)
v5_split_kv = nothing_if_empty(traffic_raw.v5_split_kv, cuda=True)
v6_stream_k = nothing_if_empty(traffic_raw.v6_stream_k, cuda=True)
v7_mma_group = nothing_if_empty(traffic_raw.v7_mma_group, cuda=True)
v8_mma_stream_k = nothing_if_empty(traffic_raw.v8_mma_stream_k, cuda=True)
