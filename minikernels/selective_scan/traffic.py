"""HBM traffic of every rung, in closed form, and the work that bounds a scan from the other side.

The forms of the kernels are exact for any sizes: those of the numba rungs equal, number for number, what the SIMT
machine counts. The forms of the NumPy rungs give the bytes of the schedule that each of them spells out, for a kernel
that keeps everything else on the chip: they fill in ``load_bytes`` and ``store_bytes`` alone.

Every function takes the sizes B, T, E and N, the ``itemsize`` in bytes of u, delta, b, c, z and o (rates, states, d and
the bias are float32) and whether the scan has a direct share d (``skip``) and gates z (``gated``). Where an axis is
empty nothing is launched and nothing moves; where a kernel in CUDA C++ does not take N, its form raises ShapeError as
its launcher does.
"""

from functools import wraps

from minikernels.core.sectors import Access, heads, rows, run, span
from minikernels.core.traffic import Traffic
from minikernels.selective_scan import traffic_raw
from minikernels.selective_scan.outputs import check_warp

FLOAT = 4  # bytes of a float32


def nothing_if_empty(form, cuda=False):
    """Return the form, made to give no traffic where an axis is empty.

    That of a kernel in CUDA C++ (`cuda`) raises where its launcher does.
    """

    @wraps(form)
    def guarded(B, T, E, N, itemsize=FLOAT, skip=True, gated=True, **tile):
        if 0 in (B, T, E, N):
            return Traffic()
        if cuda:
            check_warp(N, form.__name__)
        return form(B, T, E, N, itemsize, skip, gated, **tile)

    return guarded


def exponentials(B, T, E, N, softplus=True, gated=True):
    """Return how many exponentials and logarithms a scan takes: N + 3 a channel and token, or fewer without gates.

    It is the wall that a scan meets first: a GPU computes 16 a clock and multiprocessor.
    """
    return B * T * E * (N + 2 * softplus + gated)


def flop(B, T, E, N):
    """Return the FLOP of the recurrence: delta*a, (delta*u)*b, two of the state's and two of the output's."""
    return 6 * B * T * E * N


def least_bytes(B, T, E, N, itemsize, gated=True):
    """Return the bytes that any kernel must move: u, delta, b, c, o and perhaps z, each once."""
    return B * T * ((3 + gated) * E + 2 * N) * itemsize


def parameters(B, E, N, itemsize, skip):
    """Return the bytes of rates, bias, d and first states, each read once a sequence."""
    return B * E * FLOAT * (2 * N + 1 + skip)


@nothing_if_empty
def reference(B, T, E, N, itemsize, skip, gated):
    """Decays, drives and states of every token, float32 (B, T, E, N) each, written to HBM and read back."""
    square, state = 3 * B * T * E * N * FLOAT, B * E * N * FLOAT
    inputs = least_bytes(B, T, E, N, itemsize, gated) - B * T * E * itemsize
    loads = square + inputs + parameters(B, E, N, itemsize, skip)
    return Traffic(load_bytes=loads, store_bytes=square + B * T * E * itemsize + state)


@nothing_if_empty
def tiled(B, T, E, N, itemsize, skip, gated):
    """Everything crosses once; a state leaves the chip when the sequence ends."""
    inputs = least_bytes(B, T, E, N, itemsize, gated) - B * T * E * itemsize
    stores = B * T * E * itemsize + B * E * N * FLOAT
    return Traffic(load_bytes=inputs + parameters(B, E, N, itemsize, skip), store_bytes=stores)


