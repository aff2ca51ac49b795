"""Closed forms of what decode kernels of several techniques do alike: queries, states left and merged, copies.

A *part* is the query heads of one block of a group; offsets are in bytes from the start of an array, as in `sectors`.
"""

import numpy as np

from minikernels.core.decode import GROUP_KEYS, KEYS, group_tile, tiles_of
from minikernels.core.sectors import SECTOR, WARP, Access, distinct, heads, padded_tile, run

__all__ = ["GroupTile", "cut_rows", "each_row", "group_runs", "group_shares", "grouped", "left_states", "lookups",
           "over_slots", "owned", "read_states", "shared_rows"]

FLOAT = INT = 4
STATE, CHUNK, THREADS, WARPS = 8, 16, 128, 4  # bytes of (m, l), and of a load; threads and warps of a block
LIMIT = 227 * 1024  # bytes of shared memory that a block of an H100 or H200 may ask for


class GroupTile:
    """How a block of ``launch/group.cuh`` reads: 16 tokens a step by cp.async, up to 32 heads at once."""

    keys = GROUP_KEYS

    def __init__(self, R, D, limit=LIMIT):
        told = group_tile(R, D, limit)
        self.D, self.size, self.chunks, self.held = D, D * 2, D * 2 // CHUNK, told["HEADS"]
        self.parts = [min(self.held, R - first) for first in range(0, R, self.held)]
        self.resident = told["RESIDENT"]
        self.barriers = 2 + 2 * -(-self.held // 16)  # of a piece of a row; a block passes one more, first of all
        self.fours = next(n for n in (8, 4, 2, 1) if n == 1 or (
            D // 4 % n == 0 and self.held * (D // 4) // n >= THREADS))  # of columns that a thread merges

    def query(self, first, held):
        """Return the cost of `held` query rows, read once a piece; rows of an odd number of chunks are padded."""
        return padded_tile(first % SECTOR, held, self.chunks, CHUNK, (self.D + 15) // 16 * 2)

    def copies(self, at, first):
        """Return the cost of K and V of one head, whose row of token t begins at byte ``at[t] + first``.

        Request j of a step takes its chunks 32 j to 32 j + 31, in the order of its rows.
        """
        place = np.arange(0, KEYS * self.chunks, 1).reshape(KEYS, self.chunks)  # of each chunk in the step
        total, steps = Access(), grouped(len(at), KEYS)
        for j in range(-(-place.size // WARP)):
            mine = place // WARP == j
            row = np.flatnonzero(mine.any(axis=1))
            begin, size = mine[row].argmax(axis=1) * CHUNK, mine[row].sum(axis=1) * CHUNK
            total += shared_rows(at, steps[:, row], first + begin, size)
        return total.times(2)


def grouped(n, size):
    """Return the tokens 0 .. n - 1 in rows of `size`; the last row may count past the end."""
    return np.arange(-(-n // size) * size).reshape(-1, size)


def shared_rows(at, tokens, first, size):
    """Return the cost of requests that each read some bytes of the rows of some tokens.

    Parameters
    ----------
    at : ndarray of int
        Where each token's row begins.
    tokens : ndarray of shape (requests, rows), int
        Which tokens, ascending; lanes of one that is past the end are idle, and a request of such alone is none.
    first, size : int, or ndarray of shape (rows,)
        First byte of a row that is read, and how many.

    Examples
    --------
    >>> shared_rows(np.array([64, 0]), np.array([[0, 1], [2, 3]]), 0, 64)
    Access(requests=1, sectors=4, bytes=128)
    """
    held = tokens < len(at)
    tokens, held = tokens[held[:, 0]], held[held[:, 0]]
    start = at[np.where(held, tokens, tokens[:, :1])] + first
    bytes_of = np.where(held, size, 0)
    start = np.where(held, start, start[:, :1])
    order = np.argsort(start, axis=1, kind="stable")
    start, bytes_of = (np.take_along_axis(x, order, axis=1) for x in (start, bytes_of))
    return Access(len(start), distinct(start, bytes_of), int(bytes_of.sum()))


def lookups(count, size=INT):
    """Return the cost of every thread of a block reading the same number of an array, `count` times."""
    return Access(WARPS, WARPS, THREADS * size).times(count)


def each_row(B, G, R, size, parts, cost, sequence=0):
    """Return the sum of ``cost(first_byte, heads)`` over the parts' rows of q, or of o, `size` bytes a head.

    Of B sequences, from `sequence` on.
    """
    before = np.cumsum([0, *parts]) + sequence * G * R
    return sum((heads(B * G, R * size, lambda first, at=at, n=n: cost(first + int(at) * size, n))
                for at, n in zip(before, parts, strict=False)), Access())


def left_states(first_ml, first_o, held, D):
    """Return the cost of storing a block's states: o (held, D) float32 in one run, and (m, l) by one lane a head."""
    head = np.arange(held)
    pairs = np.unique(np.stack([head * D // WARP, (first_ml + head * STATE) // SECTOR]), axis=1)
    return Access(len(np.unique(pairs[0])), pairs.shape[1], held * STATE) + run(first_o, held * D, FLOAT)


def group_output(first, held, D):
    """Return the cost of storing `held` rows of o by ``launch/group.cuh``: 16 heads a time, 8 bytes a lane."""
    return sum((run(first + h * D * 2, min(16, held - h) * D // 4, 8) for h in range(0, held, 16)), Access())


def group_states(first_ml, first_o, held, D):
    """Return the cost of storing its states: 16 bytes of o a lane, and (m, l) by the lane of a head's first columns."""
    total = Access()
    for h in range(0, held, 16):
        head = np.arange(min(16, held - h))
        sector = (first_ml + (h + head) * STATE) // SECTOR
        pairs = np.unique(np.stack([head * (D // 4) // WARP, sector]), axis=1)
        total += Access(len(np.unique(pairs[0])), pairs.shape[1], len(head) * STATE)
        total += run(first_o + h * D * FLOAT, len(head) * D // 4, 16)
    return total


def group_read(first_ml, first_o, held, D, fours):
    """Return the cost of reading them again to merge: a thread its head's (m, l), and of o what `group_fours` says."""
    spread = D // 4 // fours
    items = np.arange(held * spread)
    pairs = np.unique(np.stack([items // WARP, (first_ml + items // spread * STATE) // SECTOR]), axis=1)
    ml = Access(-(-len(items) // WARP), pairs.shape[1], len(items) * STATE)
    return ml + group_fours(first_o, held, D, fours, 16)


def group_fours(first, held, D, fours, size):
    """Return the cost of `held` rows of D numbers of which a thread has `fours` fours, `size` bytes each.

    D / 4 / fours threads share a row, whose fours they take in turn.
    """
    spread, total = D // 4 // fours, Access()
    items = np.arange(held * spread)
    for f in range(fours):
        start = first + (items // spread * (D // 4) + items % spread + f * spread) * size
        pairs = np.unique(np.stack([items // WARP, start // SECTOR]), axis=1)
        total += Access(-(-len(items) // WARP), pairs.shape[1], len(items) * size)
    return total


def read_states(first_o, held, D):
    """Return the cost of reading them again, a block a head, every thread its head's (m, l)."""
    requests = -(-D // WARP)
    each = sum((run((first_o + h * D * FLOAT) % SECTOR, D, FLOAT) for h in range(held)), Access())
    return Access(held * requests, held * requests, held * D * STATE) + each


def over_slots(slots, HEADS, D, cost):
    """Return the sum of ``cost(first_ml, first_o)`` over slots of HEADS heads."""
    places = np.stack([slots * HEADS * STATE % SECTOR, slots * HEADS * D * FLOAT % SECTOR])
    places, counts = np.unique(places, axis=1, return_counts=True)
    return sum((cost(int(ml), int(o)).times(n) for ml, o, n in zip(*places, counts, strict=True)), Access())


def owned(piece, parts, G, R):
    """Return how many query heads the row of a piece has, and the first of them, counted over all sequences."""
    g, part = divmod(piece.row, len(parts))
    return parts[part], (piece.b * G + g) * R + sum(parts[:part])


def cut_rows(plan, lengths, keys, parts, G, D, itemsize):
    """Return what a stream-K schedule on CUDA cores stores, output and states, and the cost of reading these again."""
    R, tiles = sum(parts), tiles_of(lengths, keys)
    left, read = Access(), Access()
    for place, work in enumerate(plan):
        for piece in work:
            held, head = owned(piece, parts, G, R)
            if piece.tiles == tiles[piece.b]:
                left += run(head * D * itemsize, held * D, itemsize)
                continue
            slot = (2 * place + (piece.first == 0)) * parts[0]
            left += left_states(slot * STATE % SECTOR, slot * D * FLOAT % SECTOR, held, D)
            read += read_states(slot * D * FLOAT % SECTOR, held, D)
            if piece.first == 0:  # and the kernel that merges writes each head
                left += rows_of(head, held, D, itemsize)
    for b in np.flatnonzero(np.equal(tiles, 0)):  # rows without keys, of which that kernel makes 0
        left += rows_of(int(b) * G * R, G * R, D, itemsize)
    return left, read


def rows_of(head, held, D, itemsize):
    """Return the cost of storing `held` rows of o from row `head` on, a block each."""
    return sum((run((head + h) * D * itemsize % SECTOR, D, itemsize) for h in range(held)), Access())


def group_runs(plan, lengths, tile, G, given=True):
    """Return the traffic, but for the keys, of the blocks of ``launch/stream_k.cuh`` over ``launch/group.cuh``.

    Parameters
    ----------
    plan : list of list of Piece
        What each block absorbs, in order.
    lengths : sequence of int
    tile : GroupTile
    G : int
        Key/value heads of a sequence.
    given : bool
        Whether lengths are loaded; without them every sequence has as many keys as its cache has room for.
    """
    B, R, D, tiles = len(lengths), sum(tile.parts), tile.D, tiles_of(lengths, GROUP_KEYS)
    looked = run(0, B, INT).times(len(plan) * WARPS) + lookups(B)  # for the sum of all tiles; for sequences without
    loads = Access()
    stores, cuts = Access(), 0
    for place, work in enumerate(plan):
        if work:
            b, end = work[0].b, work[-1].b
            looked += run(0, min(B, (b // WARP + 1) * WARP), INT).times(WARPS) + lookups(2 * (end - b))  # also to copy
        for piece in work:
            held, head = owned(piece, tile.parts, G, R)
            loads += tile.query(head * tile.size, held)
            if piece.tiles == tiles[piece.b]:
                stores += group_output(head * tile.size % SECTOR, held, D)
                continue
            slot = (2 * place + (piece.first == 0)) * tile.held
            places = slot * STATE % SECTOR, slot * D * FLOAT % SECTOR
            stores += group_states(*places, held, D)
            loads += group_read(*places, held, D, tile.fours)
            cuts += 1
            if piece.first == 0:  # the last block that leaves a state merges, and sets a counter back
                stores += group_fours(head * tile.size % SECTOR, held, D, tile.fours, 8) + Access(1, 1, INT)
    for b in np.flatnonzero(np.equal(tiles, 0)):
        stores += run(int(b) * G * R * tile.size % SECTOR, G * R * D, 2)
    traffic = (loads + looked.times(given)).loads() + stores.stores()
    traffic.atomic_requests, traffic.atomic_sectors, traffic.atomic_bytes = cuts, cuts, cuts * INT
    traffic.barriers = sum(1 + tile.barriers * len(work) for work in plan if work) + cuts
    return traffic


def group_shares(B, G, R, tile, count, given=True):
    """Return the traffic, but for the keys, of blocks that each take one of `count` shares of a row.

    Lengths are loaded if `given`.
    """
    D, own, blocks = tile.D, len(tile.parts), B * G * len(tile.parts) * count
    loads = lookups(blocks * given) + each_row(B, G, R, tile.size, tile.parts, tile.query).times(count)
    if count == 1:
        stores = each_row(B, G, R, tile.size, tile.parts, lambda first, n: group_output(first, n, D))
    else:
        stores = each_row(B, G, R, tile.size, tile.parts, lambda first, n: group_fours(first, n, D, tile.fours, 8))
        stores += Access(1, 1, INT).times(B * G * own)  # counters set back
    for i, held in enumerate(tile.parts if count > 1 else ()):
        slots = ((np.arange(B * G)[:, None] * own + i) * count + np.arange(count)).ravel()
        stores += over_slots(slots, tile.held, D, lambda ml, o, n=held: group_states(ml, o, n, D))
        loads += over_slots(slots, tile.held, D, lambda ml, o, n=held: group_read(ml, o, n, D, tile.fours))
    traffic, cuts = loads.loads() + stores.stores(), blocks if count > 1 else 0
    traffic.atomic_requests, traffic.atomic_sectors, traffic.atomic_bytes = cuts, cuts, cuts * INT
    traffic.barriers = blocks * (1 + tile.barriers) + cuts
    return traffic
