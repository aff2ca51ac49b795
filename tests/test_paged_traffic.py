"""The closed forms of paged: equal to what the SIMT machine counts, and to the formulas of the README."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikernels import paged, simt
from minikernels.core.traffic import Traffic
from minikernels.paged import numba_reduce, numba_warp, outputs, raw, reference, traffic, traffic_raw
from tests.paged_cases import CASES, label, made, right

FIELDS = ["load_requests", "load_sectors", "load_bytes", "store_requests", "store_sectors", "store_bytes", "barriers"]
NUMBA = ["v1_gather", "v2_page_table", "v3_warp_key"]
over = pytest.mark.parametrize


def counted(rung, arrays):
    """Return what the SIMT machine counts of a rung; it must find nothing wrong."""
    with simt.collect() as launches:
        paged.decode(*arrays, rung=rung)
    assert not [finding for launch in launches for finding in launch.findings]
    return sum((launch.traffic for launch in launches), Traffic())


def predicted(rung, case, arrays, **options):
    """Return the closed form of a rung."""
    B, H, G, P, D, lengths = case
    given = {"itemsize": arrays[0].itemsize, "lengths": lengths, "page_table": arrays[3]}
    return getattr(traffic, rung)(B, H, G, max(lengths), P, D, **given, **options)


@over("dtype", ["float32", "float16"])
@over("case", CASES, ids=label)
@over("rung", NUMBA)
def test_predicted_equals_counted(rung, case, dtype):
    arrays = made(case, dtype)
    found, form = counted(rung, arrays), predicted(rung, case, arrays)
    assert {f: getattr(form, f) for f in FIELDS} == {f: getattr(found, f) for f in FIELDS}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 3), st.integers(1, 17), st.sampled_from([1, 2, 3, 5, 8, 20, 64]),
       st.sampled_from([1, 2, 3, 8, 12, 31, 33, 129]), st.lists(st.integers(0, 60), min_size=1, max_size=3),
       st.sampled_from(["float32", "float16"]), st.sampled_from(NUMBA), st.integers(0, 99))
def test_any_sizes_are_right_and_counted_right(G, R, P, D, lengths, dtype, rung, seed):
    case = len(lengths), G * R, G, P, D, tuple(lengths)
    arrays = made(case, dtype, seed)
    right(reference.judge(paged.decode(*arrays, rung=rung), *arrays, D**-0.5))
    if max(lengths):
        found, form = counted(rung, arrays), predicted(rung, case, arrays)
        assert {f: getattr(form, f) for f in FIELDS} == {f: getattr(found, f) for f in FIELDS}


def test_predicted_equals_counted_with_other_warps():
    case = (2, 6, 2, 7, 33, (70, 41))
    arrays = made(case)
    with simt.collect() as launches:
        numba_warp.launch_v3_warp_key(*arrays, 0.3, warps=2)
    form = predicted("v3_warp_key", case, arrays, warps=2)
    assert {f: getattr(form, f) for f in FIELDS} == {f: getattr(launches[0].traffic, f) for f in FIELDS}


def test_shared_pages_are_counted_where_they_lie():
    q, k_pages, v_pages, _, _ = made((3, 4, 2, 3, 5, (16, 16, 16)))
    table, lengths = np.array([[3, 1, 2], [3, 1, 5], [2, 2, 2]], np.int32), np.array([9, 8, 7], np.int32)
    arrays = q, np.nan_to_num(k_pages), np.nan_to_num(v_pages), table, lengths
    for rung in NUMBA:
        found, form = counted(rung, arrays), predicted(rung, (3, 4, 2, 3, 5, (9, 8, 7)), arrays)
        assert {f: getattr(form, f) for f in FIELDS} == {f: getattr(found, f) for f in FIELDS}


def test_gathering_moves_keys_and_values_three_times():
    case = (2, 4, 4, 16, 64, (96, 48))
    arrays = made(case)
    pool = 2 * 4 * (96 + 48) * 64 * 4  # K and V of both sequences, once
    moved = {rung: counted(rung, arrays).by_array for rung in ("v1_gather", "v2_page_table")}
    v1, v2 = ({name: x.load_bytes + x.store_bytes for name, x in by_array.items()} for by_array in moved.values())
    assert v1["k_pages"] + v1["v_pages"] == v2["k_pages"] + v2["v_pages"] == pool
    assert v1["k"] + v1["v"] == 2 * pool


@over("H", [1, 2, 4, 8])
def test_a_warp_reads_a_key_once_for_all_heads_that_share_it(H):
    arrays = made((2, H, 1, 16, 32, (96, 96)))
    once = 2 * 2 * 96 * 32 * 4
    for rung, times in (("v2_page_table", H), ("v3_warp_key", 1)):
        by_array = counted(rung, arrays).by_array
        assert by_array["k_pages"].load_bytes + by_array["v_pages"].load_bytes == times * once


def test_the_readme_formulas_are_the_closed_forms():
    B, H, G, P, D, item, lengths = 2, 6, 2, 16, 32, 2, (96, 50)
    keys, once, entries = sum(lengths), B * H * D * item, 4 * (6 + 4)
    forms = {name: getattr(traffic, name)(B, H, G, 96, P, D, itemsize=item, lengths=lengths) for name in (
        "reference", "tiled", *NUMBA)}
    pool, share = 2 * G * keys * D * item, H // G
    assert forms["reference"].load_bytes == once + entries + 2 * pool + 2 * H * keys * 4
    assert forms["tiled"].load_bytes == once + entries + pool
    lookups = {"v1_gather": 128 * 4 * (2 * 6 + 6 + 4 + B * H), "v3_warp_key": G * keys * 32 * 4 + B * G * 128 * 4,
               "v2_page_table": H * (keys + (6 + 4) * D) * 4 + B * H * 128 * 4}
    assert forms["v1_gather"].load_bytes == once + (1 + share) * pool + lookups["v1_gather"]
    assert forms["v2_page_table"].load_bytes == once + share * pool + lookups["v2_page_table"]
    assert forms["v3_warp_key"].load_bytes == 4 * once + pool + lookups["v3_warp_key"]
    assert forms["v1_gather"].store_bytes == pool + once
    assert forms["v2_page_table"].store_bytes == forms["v3_warp_key"].store_bytes == once


def test_sizes_of_blocks_are_those_of_the_kernels():
    assert (traffic.THREADS, traffic.SCORES) == (numba_reduce.THREADS, outputs.SCORES)
    for R in range(1, 33):
        parts = traffic.pieces(R)
        assert (parts[0], len(parts), sum(parts)) == (*outputs.chunks(R), R)


@over("itemsize", [2, 4])
@over("case", [(2, 8, 2, 16, 64, (70, 33)), (3, 12, 1, 5, 128, (0, 1, 137)), (1, 6, 3, 128, 40, (127,))], ids=label)
def test_the_cuda_rungs_read_the_cache_once_for_8_heads(case, itemsize):
    B, H, G, P, D, lengths = case
    parts, row = -(-H // G // 8), D * itemsize
    lanes = 1 << (row // 16 - 1).bit_length()  # that share a row, and so a lookup
    lookups = G * parts * lanes * 4 * (sum(lengths) if P % (128 // lanes) else sum(
        min(32 // lanes, n - s) for n in lengths for s in range(0, n, 128 // lanes)))
    cache, query = 2 * parts * G * sum(lengths) * row, 4 * (32 // lanes) * B * H * row
    v4 = traffic.v4_fetch_ahead(B, H, G, max(lengths), P, D, itemsize, lengths)
    assert v4.load_bytes == cache + lookups + query + B * G * parts * 128 * 4
    assert v4.store_bytes == B * H * row
    v5 = traffic.v5_split_kv(B, H, G, max(lengths), P, D, itemsize, lengths, count=3)
    assert v5.load_bytes == cache + lookups + 3 * query + 3 * (B * G * parts * 128 * 4 + B * H * D * (8 + 4))
    assert v5.store_bytes == B * H * row + 3 * B * H * (D * 4 + 8)
    assert traffic.v5_split_kv(B, H, G, max(lengths), P, D, itemsize, lengths, count=1) == v4


@over("case", [(2, 8, 2, 16, 64, (70, 33)), (3, 12, 1, 5, 128, (0, 1, 137)), (2, 40, 1, 16, 40, (32, 17))], ids=label)
def test_the_tensor_core_rung_reads_the_cache_once_for_32_heads(case):
    B, H, G, P, D, lengths = case
    parts, steps = -(-H // G // 32), sum(-(-n // 16) for n in lengths)
    lookups = G * parts * 4 * (32 * steps if P % 16 == 0 else 12 * sum(lengths))
    cache = 2 * parts * G * sum(lengths) * D * 2
    v6 = traffic.v6_mma_group(B, H, G, max(lengths), P, D, 2, lengths, count=1)
    assert v6.load_bytes == cache + lookups + B * H * D * 2 + B * G * parts * 128 * 4
    assert v6.store_bytes == B * H * D * 2
    two = traffic.v6_mma_group(B, H, G, max(lengths), P, D, 2, lengths, count=2)
    assert two.load_bytes == v6.load_bytes + B * H * D * 2 + B * G * parts * 128 * 4 + 2 * B * H * D * (8 + 4)
    assert two.store_bytes == v6.store_bytes + 2 * B * H * (D * 4 + 8)


@over("case", [(2, 8, 2, 16, 64, (70, 33)), (3, 12, 1, 5, 128, (0, 1, 137)), (2, 40, 1, 16, 40, (32, 17))], ids=label)
def test_the_ring_is_filled_once_for_32_heads(case):
    B, H, G, P, D, lengths = case
    parts, own = -(-H // G // 32), B * H * D * 2
    lookups, cache = G * parts * 2 * 4 * sum(lengths), 2 * parts * G * sum(lengths) * D * 2
    v7 = traffic.v7_async_ring(B, H, G, max(lengths), P, D, 2, lengths, count=1)
    assert v7.load_bytes == cache + lookups + own + B * G * parts * 128 * 4
    assert v7.store_bytes == own
    v8 = traffic.v8_stream_k(B, H, G, max(lengths), P, D, 2, lengths, blocks=1)
    assert v8.load_bytes > cache + lookups
    assert v8.store_bytes == own


def test_the_cuda_rungs_are_cut_and_tiled_as_launched():
    for R in (1, 2, 3, 4, 7, 8, 12, 32, 40):
        for D, itemsize in ((8, 2), (40, 2), (64, 2), (128, 2), (64, 4), (128, 4)):
            plain, told = traffic_raw.Tile(R, 16, D, itemsize), raw.constants(R, D, 16, itemsize)
            assert (plain.held, plain.resident, 4 * plain.step) == (
                told["HEADS"], told["RESIDENT"], raw.tile_keys(told))
        mma, told = traffic_raw.MmaTile(R, 16, 64, 2), raw.mma_constants(R, 64, 16)
        assert (mma.held, mma.resident) == (told["HEADS"], told["RESIDENT"])


def test_rows_of_a_request_share_sectors_where_they_meet():
    """48-byte rows that follow each other in a page end and begin in one sector; strewn pages do not."""
    case = (1, 2, 1, 4, 24, (8,))
    in_order = traffic.v4_fetch_ahead(1, 2, 1, 8, 4, 24, 2, (8,), [[0, 1]])
    assert traffic.v4_fetch_ahead(1, 2, 1, 8, 4, 24, 2, (8,), [[0, 2]]).load_sectors == in_order.load_sectors
    apart = traffic.v4_fetch_ahead(1, 2, 1, 8, 1, 24, 2, (8,), [range(0, 16, 2)])
    assert apart.load_sectors > in_order.load_sectors, case
