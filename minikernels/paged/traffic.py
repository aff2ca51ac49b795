"""HBM traffic of every rung, in closed form.

The forms of the kernels are exact for any sizes, lengths and page tables: those of the numba rungs equal, number for
number, what the SIMT machine counts. The forms of the NumPy rungs give the bytes of the schedule that each of them
spells out, for a kernel that keeps everything else on the chip: they fill in ``load_bytes`` and ``store_bytes`` alone.

Every function takes the sizes B, H, G, S (tokens of the longest sequence), P and D, the ``itemsize`` of q, the pages
and o in bytes, the ``lengths`` of the sequences (S for all by default) and the ``page_table`` (pages one after another
by default): where pages lie decides how their rows meet the sectors. Where an axis is empty nothing moves; where a
kernel in CUDA C++ does not take D, its form raises ShapeError as its launcher does.
"""

from functools import wraps

import numpy as np

from minikernels.core.sectors import SECTOR, WARP, Access, heads, rows, run, span
from minikernels.core.shapes import bind_shapes
from minikernels.core.traffic import Traffic
from minikernels.paged import traffic_raw
from minikernels.paged.outputs import MMA, check_rows

FLOAT = INT = 4  # bytes of a float32; of a length and of an entry of the page table
THREADS, SCORES = 128, 1024  # of a block of v1_gather and v2_page_table; scores that it holds at once
ROW = {"group": 1, "width": 32}  # a warp reads one row at a time, 32 neighbouring columns of it