def by_thread(B, T, E, N, itemsize, skip, tokens):
    """Return the parts of a scan with a thread a channel: loads that all have, and the last state's stores.

    Parameters
    ----------
    tokens : Access
        The cost of going through one (B, T, E) array.
    """
    rates = rows(0, E, N, FLOAT).times(B)
    states = heads(B, E * N * FLOAT, lambda first: rows(first, E, N, FLOAT))
    once = run(0, E, FLOAT).times(B * (1 + skip))  # the bias, and d
    warps = -(-E // 32)
    broadcast = Access(warps, warps, E * itemsize).times(2 * B * T * N)  # b and c: all lanes read one element
    return rates + states + once + broadcast + tokens, states


@nothing_if_empty
def v1_channel_major(B, T, E, N, itemsize, skip, gated):
    """The 32 lanes of a warp read elements that lie T apart."""
    tokens = heads(B, E * T * itemsize, lambda first: rows(first, E, T, itemsize))
    loads, states = by_thread(B, T, E, N, itemsize, skip, tokens.times(2 + gated))
    return loads.loads() + (tokens + states).stores()


@nothing_if_empty
def v2_token_major(B, T, E, N, itemsize, skip, gated):
    """The 32 lanes of a warp read neighbouring elements."""
    tokens = heads(B * T, E * itemsize, lambda first: run(first, E, itemsize))
    loads, states = by_thread(B, T, E, N, itemsize, skip, tokens.times(2 + gated))
    return loads.loads() + (tokens + states).stores()


def by_chunk(B, T, E, N, itemsize, skip, gated, barriers, chunk, channels=8):
    """Return the traffic of a scan whose blocks take `channels` channels, `chunk` tokens at a time.

    Parameters
    ----------
    barriers : int
        Barriers of one state in one chunk.
    """
    blocks, rest = divmod(E, channels)
    held = [channels] * blocks + [rest] * (rest > 0)
    threads, per_warp = chunk * channels, 32 // channels  # a warp has so many tokens of all channels
    tokens = heads(B, T * E * itemsize, lambda first: rows(first, T, E, itemsize, per_warp, channels))
    states = Access()
    for block, width in enumerate(held):
        top = block * channels * N * FLOAT
        states += heads(B, E * N * FLOAT, lambda first, top=top, n=width * N: run(first + top, n, FLOAT))
    rates = run(0, channels * N, FLOAT).times(B * blocks)  # a block's rates begin where a sector does
    rates += run(0, rest * N, FLOAT).times(B)
    once = sum((Access(threads // 32, threads // 32 * span(0, n * FLOAT), chunk * n * FLOAT) for n in held), Access())
    mixed = heads(B, T * N * itemsize, lambda first: rows(first, T, N, itemsize, per_warp))  # b, or c, by one channel
    read = Access(mixed.requests * len(held), mixed.sectors * len(held), mixed.bytes * E)
    loads = tokens.times(2 + gated) + states + rates + once.times(B * (1 + skip)) + read.times(2)
    traffic = loads.loads() + (tokens + states).stores()
    traffic.barriers = B * len(held) * (2 + -(-T // chunk) * N * barriers)
    return traffic


@nothing_if_empty
def v3_hillis_steele(B, T, E, N, itemsize, skip, gated, chunk=32):
    """A chunk's tokens at once; log2(chunk) levels, and a barrier after each and before the first."""
    return by_chunk(B, T, E, N, itemsize, skip, gated, chunk.bit_length(), chunk)


@nothing_if_empty
def v4_blelloch(B, T, E, N, itemsize, skip, gated, chunk=32):
    """As v3_hillis_steele with 2 log2(chunk) - 1 levels."""
    return by_chunk(B, T, E, N, itemsize, skip, gated, 2 * chunk.bit_length() - 2, chunk)


def staged_bytes(N, channels=1):
    """Return how many bytes of shared memory the lanes of a channel read for a token: step and drive, b and c.

    The CUDA C++ rungs: a lane has 4 states of each of its `channels` and reads b and c once for all of them. There is
    one channel up to v6_three_phase, and two from v7_channel_pairs on. A multiprocessor reads 128 bytes a clock.

    >>> staged_bytes(16), staged_bytes(16, channels=2)
    (160, 96)
    """
    lanes = 1 << (-(-N // traffic_raw.PER) - 1).bit_length()
    return lanes * (2 * traffic_raw.PER // channels + 2) * FLOAT


def compositions(chunk):
    """Return how many maps the rungs v3 and v4 compose in a chunk: {rung: (work, depth)}.

    >>> compositions(32)
    {'v3_hillis_steele': (129, 5), 'v4_blelloch': (57, 9)}
    """
    levels = chunk.bit_length() - 1
    up_and_down = 2 * (chunk - 1) - levels
    return {"v3_hillis_steele": (chunk * levels - chunk + 1, levels),
            "v4_blelloch": (up_and_down, 2 * levels - 1)}


v5_registers = nothing_if_empty(traffic_raw.v5_registers, cuda=True)
v6_three_phase = nothing_if_empty(traffic_raw.v6_three_phase, cuda=True)
v7_channel_pairs = nothing_if_empty(traffic_raw.v7_channel_pairs, cuda=True)
v8_staging_warps = nothing_if_empty(traffic_raw.v8_staging_warps, cuda=True)
