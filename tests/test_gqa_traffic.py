"""The closed forms of gqa: equal to what the SIMT machine counts, and to the formulas of the README."""

import numpy as np
import pytest

from minikernels import gqa, simt
from minikernels.core.decode import shares
from minikernels.core.decode_traffic import GroupTile
from minikernels.core.sectors import Access
from minikernels.core.traffic import Traffic
from minikernels.gqa import numba_cuda, outputs, traffic, traffic_attention
from tests.gqa_cases import CASES, PROMPTS, label, made, prompt

FIELDS = ["load_requests", "load_sectors", "load_bytes", "store_requests", "store_sectors", "store_bytes", "barriers"]
over = pytest.mark.parametrize


def same(predicted, launches):
    """Fail unless a closed form equals the sum of what launches counted."""
    counted = sum((launch.traffic for launch in launches), Traffic())
    assert {f: getattr(predicted, f) for f in FIELDS} == {f: getattr(counted, f) for f in FIELDS}


@over("dtype", ["float32", "float16"])
@over("case", CASES, ids=label)
@over("rung", ["v1_block_per_head", "v2_shared_group", "v3_warp_dot"])
def test_predicted_equals_counted(rung, case, dtype):
    q, k, v, lengths = made(case, dtype)
    with simt.collect() as launches:
        gqa.decode(q, k, v, lengths=lengths, rung=rung)
    assert not [finding for launch in launches for finding in launch.findings]
    same(getattr(traffic, rung)(*case[:5], itemsize=q.itemsize, lengths=case[5]), launches)


@over("dtype", ["float32", "float16"])
@over("case", PROMPTS, ids=label)
@over("rung", ["v1_head_per_block", "v2_group_per_block"])
def test_predicted_equals_counted_over_a_prompt(rung, case, dtype):
    q, k, v = prompt(case, dtype)
    with simt.collect() as launches:
        gqa.attention(q, k, v, causal=case[-1], rung=rung)
    assert not [finding for launch in launches for finding in launch.findings]
    same(getattr(traffic_attention, rung)(*case[:6], itemsize=q.itemsize, causal=case[-1]), launches)


@over(("rung", "option"), [("v2_shared_group", {"threads": 64}), ("v3_warp_dot", {"warps": 2})],
      ids=["v2_shared_group", "v3_warp_dot"])
def test_predicted_equals_counted_at_other_block_sizes(rung, option):
    case = (2, 6, 2, 70, 33, (70, 41))
    q, k, v, lengths = made(case)
    with simt.collect() as launches:
        getattr(numba_cuda, f"launch_{rung}")(q, k, v, lengths.astype("int32"), 0.3, **option)
    same(getattr(traffic, rung)(*case[:5], lengths=case[5], **option), launches)


@over("H", [1, 2, 4, 8])
def test_the_group_reads_the_cache_h_over_g_times_less(H):
    sizes = {"B": 2, "H": H, "G": 1, "S": 96, "D": 32}
    once = 2 * 2 * 96 * 32 * 4  # K and V, two sequences
    for rung, times in (("v1_block_per_head", H), ("v2_shared_group", 1), ("v3_warp_dot", 1)):
        q, k, v, lengths = made((*sizes.values(), None))
        with simt.collect() as launches:
            gqa.decode(q, k, v, lengths=lengths, rung=rung)
        by_array = launches[0].traffic.by_array
        assert by_array["k"].load_bytes + by_array["v"].load_bytes == times * once
    two = [traffic_attention.v1_head_per_block, traffic_attention.v2_group_per_block]
    v1, v2 = (form(2, H, 1, 96, 96, 32).load_bytes - 2 * H * 96 * 32 * 4 for form in two)
    assert v1 == H * v2


def test_the_readme_formulas_are_the_closed_forms():
    B, H, G, S, D, item, lengths = 2, 6, 2, 96, 32, 2, (96, 50)
    keys, once = sum(lengths), B * H * D * item
    forms = {name: getattr(traffic, name)(B, H, G, S, D, itemsize=item, lengths=lengths) for name in (
        "reference", "tiled", "v1_block_per_head", "v2_shared_group", "v3_warp_dot")}
    assert forms["reference"].load_bytes == once + 2 * G * keys * D * item + 2 * H * keys * 4
    assert forms["tiled"].load_bytes == once + 2 * G * keys * D * item
    assert forms["v1_block_per_head"].load_bytes == once + 2 * H * keys * D * item + B * H * 32 * 4
    assert forms["v2_shared_group"].load_bytes == once + 2 * G * keys * D * item + B * G * 128 * 4
    assert forms["v3_warp_dot"].load_bytes == 4 * once + 2 * G * keys * D * item + B * G * 128 * 4
    assert {form.store_bytes for name, form in forms.items() if name != "reference"} == {once}


def test_tiles_and_chunks_are_those_of_the_kernels():
    for R in range(1, 33):
        parts = traffic.pieces(R)
        assert (parts[0], len(parts), sum(parts)) == (*outputs.chunks(R), R)


