"""HBM traffic of the CUDA C++ rungs, in closed form; as `minikernels.paged.traffic`, which exports them.

Into how many shares a sequence is cut depends on the GPU, by default one with 132 multiprocessors.
"""

import numpy as np

from minikernels.core import decode_traffic
from minikernels.core.decode import KEYS, runs, shares
from minikernels.core.decode_traffic import (
    each_row,
    group_runs,
    group_shares,
    grouped,
    left_states,
    lookups,
    over_slots,
    read_states,
    shared_rows,
)
from minikernels.core.sectors import WARP, Access, heads, run, span

INT = 4
CHUNK, WARPS, UNROLL = 16, 4, 4  # bytes of a load; warps of a block; rows under way
MULTIPROCESSORS = 132


class Tile:
    """How a block of v4_fetch_ahead or v5_split_kv reads tokens, up to 8 heads at once."""

    most = 8

    def __init__(self, R, P, D, itemsize):
        self.size, self.P, self.held = D * itemsize, P, min(R, self.most)
        self.parts = [min(self.most, R - first) for first in range(0, R, self.most)]  # heads of each block of a group
        chunks = self.size // CHUNK
        self.lanes = 1 << (chunks - 1).bit_length()
        self.row_keys = WARP // self.lanes  # rows of one request
        self.step = self.row_keys * UNROLL
        self.keys = WARPS * self.step
        self.resident, self.barriers = {1: 4, 2: 4, 3: 3, 4: 3}.get(self.held, 2), 1

    def cache(self, at, first):
        """Return the cost of K and V of one head, whose row of token t begins at byte ``at[t] + first``."""
        return shared_rows(at, grouped(len(at), self.row_keys), first, self.size).times(2)

    def lookups(self, entry):
        """Return the cost of looking up every key's page, token t's at byte ``entry[t]``; all lanes of a row look."""
        step, keys = grouped(len(entry), self.step), grouped(len(entry), self.row_keys)
        asked = step[:, : self.row_keys] if self.P % self.step == 0 else keys
        return widened(shared_rows(entry, asked, 0, INT), self.lanes)

    def query(self, first, held):
        """Return the cost of `held` query rows read by all four warps, each request by every group of lanes."""
        sectors = sum(span(first + h * self.size, self.size) for h in range(held))
        return Access(held, sectors, held * self.row_keys * self.size).times(WARPS)


