"""HBM traffic of the rungs of linear attention's backward pass, in closed form; conventions as in `traffic`.

``begun`` says whether there is an initial state, ``kept`` whether there is a gradient by the last one.
"""

from minikernels.core.sectors import Access, heads, rows
from minikernels.core.traffic import Traffic
from minikernels.linear_attention.traffic import FLOAT, by_column, nothing_if_empty, states


@nothing_if_empty
def reference(B, H, T, D, itemsize, gate_itemsize, begun, kept):
    """The recurrences with the state, and then its gradient, in HBM: written by every token, and read by the next."""
    between = 2 * (T - 1) * B * H * D * D * FLOAT
    return twice(B, H, T, D, itemsize, gate_itemsize, begun, kept) + Traffic(load_bytes=between, store_bytes=between)


@nothing_if_empty
def tiled(B, H, T, D, itemsize, gate_itemsize, begun, kept):
    """k, v and do are read forwards and backwards, q backwards alone; state and gradient stay on the chip."""
    return twice(B, H, T, D, itemsize, gate_itemsize, begun, kept)


def twice(B, H, T, D, itemsize, gate_itemsize, begun, kept):
    """Return the Traffic of both passes' inputs and of the gradients."""
    row, state = B * H * T * D, B * H * D * D * FLOAT
    loads = row * (7 * itemsize + 2 * gate_itemsize) + H * FLOAT + (begun + kept) * state
    return Traffic(load_bytes=loads, store_bytes=row * (3 * itemsize + gate_itemsize) + state)


@nothing_if_empty
def v1_recurrent(B, H, T, D, itemsize, gate_itemsize, begun, kept):
    """Three kernels; each reads two arrays by broadcast, in every warp, and the others one thread an element."""
    count, warps = B * H, -(-D // 32)

    def broadcast(size):
        return Access(T * D * warps, T * D * warps, T * D * D * size).times(count) if size else Access()

    own, gates = by_column(count, T, D, itemsize), by_column(count, T, D, gate_itemsize) if gate_itemsize else Access()
    wide, last = by_column(count, T, D, FLOAT), by_column(count, 1, D, FLOAT)  # dq, and what dgate starts from
    end = by_row(count, D, kept)
    decay = Access(warps, warps, D * FLOAT).times(3 * count)
    forwards = broadcast(itemsize).times(2) + own + gates + by_row(count, D, begun) + end
    keys = broadcast(itemsize).times(2) + own + gates + end
    values = broadcast(itemsize).times(2) + broadcast(gate_itemsize) + own + states(count, D, kept)
    loads, stores = forwards + keys + values + decay, wide + last + own.times(2) + states(count, D, True)
    if gate_itemsize:
        loads += last + own + wide  # last, k and dq
        stores += wide  # dgate, float32
    return loads.loads() + stores.stores()


def by_row(count, D, there):
    """Return the cost of reading the states of `count` heads, one thread a row: neighbours stand D elements apart."""
    return heads(count, D * D * FLOAT, lambda first: rows(first, D, D, FLOAT)) if there else Access()
