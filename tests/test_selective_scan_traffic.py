"""The closed forms of selective_scan: equal to what the SIMT machine counts, and to the formulas of the README."""

import inspect
import re

import numpy as np
import pytest

from minikernels import simt
from minikernels.core.traffic import Traffic
from minikernels.selective_scan import numba_cuda, numba_parallel, operators, raw, scan, schedule, traffic, traffic_raw
from tests.selective_scan_cases import CASES, label, made

FIELDS = ["load_requests", "load_sectors", "load_bytes", "store_requests", "store_sectors", "store_bytes", "barriers"]
NUMBA = ["v1_channel_major", "v2_token_major", "v3_hillis_steele", "v4_blelloch"]
COMPOSING = {  # the lines of a kernel that compose two maps
    "v3_hillis_steele": re.compile(r"(drive|decay) [+*]= .*_smem\[side"), "v4_blelloch": re.compile("= later [*]"),
}
over = pytest.mark.parametrize


def same(predicted, launches):
    """Fail unless a closed form equals the sum of what launches counted."""
    counted = sum((launch.traffic for launch in launches), Traffic())
    assert {f: getattr(predicted, f) for f in FIELDS} == {f: getattr(counted, f) for f in FIELDS}


def counted(rung, given, **options):
    """Return the one launch of a rung."""
    with simt.collect() as launches:
        if options:
            getattr(numba_cuda, f"launch_{rung}")(**given, **options)
        else:
            scan(**given, rung=rung)
    assert not [finding for launch in launches for finding in launch.findings]
    return launches[0]


@over("case", CASES, ids=label)
@over("rung", NUMBA)
def test_predicted_equals_counted(rung, case):
    dtype = ("float32", "float16")[CASES.index(case) % 2]
    given = made(case, dtype)
    flags = {"skip": given["d"] is not None, "gated": given["z"] is not None}
    predicted = getattr(traffic, rung)(*case[:4], itemsize=given["u"].itemsize, **flags)
    same(predicted, [counted(rung, given)])


@over(("rung", "option"), [("v2_token_major", {"threads": 32}), ("v3_hillis_steele", {"chunk": 8}),
                           ("v4_blelloch", {"chunk": 64})])
def test_predicted_equals_counted_at_other_block_sizes(rung, option):
    sizes = 2, 70, 21, 3
    tile = {} if "threads" in option else option
    same(getattr(traffic, rung)(*sizes, **tile), [counted(rung, made((*sizes, "")), **option)])


@over("rung", NUMBA)
@over("left_out", ["", "z", "softplus z"])
def test_exponentials_are_counted(rung, left_out):
    given = made((2, 33, 9, 5, left_out))
    form = traffic.exponentials(2, 33, 9, 5, given["delta_softplus"], given["z"] is not None)
    assert counted(rung, given).traffic.special == form


