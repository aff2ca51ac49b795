"""The closed forms of flash: equal to what the SIMT machine counts, and to the formulas of the README."""

import numpy as np
import pytest

from minikernels import flash, simt
from minikernels.core.traffic import Traffic
from minikernels.flash import numba_cuda, traffic, traffic_backward
from tests.flash_cases import CASES, label, made

FIELDS = ["load_requests", "load_sectors", "load_bytes", "store_requests", "store_sectors", "store_bytes", "barriers"]
KERNELS = ["v1_three_pass", "v2_keys_outside", "v2_tiled", "v3_split_rows"]
over = pytest.mark.parametrize


def same(predicted, launches):
    """Fail unless a closed form equals the sum of what launches counted."""
    counted = sum((launch.traffic for launch in launches), Traffic())
    assert {f: getattr(predicted, f) for f in FIELDS} == {f: getattr(counted, f) for f in FIELDS}


HALF = [CASES[i] for i in (1, 3, 4, 6, 9, 13)]  # odd rows of 2-byte elements: they start anywhere in a sector
BOTH = [*((case, "float32") for case in CASES), *((case, "float16") for case in HALF)]


def named(value):
    return value if isinstance(value, str) else label(value)


@over(("case", "dtype"), BOTH, ids=named)
@over("rung", KERNELS)
def test_predicted_equals_counted(rung, case, dtype):
    *sizes, causal = case
    q, k, v, _ = made(case, dtype)
    with simt.collect() as launches:
        flash.attention(q, k, v, causal=causal, rung=rung)
    same(getattr(traffic, rung)(*sizes, itemsize=q.itemsize, causal=causal), launches)


@over(("case", "dtype"), BOTH, ids=named)
def test_predicted_equals_counted_backward(case, dtype):
    *sizes, causal = case
    q, k, v, do = made(case, dtype)
    o, lse = flash.attention(q, k, v, causal=causal, return_lse=True)
    with simt.collect() as launches:
        flash.attention_backward(q, k, v, o, lse, do, causal=causal, rung="v3_split_rows")
    same(traffic_backward.v3_split_rows(*sizes, itemsize=q.itemsize, causal=causal), launches)


@over("block_t", [32, 96])
@over("rung", ["v2_tiled", "v2_keys_outside"])
def test_predicted_equals_counted_at_other_tiles(rung, block_t):
    q, k, v, _ = made((1, 2, 1, 130, 70, 10, True))
    with simt.collect() as launches:
        getattr(numba_cuda, f"launch_{rung}")(q, k, v, True, 0.3, block_t=block_t)
    same(getattr(traffic, rung)(1, 2, 1, 130, 70, 10, itemsize=4, causal=True, block_t=block_t), launches)


@over("case", CASES, ids=label)
@over("numpy_rung", ["tiled", "tiled_keys_outside"])
def test_numpy_schedules_move_the_bytes_of_their_kernels(numpy_rung, case):
    *sizes, causal = case
    kernel = numpy_rung.replace("tiled_keys", "keys")
    block_s = traffic.tile_rows(sizes[-1])
    predicted = getattr(traffic, numpy_rung)(*sizes, itemsize=2, causal=causal, block_t=64, block_s=block_s)
    kernel = getattr(traffic, f"v2_{kernel}")(*sizes, itemsize=2, causal=causal, block_t=64)
    assert (predicted.load_bytes, predicted.store_bytes) == (kernel.load_bytes, kernel.store_bytes)


