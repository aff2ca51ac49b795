"""HBM traffic of the CUDA C++ rungs, in closed form; as `minikernels.linear_attention.traffic`, which exports them.

How many segments v4 cuts a head into depends on the GPU, by default one with 132 multiprocessors.
"""

import numpy as np

from minikernels.core.sectors import Access, heads, rows, run, span
from minikernels.linear_attention.schedule import resident, segments_of

FLOAT, WIDE, STEP, TILE = 4, 16, 16, 64  # bytes of a float32 and of the widest load; tokens of a step and of a tile
BOX = 64  # rows and columns that v5's copies take at a time
MULTIPROCESSORS = 132


def v3_mma_chunk(B, H, T, D, itemsize, gate_itemsize, begun, kept, tile=TILE):
    """q, k, v and the gates staged tile by tile, 16 bytes a lane; o written by rows of 16 columns; each once."""
    traffic = walked(B * H, T, D, itemsize, gate_itemsize, tile, 3).loads() + outputs(B * H, T, D, itemsize).stores()
    traffic += (decays(B * H, D) + states(B * H, D).times(begun)).loads() + states(B * H, D).times(kept).stores()
    traffic.barriers = B * H * -(-T // tile) * (4 if gate_itemsize else 2)
    return traffic


def v4_split_along_time(B, H, T, D, itemsize, gate_itemsize, begun, kept, tile=TILE, count=None):
    """As v3; and k, v and gates of all segments but the last read once more, a state a segment written and read."""
    count, tokens = segments_of(B * H, T, tile, MULTIPROCESSORS * resident(D), count)
    if count == 1:
        return v3_mma_chunk(B, H, T, D, itemsize, gate_itemsize, begun, kept, tile)
    before, tiles = (count - 1) * tokens, -(-T // tile)
    local = walked(B * H, T, D, itemsize, gate_itemsize, tile, 2, before) + decays(B * H * (count - 1), D)
    own = run(0, D, FLOAT).times(B * H * (count - 1))  # rows of D floats, whole sectors: the last segment leaves none
    whole = run(0, D * D, FLOAT).times(B * H)  # the states of one segment of every head, number after number
    lefts = carried_lefts(D).times(B * H * (count - 1))
    begin = walked(B * H, T, D, itemsize, gate_itemsize, tile, 3) + decays(B * H * count, D)
    loads = local + lefts + whole.times(count - 1 + begun) + begin + states(B * H * count, D)
    stores = states(B * H * (count - 1), D) + own + whole.times(count) + outputs(B * H, T, D, itemsize)
    traffic = loads.loads() + (stores + states(B * H, D).times(kept)).stores()
    once, again = (4, 3) if gate_itemsize else (2, 1)  # barriers a tile, with outputs and without
    traffic.barriers = B * H * (tiles * once + before // tile * again)
    return traffic


def v5_wgmma(B, H, T, D, itemsize, gate_itemsize, begun, kept, count=None):
    """As v4, but that a request of q, k, v and o is a box of 64 tokens and 64 channels; it takes no gates."""
    if gate_itemsize:
        raise ValueError("v5_wgmma takes no gates")
    return by_boxes(B, H, T, D, itemsize, 0, begun, kept, count)


def v6_factored_gates(B, H, T, D, itemsize, gate_itemsize, begun, kept, count=None):
    """As v5; and gates, a chunk a request. Where none is refused, v4's blocks find that out and end."""
    return by_boxes(B, H, T, D, itemsize, gate_itemsize, begun, kept, count)


def by_boxes(B, H, T, D, itemsize, gate_itemsize, begun, kept, count):
    """Return the Traffic of v5 and v6."""
    count, tokens = segments_of(B * H, T, BOX, MULTIPROCESSORS, count)
    teams, before, blocks = -(-D // BOX), (count - 1) * tokens, B * H * (2 * count - 1)
    loads = boxed(B * H, T, D, itemsize).times(3) + boxed(B * H, T, D, itemsize, before).times(2)
    loads += decays(blocks, BOX * (1 + teams))
    stores = boxed(B * H, T, D, itemsize) + states(B * H, D).times(kept)
    lefts = run(0, D // 2, 2 * FLOAT) if gate_itemsize else run(0, D, FLOAT)
    if gate_itemsize:
        loads += boxed(B * H, T, D, gate_itemsize, width=BOX * teams)
        loads += boxed(B * H, T, D, gate_itemsize, before, width=BOX * teams)
        loads += decays(blocks, D)  # as v4 looks up decays, its blocks look up whether they are wanted
        stores += Access(blocks, blocks, blocks * FLOAT)  # nothing is refused
    if count == 1:
        loads += states(B * H, D).times(begun)
    else:
        whole = run(0, D * D, FLOAT).times(B * H)
        loads += carried_lefts(D).times(B * H * (count - 1)) + whole.times(count - 1 + begun) + states(B * H * count, D)
        stores += states(B * H * (count - 1), D) + lefts.times(B * H * (count - 1)) + whole.times(count)
    traffic = loads.loads() + stores.stores()
    chunks, again = -(-T // BOX), before // BOX
    traffic.barriers = blocks + B * H * 2 * teams * chunks
    if gate_itemsize:
        traffic.barriers += B * H * (chunks + again + count - 1)
    return traffic


def walked(count, T, D, itemsize, gate_itemsize, tile, arrays, tokens=None):
    """Return the loads of some arrays and of the gates of `count` heads, up to `tokens`, tile by tile."""
    ends = range(0, T if tokens is None else tokens, tile)

    def one(size):
        vector = WIDE // size  # elements of a load
        return heads(count, T * D * size, lambda first: sum(
            (run(first + t * D * size, min(tile, T - t) * D // vector, WIDE) for t in ends), Access()))

    return one(itemsize).times(arrays) + (one(gate_itemsize) if gate_itemsize else Access())


def boxed(count, T, D, itemsize, tokens=None, width=BOX):
    """Return the cost of copying an array of `count` heads, up to `tokens`, box by box."""
    held = T if tokens is None else tokens
    return heads(count, T * D * itemsize, lambda first: rows(first, held, D, itemsize, group=BOX, width=width))


def outputs(count, T, D, itemsize):
    """Return the stores of o: a warp writes 16 columns of 16 rows with one request, 16 bytes a lane."""
    return heads(count, T * D * itemsize, lambda first: rows(first, T, D, itemsize, group=STEP, width=16))


def states(count, D):
    """Return the cost of the states of `count` heads: 8 neighbouring value columns of 4 key channels a request."""
    requests = 2 * (D // 8) ** 2
    return Access(requests, 4 * requests, D * D * FLOAT).times(count)


def decays(blocks, D):
    """Return the cost of every thread of every block looking up its head's decay."""
    warps = -(-D // 16)
    return Access(warps, warps, 32 * warps * FLOAT).times(blocks)


def carried_lefts(D):
    """Return the cost of reading what a segment leaves of its channels, one thread a cell of the state."""
    low = np.arange(0, D * D, 32)
    first, last = low // D, (low + 31) // D
    return Access(len(low), int(np.sum(span(first * FLOAT, (last - first + 1) * FLOAT))), D * D * FLOAT)
