"""HBM traffic of every rung of linear attention, in closed form.

The forms of the kernels are exact for any sizes: those of the numba rungs equal, number for number, what the SIMT
machine counts. The forms of the NumPy rungs give the bytes of the schedule that each of them spells out, for a kernel
that keeps everything else on the chip: they fill in ``load_bytes`` and ``store_bytes`` alone.

Every function takes the sizes B, H, T and D, the ``itemsize`` of q, k, v and o and the ``gate_itemsize`` of gates in
bytes (0 where there are none), whether there is an initial state (``begun``) and whether the last one is wanted
(``kept``); states and decays are float32. Where an axis is empty nothing is launched and nothing moves.
"""

from functools import wraps

from minikernels.core.sectors import Access, heads, rows, run
from minikernels.core.traffic import Traffic
from minikernels.linear_attention import traffic_raw

FLOAT = 4  # bytes of a float32
ROW = {"group": 1, "width": 32}  # a warp reads one row at a time, 32 neighbouring columns of it
CHUNK = 16  # tokens of a chunk of v2_chunk


def nothing_if_empty(form):
    """Return the form, made to give no traffic where an axis is empty."""

    @wraps(form)
    def guarded(B, H, T, D, itemsize=FLOAT, gate_itemsize=0, begun=False, kept=False, **tile):
        if 0 in (B, H, T, D):
            return Traffic()
        return form(B, H, T, D, itemsize, gate_itemsize, begun, kept, **tile)

    return guarded


def once(B, H, T, D, itemsize, gate_itemsize, begun, kept):
    """Return the Traffic of inputs read once and outputs written once."""
    state = B * H * D * D * FLOAT
    loads = B * H * T * D * (3 * itemsize + gate_itemsize) + H * FLOAT + begun * state
    return Traffic(load_bytes=loads, store_bytes=B * H * T * D * itemsize + kept * state)


@nothing_if_empty
def reference(B, H, T, D, itemsize, gate_itemsize, begun, kept):
    """The recurrence with the state in HBM: written by every token, and read by the next."""
    between = (T - 1) * B * H * D * D * FLOAT
    return once(B, H, T, D, itemsize, gate_itemsize, begun, kept) + Traffic(load_bytes=between, store_bytes=between)


@nothing_if_empty
def tiled(B, H, T, D, itemsize, gate_itemsize, begun, kept):
    """Everything crosses once; between chunks the state stays on the chip."""
    return once(B, H, T, D, itemsize, gate_itemsize, begun, kept)


@nothing_if_empty
def v1_recurrent(B, H, T, D, itemsize, gate_itemsize, begun, kept):
    """Every warp of columns reads every element of q, k and the gates, one a request."""
    warps = -(-D // 32)
    broadcast = sum((Access(T * D * warps, T * D * warps, T * D * D * size).times(B * H)
                     for size in (itemsize, itemsize, gate_itemsize) if size), Access())
    decay = Access(warps, warps, D * FLOAT).times(B * H)
    loads = broadcast + decay + by_column(B * H, T, D, itemsize) + states(B * H, D, begun)
    return loads.loads() + (by_column(B * H, T, D, itemsize) + states(B * H, D, kept)).stores()


@nothing_if_empty
def v2_chunk(B, H, T, D, itemsize, gate_itemsize, begun, kept, chunk=CHUNK):
    """q, k and the gates staged chunk by chunk, each element read once, neighbours by neighbours."""
    warps = -(-D // 32)

    def staged(size):
        starts = range(0, T, chunk)
        return heads(B * H, T * D * size, lambda first: sum(
            (run(first + t * D * size, min(chunk, T - t) * D, size) for t in starts), Access()))

    decay = Access(warps, warps, 32 * warps * FLOAT).times(B * H)
    loads = staged(itemsize).times(2) + (staged(gate_itemsize) if gate_itemsize else Access()) + decay
    loads += by_column(B * H, T, D, itemsize) + states(B * H, D, begun)
    traffic = loads.loads() + (by_column(B * H, T, D, itemsize) + states(B * H, D, kept)).stores()
    traffic.barriers = 4 * B * H * -(-T // chunk)
    return traffic


def by_column(count, T, D, itemsize):
    """Return the cost of reading, or writing, `count` heads of T rows, one thread a column."""
    return heads(count, T * D * itemsize, lambda first: rows(first, T, D, itemsize, **ROW))


def states(count, D, there):
    """Return the cost of reading, or writing, the states of `count` heads, one thread a column."""
    return by_column(count, D, D, FLOAT) if there else Access()


v3_mma_chunk = nothing_if_empty(traffic_raw.v3_mma_chunk)
v4_split_along_time = nothing_if_empty(traffic_raw.v4_split_along_time)
v5_wgmma = nothing_if_empty(traffic_raw.v5_wgmma)
v6_factored_gates = nothing_if_empty(traffic_raw.v6_factored_gates)
