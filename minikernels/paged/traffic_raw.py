"""HBM traffic of the CUDA C++ rungs, in closed form; as `minikernels.paged.traffic`, which exports them.

Into how many shares a sequence is cut depends on the GPU, by default one with 132 multiprocessors.
"""

import numpy as np

from minikernels.core.sectors import SECTOR, WARP, Access, distinct, heads, run, span

FLOAT = INT = 4
STATE, CHUNK, THREADS, WARPS, UNROLL = 8, 16, 128, 4, 4  # bytes of (m, l), of a load; threads; rows under way
MULTIPROCESSORS, MOST_SHARES = 132, 128


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
        self.resident, self.barriers = {1: 4, 2: 4, 3: 3, 4: 3}.get(self.held, 2), 1

    def cache(self, at, first):
        """Return the cost of K and V of one head, whose row of token t begins at byte ``at[t] + first``."""
        return together(at, grouped(len(at), self.row_keys), first, self.size).times(2)

    def lookups(self, entry):
        """Return the cost of looking up every key's page, token t's at byte ``entry[t]``; all lanes of a row look."""
        step, keys = grouped(len(entry), self.step), grouped(len(entry), self.row_keys)
        asked = step[:, : self.row_keys] if self.P % self.step == 0 else keys
        return widened(together(entry, asked, 0, INT), self.lanes)

    def query(self, first, held):
        """Return the cost of `held` query rows read by all four warps, each request by every group of lanes."""
        sectors = sum(span(first + h * self.size, self.size) for h in range(held))
        return Access(held, sectors, held * self.row_keys * self.size).times(WARPS)


class MmaTile(Tile):
    """How a block of v6_mma_group reads tokens: 16 at a time, up to 32 heads at once."""

    most = 32

    def __init__(self, R, P, D, itemsize):
        super().__init__(R, P, D, itemsize)
        self.step, self.resident = 16, 3 if self.held <= 8 else 2
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
        keys = sum((together(at, grouped(n, 8), first + byte, size) for byte, size in self.pieces(4)), Access())
        return keys + sum((together(at, tokens, first + byte, size)
                           for byte, size in self.pieces(8) for tokens in self.value_keys(n)), Access())

    def lookups(self, entry):
        """As above: one a step where a page holds whole steps, or one for each row of K and V."""
        n = len(entry)
        if self.P % self.step == 0:
            return widened(together(entry, grouped(n, self.step)[:, :1], 0, INT), WARP)
        values = sum((together(entry, tokens, 0, INT) for tokens in self.value_keys(n)), Access())
        return widened(together(entry, grouped(n, 8), 0, INT), 4) + widened(values, 8)

    def query(self, first, held):
        """As above, read once a block: 64 bytes of 8 heads a request."""
        rows = first + np.arange(held) * self.size
        return sum((together(rows, grouped(held, 8), byte, size) for byte, size in self.pieces(4)), Access())


def grouped(n, size):
    """Return the tokens 0 .. n - 1 in rows of `size`; the last row may count past the end."""
    return np.arange(-(-n // size) * size).reshape(-1, size)


def together(at, tokens, first, size):
    """Return the cost of requests that each read `size` bytes, from byte `first` on, of the rows of some tokens.

    Parameters
    ----------
    at : ndarray of int
        Where each token's row begins.
    tokens : ndarray of shape (requests, rows), int
        Which tokens, ascending; lanes of one that is past the end are idle, and a request of such alone is none.
    first, size : int
    """
    held = tokens < len(at)
    tokens, held = tokens[held[:, 0]], held[held[:, 0]]
    start = np.sort(at[np.where(held, tokens, tokens[:, :1])] + first, axis=1)
    return Access(len(start), distinct(start, np.full(start.shape, size)), int(np.count_nonzero(held)) * size)


def widened(access, lanes):
    """Return the cost where `lanes` lanes each ask for the same bytes."""
    return Access(access.requests, access.sectors, access.bytes * lanes)


def each_row(B, G, R, size, parts, cost):
    """Return the sum of ``cost(first_byte, heads)`` over the blocks' rows of q, or of o."""
    before = np.cumsum([0, *parts])
    return sum((heads(B * G, R * size, lambda first, at=at, n=n: cost(first + int(at) * size, n))
                for at, n in zip(before, parts, strict=False)), Access())


def left_states(first_ml, first_o, held, D):
    """Return the cost of storing a block's states: o (held, D) float32 in one run, and (m, l) by one lane a head."""
    head = np.arange(held)
    pairs = np.unique(np.stack([head * D // WARP, (first_ml + head * STATE) // SECTOR]), axis=1)
    return Access(len(np.unique(pairs[0])), pairs.shape[1], held * STATE) + run(first_o, held * D, FLOAT)


def read_states(first_ml, first_o, held, D):
    """Return the cost of reading them again, a block a head, every thread its head's (m, l)."""
    requests = -(-D // WARP)
    each = sum((run((first_o + h * D * FLOAT) % SECTOR, D, FLOAT) for h in range(held)), Access())
    return Access(held * requests, held * requests, held * D * STATE) + each


def over_slots(slots, HEADS, D, cost):
    """Return the sum of ``cost(first_ml, first_o)`` over slots of HEADS heads."""
    places = np.stack([slots * HEADS * STATE % SECTOR, slots * HEADS * D * FLOAT % SECTOR])
    places, counts = np.unique(places, axis=1, return_counts=True)
    return sum((cost(int(ml), int(o)).times(n) for ml, o, n in zip(*places, counts, strict=True)), Access())


def shares(rows, tiles, places):
    """Return into how many shares each of `rows` rows of `tiles` tiles is cut: the least that finish soonest."""
    count = range(1, max(1, min(tiles, MOST_SHARES)) + 1)
    return min(count, key=lambda n: -(-rows * n // places) * (-(-tiles // n) + 1))


def split(tile, B, H, G, P, D, itemsize, lengths, page_table, count):
    """Return the traffic of blocks that each take one of `count` shares of a sequence."""
    R, max_pages = H // G, page_table.shape[1]
    blocks = B * G * len(tile.parts) * count
    loads = Access(blocks * WARPS, blocks * WARPS, blocks * THREADS * INT)  # every warp looks up its length
    loads += each_row(B, G, R, tile.size, tile.parts, lambda first, n: tile.query(first, n)).times(count)
    for b, n in enumerate(lengths):
        token = np.arange(n)
        page = page_table[b, token // P]
        at, entry = (page * P + token % P) * G * tile.size, (b * max_pages + token // P) * INT
        both = heads(G, tile.size, lambda first, at=at: tile.cache(at, first)) + tile.lookups(entry).times(G)
        loads += both.times(len(tile.parts))
    if count == 1:
        stores = each_row(B, G, R, tile.size, tile.parts, lambda first, n: run(first, n * D, itemsize))
    else:
        stores = heads(B * H, tile.size, lambda first: run(first, D, itemsize))  # the merging blocks own a head each
    for i, held in enumerate(tile.parts if count > 1 else ()):
        row = np.arange(B * G)[:, None] * len(tile.parts) + i
        slots = (row * count + np.arange(count)).ravel()
        stores += over_slots(slots, tile.held, D, lambda ml, o, n=held: left_states(ml, o, n, D))
        loads += over_slots(slots, tile.held, D, lambda ml, o, n=held: read_states(ml, o, n, D))
    traffic = loads.loads() + stores.stores()
    traffic.barriers = blocks * tile.barriers
    return traffic


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
    tiles = -(-page_table.shape[1] * P // (WARPS * tile.step))
    return shares(B * G * len(tile.parts), tiles, multiprocessors * tile.resident)