class MmaTile(Tile):
    """How a block of v6_mma_group reads tokens: 16 at a time, up to 32 heads at once."""

    most = 32

    def __init__(self, R, P, D, itemsize):
        super().__init__(R, P, D, itemsize)
        self.step, self.keys, self.resident = KEYS, WARPS * KEYS, 3 if self.held <= 8 else 2
        self.barriers = 1 + 2 * -(-self.held // 8)  # one for the queries, two for each 8 heads

    def pieces(self, width):
        """Yield (first byte, bytes) of what a request takes of a row: `width` chunks at a time."""
        for first in range(0, self.size, width * CHUNK):
            yield first, min(width * CHUNK, self.size - first)

    def value_keys(self, n):
        """Return which tokens of each step four lanes read with each of their four loads of V."""
        return [grouped(n, self.step)[:, [2 * t + j % 2 + j // 2 * 8 for t in range(4)]] for j in range(4)]

    def cache(self, at, first):
        """As above; a request takes 64 bytes of 8 rows of K, or 128 bytes of 4 rows of V."""
        n = len(at)
        keys = sum((shared_rows(at, grouped(n, 8), first + byte, size) for byte, size in self.pieces(4)), Access())
        return keys + sum((shared_rows(at, tokens, first + byte, size)
                           for byte, size in self.pieces(8) for tokens in self.value_keys(n)), Access())

    def lookups(self, entry):
        """As above: one a step where a page holds whole steps, or one for each row of K and V."""
        n = len(entry)
        if self.P % self.step == 0:
            return widened(shared_rows(entry, grouped(n, self.step)[:, :1], 0, INT), WARP)
        values = sum((shared_rows(entry, tokens, 0, INT) for tokens in self.value_keys(n)), Access())
        return widened(shared_rows(entry, grouped(n, 8), 0, INT), 4) + widened(values, 8)

    def query(self, first, held):
        """As above, read once a block: 64 bytes of 8 heads a request."""
        rows = first + np.arange(held) * self.size
        return sum((shared_rows(rows, grouped(held, 8), byte, size) for byte, size in self.pieces(4)), Access())


class GroupTile(decode_traffic.GroupTile):
    """How a block of v7_async_ring or v8_stream_k reads tokens."""

    cache = decode_traffic.GroupTile.copies

    def lookups(self, entry):
        """As above: lane l looks up token l % 16 of a step."""
        return widened(shared_rows(entry, grouped(len(entry), KEYS), 0, INT), WARP // KEYS)


def widened(access, lanes):
    """Return the cost where `lanes` lanes each ask for the same bytes."""
    return Access(access.requests, access.sectors, access.bytes * lanes)


def split(tile, B, H, G, P, D, itemsize, lengths, page_table, count):
    """Return the traffic of blocks that each take one of `count` shares of a sequence."""
    R, blocks = H // G, B * G * len(tile.parts) * count
    loads = lookups(blocks) + pool(tile, G, P, lengths, page_table)  # every warp looks up its length
    loads += each_row(B, G, R, tile.size, tile.parts, tile.query).times(count)
    if count == 1:
        stores = each_row(B, G, R, tile.size, tile.parts, lambda first, n: run(first, n * D, itemsize))
    else:
        stores = heads(B * H, tile.size, lambda first: run(first, D, itemsize))  # the merging blocks own a head each
    for i, held in enumerate(tile.parts if count > 1 else ()):
        row = np.arange(B * G)[:, None] * len(tile.parts) + i
        slots = (row * count + np.arange(count)).ravel()
        stores += over_slots(slots, tile.held, D, lambda ml, o, n=held: left_states(ml, o, n, D))
        loads += over_slots(slots, tile.held, D, lambda ml, o, n=held: read_states(o, n, D))
    traffic = loads.loads() + stores.stores()
    traffic.barriers = blocks * tile.barriers
    return traffic


def pool(tile, G, P, lengths, page_table):
    """Return the loads of K, V and the page table, once for every block that shares a head."""
    total, max_pages = Access(), page_table.shape[1]
    for b, n in enumerate(lengths):
        token = np.arange(n)
        page = page_table[b, token // P]
        at, entry = (page * P + token % P) * G * tile.size, (b * max_pages + token // P) * INT
        total += heads(G, tile.size, lambda first, at=at: tile.cache(at, first)) + tile.lookups(entry).times(G)
    return total.times(len(tile.parts))


def v4_fetch_ahead(B, H, G, P, D, itemsize, lengths, page_table):
    """Each row read whole, once for up to 8 query heads, and its page a step before; every warp reads q."""
    return split(Tile(H // G, P, D, itemsize), B, H, G, P, D, itemsize, lengths, page_table, 1)


def v5_split_kv(B, H, G, P, D, itemsize, lengths, page_table, count=None, multiprocessors=MULTIPROCESSORS):
    """As v4, q read once a share, and the state of every share, (D + 2) floats a head, written and read back."""
    tile = Tile(H // G, P, D, itemsize)
    count = count or chosen(tile, B, G, P, page_table, multiprocessors)
    return split(tile, B, H, G, P, D, itemsize, lengths, page_table, count)


def v6_mma_group(B, H, G, P, D, itemsize, lengths, page_table, count=None, multiprocessors=MULTIPROCESSORS):
    """As v5, each row read once for up to 32 query heads, and q once a block."""
    tile = MmaTile(H // G, P, D, itemsize)
    count = count or chosen(tile, B, G, P, page_table, multiprocessors)
    return split(tile, B, H, G, P, D, itemsize, lengths, page_table, count)


def chosen(tile, B, G, P, page_table, multiprocessors):
    """Return into how many shares the launchers cut a sequence."""
    tiles = -(-page_table.shape[1] * P // tile.keys)
    return shares(B * G * len(tile.parts), tiles, multiprocessors * tile.resident)


def v7_async_ring(B, H, G, P, D, itemsize, lengths, page_table, count=None, multiprocessors=MULTIPROCESSORS):
    """As v6, K and V by cp.async, 512 bytes a request."""
    tile = GroupTile(H // G, D)
    count = count or chosen(tile, B, G, P, page_table, multiprocessors)
    return pool(tile, G, P, lengths, page_table).loads() + group_shares(B, G, H // G, tile, count)


def v8_stream_k(B, H, G, P, D, itemsize, lengths, page_table, blocks=None, multiprocessors=MULTIPROCESSORS):
    """As v7, q read once a piece, and the states of the rows that a cut goes through written and read back."""
    tile = GroupTile(H // G, D)
    own = G * len(tile.parts)
    blocks = min(blocks or multiprocessors * tile.resident, B * own * -(-page_table.shape[1] * P // tile.keys))
    plan = runs(lengths, own, tile.keys, blocks)
    return pool(tile, G, P, lengths, page_table).loads() + group_runs(plan, lengths, tile, G)