@over("dtype_bytes", [2, 4])
@over("case", [(2, 8, 2, 70, 64, (70, 33)), (3, 12, 1, 137, 128, (0, 1, 137)), (1, 6, 3, 129, 40, (127,))], ids=label)
def test_the_cuda_rungs_read_the_cache_once_for_8_heads(case, dtype_bytes):
    B, H, G, S, D, lengths = case
    parts, row = -(-H // G // 8), D * dtype_bytes
    keys_at_once = 32 // (1 << (row // 16 - 1).bit_length())  # lanes that hold the same columns of q
    step = 4 * keys_at_once  # keys of a warp; a block's four warps take theirs in turn, and none reads q for no key

    def query(shares):
        tiles = [-(-n // (4 * step)) for n in lengths]
        parts_of = [[min(n, (i + 1) * share * 4 * step) - i * share * 4 * step for i in range(shares)]
                    for n, share in zip(lengths, [-(-t // shares) for t in tiles])]
        warps = sum(min(4, -(-max(0, keys) // step)) for parts in parts_of for keys in parts)
        return warps * keys_at_once * H * row

    options = {"itemsize": dtype_bytes, "lengths": lengths}
    cache = 2 * parts * G * sum(lengths) * row
    v4 = traffic.v4_wide_loads(B, H, G, S, D, **options)
    assert v4.load_bytes == cache + query(1) + B * G * parts * 128 * 4
    assert v4.store_bytes == B * H * row
    v5 = traffic.v5_split_kv(B, H, G, S, D, **options, count=3)
    assert v5.load_bytes == cache + query(3) + 3 * (B * G * parts * 128 * 4 + B * H * D * (8 + 4))
    assert v5.store_bytes == B * H * row + 3 * B * H * (D * 4 + 8)
    assert traffic.v5_split_kv(B, H, G, S, D, **options, count=1) == v4


@over("case", [(2, 8, 2, 70, 64, (70, 33)), (3, 12, 1, 137, 128, (0, 1, 137)), (2, 40, 1, 99, 40, (97, 64))], ids=label)
def test_the_tensor_core_rungs_read_the_cache_once_for_32_heads(case):
    B, H, G, S, D, lengths = case
    parts, own, options = -(-H // G // 32), B * H * D * 2, {"itemsize": 2, "lengths": lengths}
    cache, looked = 2 * parts * G * sum(lengths) * D * 2, B * G * parts * 128 * 4
    tile = GroupTile(H // G, D)
    v7 = traffic.v7_mma_group(B, H, G, S, D, **options, count=1)
    assert (v7.load_bytes, v7.store_bytes) == (cache + own + looked, own)
    two = traffic.v7_mma_group(B, H, G, S, D, **options, count=2)
    assert two.load_bytes == v7.load_bytes + own + looked + 2 * B * H * (D // 4 // tile.fours * 8 + D * 4)
    assert two.store_bytes == own + 2 * B * H * (D * 4 + 8) + B * G * parts * 4
    v8 = traffic.v8_mma_stream_k(B, H, G, S, D, **options, blocks=1)  # one run: no row is cut
    busy = [b for b, n in enumerate(lengths) if n]
    walk = 4 * 2 * B * 4 + 2 * (busy[-1] - busy[0]) * 128 * 4  # all lengths twice by each warp, then two walks
    empty = B * 128 * 4  # a look at each length: is there nothing to write?
    assert v8.load_bytes == cache + own * len(busy) // B + walk + empty
    assert v8.store_bytes == own


@over("D", [8, 40, 64, 128])
@over("n", [1, 16, 37])
def test_copies_are_what_the_lanes_of_every_request_ask_for(D, n):
    tile, chunks, requests, sectors = GroupTile(4, D), D // 8, 0, 0
    for first in range(0, n, 16):
        for copy in range(0, 16 * chunks, 32):
            lanes = [first * chunks + i for i in range(copy, min(copy + 32, 16 * chunks))]
            held = [chunk * 16 + 16 for chunk in lanes if chunk < n * chunks]  # the array begins in mid-sector
            requests, sectors = requests + bool(held), sectors + len({byte // 32 for byte in held})
    assert tile.copies(np.arange(n) * D * 2, 16) == Access(2 * requests, 2 * sectors, 2 * n * D * 2)


def test_stream_k_leaves_states_only_where_a_cut_goes_through_a_row():
    sizes = {"B": 4, "H": 8, "G": 2, "S": 256, "D": 64}
    whole = traffic.v6_stream_k(**sizes, itemsize=2, blocks=8)  # a row of 4 heads is 4 tiles, and a run is 4 tiles
    v4 = traffic.v4_wide_loads(**sizes, itemsize=2)
    assert whole.store_bytes == v4.store_bytes
    begin, find, merge = 8, 2 * (4 * (2 + 2) + 3), 8 * (4 * 2 + 3)  # reads of ends and lengths, by 128 threads each
    assert whole.load_bytes == v4.load_bytes + (begin + find + merge - 8) * 128 * 4
    cut = traffic.v6_stream_k(**sizes, itemsize=2, blocks=7)
    assert cut.store_bytes > whole.store_bytes
    assert cut.load_bytes > whole.load_bytes


@over("rung", ["v4_wide_loads", "v5_split_kv", "v6_stream_k", "v7_mma_group", "v8_mma_stream_k"])
def test_no_cuda_rung_loads_lengths_where_none_are_given(rung):
    sizes, form = {"B": 3, "H": 8, "G": 2, "S": 300, "D": 64, "itemsize": 2}, getattr(traffic, rung)
    told, untold = form(**sizes, lengths=[300] * 3), form(**sizes)
    looks = {  # of 128 threads, each time; v8's warps look at all three to find their way
        "v4_wide_loads": 6, "v5_split_kv": 6 * shares(6, 5, 396), "v6_stream_k": 30,
        "v7_mma_group": 6 * shares(6, 5, 264), "v8_mma_stream_k": 3,
    }[rung] * 128 * 4
    walk = 30 * 2 * 4 * 3 * 4 if rung == "v8_mma_stream_k" else 0
    assert told.load_bytes - untold.load_bytes == looks + walk
    untold.load_bytes, untold.load_requests, untold.load_sectors = (
        told.load_bytes, told.load_requests, told.load_sectors)
    assert untold == told