@over("chunk", [8, 32])
@over("rung", ["v3_hillis_steele", "v4_blelloch"])
def test_work_and_depth_are_those_of_the_scan(rung, chunk):
    """3 FLOP a composition, a barrier a step: by the lines of the kernel that compose."""
    T, E, N = 2 * chunk, 8, 3
    launch = counted(rung, made((1, T, E, N, "")), chunk=chunk)
    lines, first = inspect.getsourcelines(getattr(numba_parallel, rung)(N, True, True, True, chunk, 8).py_func)
    composing = [launch.by_line[first + n].flop for n, line in enumerate(lines) if COMPOSING[rung].search(line)]
    steps = [launch.by_line[first + n].barriers for n, line in enumerate(lines) if "this level is written" in line]
    work, depth = traffic.compositions(chunk)[rung]
    assert len(composing) == 2
    assert sum(composing) == 3 * work * T // chunk * E * N
    assert steps == [depth * T // chunk * N]
    scan_of = operators.SCANS[rung.partition("_")[2]]
    assert scan_of(operators.affine, (np.ones(chunk), np.ones(chunk)))[1] == (work, depth)


def test_the_layout_decides_the_sectors():
    B, T, E, N = 2, 48, 64, 4
    given = made((B, T, E, N, ""))
    for rung, sectors in (("v1_channel_major", B * T * E), ("v2_token_major", B * T * E * 4 // 32)):
        by_array = counted(rung, given).by_array
        loads = [by_array[name].load_sectors for name in ("u", "delta", "z")]
        assert [*loads, by_array["o"].store_sectors] == [sectors] * 4


def test_the_readme_formulas_are_the_closed_forms():
    sizes = {"B": 8, "T": 2048, "E": 2048, "N": 16}
    least = traffic.least_bytes(**sizes, itemsize=2, gated=False)
    assert least == 8 * 2048 * (3 * 2048 + 2 * 16) * 2
    assert round(traffic.reference(**sizes, itemsize=2, gated=False).hbm_bytes / least) == 65
    small = traffic.tiled(**sizes, itemsize=2, gated=False).hbm_bytes - least
    assert small == 8 * 2048 * 4 * (2 * 16 + 2 + 16)  # rates, bias, d and states
    assert traffic.compositions(32) == {"v3_hillis_steele": (129, 5), "v4_blelloch": (57, 9)}


@over("sizes", [(1, 16384, 2048, 16), (2, 100, 40, 5), (1, 300, 7, 100)], ids=str)
@over("itemsize", [2, 4])
def test_the_cuda_rungs_read_tokens_once_or_twice(sizes, itemsize):
    B, T, E, N = sizes
    tile = raw.constants(N, E, itemsize)
    blocks, states = raw.blocks_of(E, tile), E * N * 4
    tokens, mixed = B * T * E * itemsize, blocks * B * T * N * itemsize
    v5 = traffic.v5_registers(*sizes, itemsize=itemsize)
    share = E * raw.THREADS // (raw.THREADS // tile["LANES"]) * tile["VEC"] * 4  # bias, or d, for its readers
    assert v5.load_bytes == 2 * B * share + 3 * tokens + 2 * mixed + 2 * B * states
    assert v5.store_bytes == tokens + B * states
    tiles = -(-T // tile["TOKENS"])
    count = -(-tiles // -(-tiles // 3))
    early = (count - 1) * -(-tiles // count) * tile["TOKENS"]
    v6 = traffic.v6_three_phase(*sizes, itemsize=itemsize, count=3)
    again = early * (2 * E + blocks * N) * B * itemsize
    rates, carried = B * (2 * count - 1 + 1) * states, B * states * (1 + count - 1 + count) + B * (count - 1) * states
    assert v6.load_bytes == B * (3 * count - 1) * share + 3 * tokens + 2 * mixed + again + rates + carried
    between = B * (count - 1) * (states + E * 4) + B * count * states
    assert v6.store_bytes == tokens + B * states + between
    assert traffic.v6_three_phase(*sizes, itemsize=itemsize, count=1) == v5


@over("rung", ["v7_channel_pairs", "v8_staging_warps"])
@over("sizes", [(1, 16384, 2048, 16), (2, 100, 40, 5), (1, 300, 7, 100)], ids=str)
@over("itemsize", [2, 4])
def test_channel_pairs_read_b_and_c_half_as_often(sizes, itemsize, rung):
    B, T, E, N = sizes
    tile = raw.pair_constants(raw.constants(N, E, itemsize), E)
    blocks, states = raw.blocks_of(E, tile), E * N * 4
    assert blocks == -(-E // (2 * raw.THREADS // tile["LANES"]))
    share = E * raw.THREADS // (2 * raw.THREADS // tile["LANES"]) * tile["VEC"] * 4  # bias, or d, for its readers
    whole = getattr(traffic, rung)(*sizes, itemsize=itemsize, count=1)
    tokens = B * T * (4 * E + 2 * blocks * N) * itemsize
    assert whole.load_bytes + whole.store_bytes == tokens + 2 * B * share + 3 * B * states
    assert whole.barriers == B * blocks * (-(-T // tile["TOKENS"]) + 1)
    parts = getattr(traffic, rung)(*sizes, itemsize=itemsize, count=3)
    tiles = -(-T // tile["TOKENS"])
    count, each = -(-tiles // -(-tiles // 3)), -(-tiles // 3)
    early = (count - 1) * each * tile["TOKENS"]
    again = B * early * (2 * E + blocks * N) * itemsize + 3 * B * (count - 1) * share
    carried = B * (6 * (count - 1) + 2 + count) * states + B * (count - 1) * E * 4  # rates, states, sums of steps
    assert parts.load_bytes + parts.store_bytes == whole.load_bytes + whole.store_bytes + again + carried


@over("N", [1, 4, 5, 16, 17, 100, 128])
def test_the_forms_and_the_kernels_share_their_constants(N):
    for E in (7, 64):
        tile, form = raw.constants(N, E, 2), traffic_raw.Tile(E, N, 2)
        assert (tile["LANES"], tile["TOKENS"], tile["VEC"]) == (form.lanes, form.tokens, form.vector)
        assert raw.blocks_of(E, tile) == form.blocks
        for itemsize in (2, 4):
            tile, form = raw.pair_constants(raw.constants(N, E, itemsize), E), traffic_raw.Pairs(E, N, itemsize)
            assert [tile[name] for name in ("LANES", "TOKENS", "VEC", "MIX")] == [
                form.lanes, form.tokens, form.vector, form.mix]
            assert raw.blocks_of(E, tile) == form.blocks
    assert (raw.THREADS, raw.PER, raw.RESIDENT) == (traffic_raw.THREADS, traffic_raw.PER, traffic_raw.RESIDENT)
    assert (raw.PAIRS_RESIDENT, raw.PAIRS_ALONE) == traffic_raw.PAIRS
    assert (raw.STAGING_RESIDENT, raw.STAGING_ALONE) == traffic_raw.STAGING


@over("blocks", [1, 64, 512, 5000])
@over("tiles", [1, 7, 64, 512, 8192])
def test_chunks_cover_all_tiles_and_none_is_empty(blocks, tiles):
    count, share = schedule.chunks(blocks, tiles, 132, 4)
    assert count * share >= tiles > (count - 1) * share
    assert count <= schedule.MOST
    if blocks >= 528:
        assert count == 1
