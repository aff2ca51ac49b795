"""The closed forms of sectors against plain counting: a set of the sectors that each request's lanes touch."""

import numpy as np
import pytest

from minikernels.core.sectors import Access, alignments, heads, padded_tile, rows, run, scattered, span


def counted(requests, itemsize):
    """Count requests, given as lists of the byte addresses of their active lanes; a request without lanes is none."""
    requests = [lanes for lanes in requests if len(lanes)]
    sectors = sum(len({address // 32 for address in lanes}) for lanes in requests)
    return Access(len(requests), sectors, itemsize * sum(map(len, requests)))


@pytest.mark.parametrize("first", [0, 2, 4, 28, 30])
@pytest.mark.parametrize("size", [0, 2, 4, 32, 34, 128])
def test_span_counts_sectors_of_a_run(first, size):
    assert span(first, size) == len({byte // 32 for byte in range(first, first + size)})


@pytest.mark.parametrize("stride", [2, 6, 16, 28, 32, 36, 96, 4096])
@pytest.mark.parametrize("count", [0, 1, 7, 33])
def test_alignments_count_offsets(stride, count):
    expected = {}
    for i in range(count):
        expected[i * stride % 32] = expected.get(i * stride % 32, 0) + 1
    assert alignments(count, stride) == expected


@pytest.mark.parametrize(("first", "elements", "itemsize"),
                         [(0, 70, 4), (4, 32, 4), (30, 33, 2), (8, 1, 8), (16, 0, 4)])
def test_run_is_consecutive_lanes_on_consecutive_elements(first, elements, itemsize):
    addresses = first + np.arange(elements) * itemsize
    assert run(first, elements, itemsize) == counted([addresses[i : i + 32] for i in range(0, elements, 32)], itemsize)


def test_run_of_arrays_is_the_sum():
    first, elements = np.array([0, 4, 30]), np.array([5, 0, 70])
    expected = sum((run(int(f), int(n), 2) for f, n in zip(first, elements)), Access())
    assert run(first, elements, 2) == expected


@pytest.mark.parametrize(("group", "width"), [(32, 1), (8, 4), (4, 32), (2, 64)], ids=lambda n: str(n))
@pytest.mark.parametrize(
    ("first", "count", "D", "itemsize"),
    [(0, 32, 64, 4), (0, 65, 8, 4), (4, 33, 7, 4), (2, 31, 63, 2), (6, 70, 1, 2), (12, 9, 3, 4), (0, 0, 5, 4)])
def test_rows_are_read_by_the_lanes_that_own_them(first, count, D, itemsize, group, width):
    requests = [
        [first + (r * D + d) * itemsize
         for r in range(top, min(top + group, count)) for d in range(c, min(c + width, D))]
        for top in range(0, count, group) for c in range(0, D, width)]
    assert rows(first, count, D, itemsize, group, width) == counted(requests, itemsize)


@pytest.mark.parametrize(
    ("first", "count", "D", "itemsize", "width"),
    [(0, 32, 64, 4, 64), (4, 5, 63, 4, 64), (2, 32, 7, 2, 8), (8, 3, 1, 4, 4), (30, 16, 250, 2, 252)])
def test_padded_tile_skips_the_padding(first, count, D, itemsize, width):
    places = range(count * width)
    requests = [
        [first + (p // width * D + p % width) * itemsize for p in places[i : i + 32] if p % width < D]
        for i in range(0, count * width, 32)]
    assert padded_tile(first, count, D, itemsize, width) == counted(requests, itemsize)


@pytest.mark.parametrize(("first", "count", "D", "itemsize", "group"),
                         [(0, 33, 7, 4, 4), (2, 5, 61, 2, 2), (4, 8, 3, 4, 4)])
def test_scattered_lanes_take_the_columns_given(first, count, D, itemsize, group):
    lanes = 32 // group
    places = np.array([[c + e + 4 * x for x in range(lanes)] for c in range(0, D, 4 * lanes) for e in range(4)])
    requests = [
        [first + (r * D + d) * itemsize for r in range(top, min(top + group, count)) for d in row if d < D]
        for top in range(0, count, group) for row in places]
    assert scattered(first, count, D, itemsize, group, places) == counted(requests, itemsize)


def test_heads_sum_over_parts_that_start_anywhere():
    expected = sum((run(i * 12 % 32, 3, 4) for i in range(19)), Access())
    assert heads(19, 12, lambda first: run(first, 3, 4)) == expected


def test_an_access_becomes_loads_or_stores():
    access = Access(1, 2, 3).times(2) + Access(1, 0, 0)
    assert (access.loads().load_requests, access.loads().load_sectors, access.loads().load_bytes) == (3, 4, 6)
    assert (access.stores().store_requests, access.stores().store_sectors, access.stores().store_bytes) == (3, 4, 6)