def nothing_if_empty(form, cuda=False):
    """Return the form, made to give no traffic where an axis is empty, and taking lengths and table as arrays.

    That of a kernel in CUDA C++ (`cuda`) raises where its launcher does.
    """

    @wraps(form)
    def guarded(B, H, G, S, P, D, itemsize=FLOAT, lengths=None, page_table=None, **tile):
        if 0 in (B, H, G, P, D):
            return Traffic()
        if cuda:
            sizes = bind_shapes(q=((B, H, D), "BHD"))
            check_rows(sizes, "float16" if form.__name__ in MMA else f"float{8 * itemsize}", form.__name__)
        lengths = np.full(B, S) if lengths is None else np.asarray(lengths, np.int64)
        max_pages = -(-S // P) if page_table is None else np.shape(page_table)[-1]
        pages = np.arange(B * max_pages) if page_table is None else np.asarray(page_table, np.int64)
        given = B, H, G, P, D, itemsize, lengths, pages.reshape(B, max_pages)
        return form(*given, **tile) if max_pages else Traffic()

    return guarded


def pieces(R, most=8):
    """Return how many query heads each block of a group takes: 8, 8, ..., and what is left."""
    return [min(most, R - first) for first in range(0, R, most)]


def token_rows(page_table, lengths, P, row):
    """Return an array for every sequence: the first byte of each of its tokens, `row` bytes each, in the pool."""
    tokens = [np.arange(n) for n in lengths]
    return [(pages[t // P] * P + t % P) * row for pages, t in zip(page_table, tokens, strict=True)]


def gathered_rows(lengths, max_pages, P, row):
    """Return the same for tokens one after another in a buffer (B, max_pages * P, G, D)."""
    return [(b * max_pages * P + np.arange(n)) * row for b, n in enumerate(lengths)]


def by_row(at, cost):
    """Return the sum of ``cost(first_byte)`` over rows that begin at the bytes of some arrays."""
    places = np.unique(np.concatenate(at) % SECTOR, return_counts=True)
    return sum((cost(int(first)).times(n) for first, n in zip(*places, strict=True)), Access())


def by_column(at, G, D, itemsize):
    """Return the cost of a thread a row: warps that read one column of 32 rows at a time, for all G heads.

    Rows may lie anywhere, so the sectors of a request are counted: those of the columns that begin a sector alike are
    as many.
    """
    residues = np.bincount(np.arange(G * D) * itemsize % SECTOR)
    total = Access()
    for rows_of_one in at:
        warps = -(-len(rows_of_one) // WARP)
        padded = np.pad(rows_of_one, (0, warps * WARP - len(rows_of_one)), "edge") if warps else np.empty(0, np.int64)
        padded = np.sort(padded.reshape(warps, WARP), axis=1)
        for first in np.flatnonzero(residues):
            touched = np.count_nonzero(np.diff((padded + first) // SECTOR, axis=1)) + warps
            total += Access(warps, int(touched), len(rows_of_one) * itemsize).times(residues[first])
    return total


def by_page(page_table, lengths, P, row, itemsize):
    """Return the cost of reading what the sequences hold of each page, consecutive lanes reading consecutive elements.

    A page's tokens are P*row bytes apart from those of the next page; in a buffer of S tokens a sequence the same with
    an identity table.
    """
    total = Access()
    for pages, n in zip(page_table, lengths, strict=True):
        held = np.minimum(P, n - np.arange(-(-n // P)) * P)  # tokens of each page
        total += run(pages[: len(held)] * P * row, held * row // itemsize, itemsize)
    return total


def length_loads(blocks, threads):
    """Return the cost of every warp of every block looking up its sequence's length: one sector each."""
    warps = blocks * threads // WARP
    return Access(warps, warps, blocks * threads * INT)


def entries_by_warp(lengths, max_pages, P):
    """Return the cost of 32 lanes looking up the pages of 32 tokens in a row, for every sequence once."""
    total = Access()
    for b, n in enumerate(lengths):
        first = np.arange(0, n, WARP)
        low, high = first // P, (np.minimum(first + WARP, n) - 1) // P
        sectors = span((b * max_pages + low) * INT, (high - low + 1) * INT)
        total += Access(len(first), int(np.sum(sectors)), int(n) * INT)
    return total


@nothing_if_empty
def reference(B, H, G, P, D, itemsize, lengths, page_table):
    """Pages read, written to a buffer and read again; scores and probabilities written to HBM and read back."""
    keys = int(np.sum(lengths))
    pool, square, once = 2 * G * keys * D * itemsize, H * keys * FLOAT, B * H * D * itemsize
    entries = INT * int(np.sum(-(-lengths // P)))
    return Traffic(load_bytes=once + entries + 2 * pool + 2 * square, store_bytes=pool + 2 * square + once)


@nothing_if_empty
def tiled(B, H, G, P, D, itemsize, lengths, page_table):
    """Each page read once, up to its sequence's length, and its entry of the table; q and o cross once."""
    once, entries = B * H * D * itemsize, INT * int(np.sum(-(-lengths // P)))
    return Traffic(load_bytes=once + entries + 2 * G * int(np.sum(lengths)) * D * itemsize, store_bytes=once)


@nothing_if_empty
def v1_gather(B, H, G, P, D, itemsize, lengths, page_table):
    """Every page read and written to a buffer, which the decoding blocks read H / G times."""
    max_pages, row = page_table.shape[1], G * D * itemsize
    identity = np.arange(B * max_pages).reshape(B, max_pages)
    pages = int(np.sum(-(-lengths // P)))
    loads = by_page(page_table, lengths, P, row, itemsize).times(2)
    loads += length_loads(B * max_pages, THREADS) + length_loads(pages, THREADS)  # an entry costs what a length does
    copy = loads.loads() + by_page(identity, lengths, P, row, itemsize).times(2).stores()
    return copy + scored(B, H, G, D, itemsize, lengths, gathered_rows(lengths, max_pages, P, row))


@nothing_if_empty
def v2_page_table(B, H, G, P, D, itemsize, lengths, page_table):
    """Every page read where it lies, H / G times; its entry of the table by a thread a key for K, a column for V."""
    at = token_rows(page_table, lengths, P, G * D * itemsize)
    ends = [(first, min(first + SCORES, n)) for n in lengths for first in range(0, n, SCORES)]
    pages, columns = sum((end - 1) // P - first // P + 1 for first, end in ends), -(-D // WARP)
    for_k = entries_by_warp(lengths, page_table.shape[1], P)
    for_v = Access(pages * columns, pages * columns, pages * D * INT)  # a round looks a page up once
    return (for_k + for_v).times(H).loads() + scored(B, H, G, D, itemsize, lengths, at)


def scored(B, H, G, D, itemsize, lengths, at):
    """Return the traffic of a block a query head that reads K by a thread a key, V by a thread a column."""
    once = heads(B * H, D * itemsize, lambda first: run(first, D, itemsize))  # q, and o
    keys = by_column(at, G, D, itemsize)
    values = by_row(at, lambda first: heads(G, D * itemsize, lambda head: run(first + head, D, itemsize)))
    loads = length_loads(B * H, THREADS) + once + (keys + values).times(H // G)
    traffic = loads.loads() + once.stores()
    traffic.barriers = H * (B + 3 * int(np.sum(-(-lengths // SCORES))))  # one for q, three a round
    return traffic


@nothing_if_empty
def v3_warp_key(B, H, G, P, D, itemsize, lengths, page_table, warps=4):
    """A block for up to 8 heads of a group: a warp reads whole rows of K and V, and their page; every warp reads q."""
    parts, keys = pieces(H // G), int(np.sum(lengths))
    q, o = Access(), Access()
    for i, held in enumerate(parts):
        before, stride = sum(parts[:i]) * D * itemsize, H // G * D * itemsize
        q += heads(B * G, stride, lambda first, at=before, n=held: rows(first + at, n, D, itemsize, **ROW))
        o += heads(B * G, stride, lambda first, at=before, n=held: run(first + at, n * D, itemsize))
    at = token_rows(page_table, lengths, P, G * D * itemsize)
    cache = by_row(at, lambda first: heads(G, D * itemsize, lambda head: run(first + head, D, itemsize)))
    entries = Access(keys, keys, keys * WARP * INT).times(G * len(parts))
    blocks = B * G * len(parts)
    loads = length_loads(blocks, 32 * warps) + q.times(warps) + cache.times(2 * len(parts)) + entries
    traffic = loads.loads() + o.stores()
    traffic.barriers = blocks  # one before the warps' states are merged
    return traffic


v4_fetch_ahead = nothing_if_empty(traffic_raw.v4_fetch_ahead, cuda=True)
v5_split_kv = nothing_if_empty(traffic_raw.v5_split_kv, cuda=True)
v6_mma_group = nothing_if_empty(traffic_raw.v6_mma_group, cuda=True)
v7_async_ring = nothing_if_empty(traffic_raw.v7_async_ring, cuda=True)
v8_stream_k = nothing_if_empty(traffic_raw.v8_stream_k, cuda=True)