def test_the_readme_formulas_are_the_closed_forms():
    B, H, G, T, S, D, item = 2, 4, 2, 96, 80, 16, 2
    lse, square, steps = 4 * T, T * S * 4, -(-S // 32)
    once = traffic.reference(B, H, H, T, S, D, itemsize=item)
    assert once.load_bytes == B * H * ((T + 2 * S) * D * item + 2 * square)
    assert once.store_bytes == B * H * (T * D * item + 2 * square + lse)
    queries_outside = traffic.v2_tiled(B, H, G, T, S, D, itemsize=item)
    assert queries_outside.load_bytes == B * H * (T + -(-T // 64) * 2 * S) * D * item
    assert queries_outside.store_bytes == B * H * (T * D * item + lse)
    keys_outside = traffic.v2_keys_outside(B, H, G, T, S, D, itemsize=item)
    state = (steps - 1) * T * (D + 2) * 4
    assert keys_outside.load_bytes == B * H * ((steps * T + 2 * S) * D * item + state)
    assert keys_outside.store_bytes == B * H * (T * D * item + lse + state)


def test_the_ladder_moves_fewer_sectors_rung_by_rung():
    sizes = {"B": 1, "H": 8, "G": 8, "T": 1024, "S": 1024, "D": 64, "itemsize": 4, "causal": True}
    sectors = [getattr(traffic, rung)(**sizes).load_sectors for rung in (*KERNELS, "v4_register_tiles")]
    assert sectors == sorted(sectors, reverse=True)
    loads = {rung: getattr(traffic, rung)(**sizes | {"causal": False}).load_bytes for rung in KERNELS}
    q_bytes = 8 * 1024 * 64 * 4
    assert loads["v2_tiled"] - q_bytes == 2 * (loads["v3_split_rows"] - q_bytes)  # K and V cross half as often


@over(("D", "rows"), [(16, 4), (72, 2), (132, 1)])
def test_an_element_from_shared_memory_serves_as_many_rows_as_a_quad_holds(D, rows):
    q, k, v, _ = made((1, 1, 1, 128, 32, D, False))
    wavefronts = {}
    for rung in ("v2_tiled", "v3_split_rows"):
        with simt.collect() as launches:
            flash.attention(q, k, v, rung=rung)
        wavefronts[rung] = launches[0].traffic.shared_load_wavefronts
        assert launches[0].traffic.shared_load_conflicts == 0
    assert wavefronts["v2_tiled"] == rows * wavefronts["v3_split_rows"]


@over("rung", [*KERNELS, "reference", "online", "tiled", "tiled_keys_outside", "v4_register_tiles", "v5_mma",
               "v6_async", "v7_wgmma"])
@over("empty", range(6), ids=list("BHGTSD"))
def test_nothing_moves_where_an_axis_is_empty(rung, empty):
    sizes = [1, 2, 2, 8, 8, 8]
    sizes[empty] = 0
    assert getattr(traffic, rung)(*sizes, itemsize=2, causal=True) == Traffic()


@over("case", [(1, 4, 2, 130, 129, 64, True), (2, 2, 1, 385, 300, 128, False), (1, 2, 1, 520, 40, 72, True)], ids=label)
def test_v7_asks_for_the_boxes_that_its_tiles_see(case):
    """The form against a walk over the items, in plain Python; the last case has rows that see no key."""
    *sizes, causal = case
    B, H, G, T, S, D = sizes
    rows = loads = 0
    for first in range(0, T, 192 if D == 64 else 128):
        last = min(first + (192 if D == 64 else 128), T) - 1
        seen = min(S, last + 1 + S - T) if causal else S
        boxes = max(1, -(-seen // 128))  # an item has a tile even where it sees no key
        loads += (last + 1 - first) * D * 2 + 2 * sum(min(128, S - 128 * j) for j in range(boxes)) * D * 2
        rows += 1
    traffic_v7 = traffic.v7_wgmma(*sizes, itemsize=2, causal=causal)
    assert traffic_v7.load_bytes == B * H * loads
    assert traffic_v7.atomic_requests == (B * H * rows if causal else 0)


def test_no_kernel_computes_in_float64():
    q, k, v, do = made((1, 2, 1, 33, 40, 8, True), "float16")
    with simt.collect() as launches:
        for rung in KERNELS:
            o, lse = flash.attention(q, k, v, causal=True, return_lse=True, rung=rung)
        flash.attention_backward(q, k, v, o, lse, do, causal=True, rung="v3_split_rows")
    assert len(launches) == 3 + 1 + 1 + 1 + 3
    assert sum(launch.traffic.flop64 for launch in launches) == 0
    assert [str(f) for launch in launches for f in launch.findings] == []
    assert np.isfinite(o).all()


@over("rung", ["v4_mma", "v5_wgmma", "v6_roles"])
@over("case", [(1, 4, 2, 130, 129, 64, True), (2, 2, 1, 65, 300, 128, False), (1, 2, 2, 200, 64, 40, True)], ids=label)
def test_backward_on_tensor_cores_moves_what_a_walk_over_its_tiles_touches(rung, case):
    """The forms against a walk, block by block and tile by tile, in plain Python."""
    *sizes, causal = case
    B, H, G, T, S, D = sizes
    if rung == "v6_roles" and D > 64:
        pytest.skip("it takes D up to 64")
    block_t, padded = 128 if rung != "v4_mma" and D <= 64 else 64, 16 * -(-D // 16)
    rows = -(-T // block_t) * block_t
    loads, stores, atomics = 2 * B * H * T * D * 2 + B * H * T * 4, B * H * rows * (8 + padded * 4), 0  # delta
    for first in range(0, S, 128):
        loads += B * G * 2 * min(128, S - first) * D * 2
        stores += B * G * 2 * min(128, S - first) * D * 2
        for t in range(0, T, block_t):
            if not causal or first <= min(t + block_t, T) - 1 + S - T:
                loads += B * H * (2 * min(block_t, T - t) * D * 2 + block_t * 8)
                atomics += B * H * block_t * padded * 4
    loads, stores = loads + B * H * T * D * 4, stores + B * H * T * D * 2  # dq_sum to dq
    form = getattr(traffic_backward, rung)(*sizes, itemsize=2, causal=causal)
    assert (form.load_bytes, form.store_bytes, form.atomic_bytes) == (loads, stores, atomics)
