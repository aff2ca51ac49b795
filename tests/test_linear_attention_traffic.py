"""The closed forms of linear_attention: equal to what the SIMT machine counts, and to the formulas of the README."""

import numpy as np
import pytest

from minikernels import linear_attention as la
from minikernels import simt
from minikernels.core.traffic import Traffic
from minikernels.linear_attention import numba_chunk, numba_cuda, raw, schedule, traffic
from tests.linear_attention_cases import CASES, label, made, options

FIELDS = ["load_requests", "load_sectors", "load_bytes", "store_requests", "store_sectors", "store_bytes", "barriers"]
over = pytest.mark.parametrize


def same(predicted, launches):
    """Fail unless a closed form equals the sum of what launches counted."""
    counted = sum((launch.traffic for launch in launches), Traffic())
    assert {f: getattr(predicted, f) for f in FIELDS} == {f: getattr(counted, f) for f in FIELDS}


@over("dtype", ["float32", "float16"])
@over("case", CASES, ids=label)
@over("rung", ["v1_recurrent", "v2_chunk"])
def test_predicted_equals_counted(rung, case, dtype):
    inputs = made(case, dtype)
    kept = bool(case[2] % 2)
    with simt.collect() as launches:
        la.attention(*inputs[:3], **options(inputs), return_state=kept, rung=rung)
    assert not [finding for launch in launches for finding in launch.findings]
    size = inputs[0].itemsize
    same(getattr(traffic, rung)(*case[:4], size, size if case[4] else 0, case[5], kept), launches)


def test_predicted_equals_counted_at_another_chunk_and_with_wider_gates():
    q, k, v, decay, _, scale, state = made((2, 3, 41, 33, None, True), "float16")
    gate = -np.ones(q.shape, np.float32)
    with simt.collect() as launches:
        numba_cuda.launch_v2_chunk(q, k, v, decay, gate, scale, state, True, chunk=8)
    same(traffic.v2_chunk(2, 3, 41, 33, 2, 4, True, True, chunk=8), launches)


def test_staging_reads_q_and_k_once_where_v1_reads_them_once_a_column():
    B, H, T, D = 1, 2, 48, 64
    q, k, v, decay, *_ = made((B, H, T, D, None, False))
    for rung, times in (("v1_recurrent", D), ("v2_chunk", 1)):
        with simt.collect() as launches:
            la.attention(q, k, v, decay=decay, rung=rung)
        by_array = launches[0].traffic.by_array
        assert {by_array[name].load_bytes for name in "qk"} == {times * B * H * T * D * 4}
        assert by_array["v"].load_bytes == by_array["o"].store_bytes == B * H * T * D * 4


def test_bytes_grow_with_length_and_not_with_its_square():
    sizes = {"B": 1, "H": 2, "D": 32, "itemsize": 2}
    for rung in ("tiled", "v1_recurrent", "v2_chunk"):
        form = getattr(traffic, rung)
        fixed = form(T=16, **sizes).hbm_bytes * 2 - form(T=32, **sizes).hbm_bytes  # what does not depend on T
        assert form(T=4096, **sizes).hbm_bytes - fixed == 256 * (form(T=16, **sizes).hbm_bytes - fixed)


def test_the_readme_formulas_are_the_closed_forms():
    B, H, T, D, item = 2, 6, 96, 32, 2
    row, state = B * H * T * D * item, B * H * D * D * 4
    forms = {name: getattr(traffic, name)(B, H, T, D, itemsize=item, kept=True)
             for name in ("reference", "tiled", "v1_recurrent", "v2_chunk")}
    assert forms["reference"].load_bytes == 3 * row + H * 4 + (T - 1) * state
    assert forms["reference"].store_bytes == row + T * state
    assert forms["tiled"].load_bytes == 3 * row + H * 4
    assert forms["v1_recurrent"].load_bytes == (2 * D + 1) * row + B * H * D * 4
    assert forms["v2_chunk"].load_bytes == 3 * row + B * H * 32 * 4
    assert {form.store_bytes for name, form in forms.items() if name != "reference"} == {row + state}


def test_the_chunk_is_that_of_the_kernel():
    assert traffic.CHUNK == numba_chunk.CHUNK


@over("gate", [0, 2, 4])
@over("case", [(2, 3, 1, 64), (1, 2, 130, 128), (1, 16, 1000, 40)], ids=str)
def test_the_cuda_rungs_read_everything_once_and_v4_k_and_v_of_all_segments_but_the_last_again(case, gate):
    B, H, T, D = case
    row, state = B * H * T * D, B * H * D * D * 4
    padded = -(-D // 16) * 16
    v3 = traffic.v3_mma_chunk(*case, 2, gate, True, True)
    assert v3.load_bytes == row * (6 + gate) + state + B * H * padded * 2 * 4
    assert v3.store_bytes == row * 2 + state
    assert v3.load_sectors * 32 >= v3.load_bytes - B * H * padded * 2 * 4
    for count in (1, 2, 5):
        v4 = traffic.v4_split_along_time(*case, 2, gate, True, True, count=count)
        n, tokens = schedule.segments_of(B * H, T, 64, 132, count)
        if n == 1:
            assert v4 == v3
            continue
        again = B * H * (n - 1) * tokens * D * (4 + gate)
        lookups = B * H * (2 * n - 1) * padded * 2 * 4
        lefts = B * H * (n - 1) * D * 4
        assert v4.load_bytes == row * (6 + gate) + again + 2 * n * state + (n - 1) * state + lookups
        assert v4.store_bytes == row * 2 + (2 * n - 1) * state + state + lefts


@over("case", [(2, 3, 1, 64), (1, 2, 130, 128), (1, 16, 1000, 40), (1, 1, 200, 72)], ids=str)
def test_v5_moves_what_v4_moves_in_larger_requests(case):
    B, H, T, D = case
    for count in (1, 2, 5):
        forms = traffic.v4_split_along_time, traffic.v5_wgmma, traffic.v6_factored_gates
        v4, v5, v6 = (form(*case, 2, 0, True, True, count=count) for form in forms)
        assert v5 == v6
        n, _ = schedule.segments_of(B * H, T, 64, 132, count)
        teams = (D + 63) // 64
        fewer = -(-D // 16) - 4 * (1 + teams)  # warps of a block, each of which looks up a decay
        assert v4.load_bytes - v5.load_bytes == fewer * B * H * (2 * n - 1) * 128
        assert v4.store_bytes == v5.store_bytes
        assert v5.store_requests < v4.store_requests or T == 1
        assert T < 64 or v5.load_requests < v4.load_requests
    with pytest.raises(ValueError, match="takes no gates"):
        traffic.v5_wgmma(*case, 2, 2, True, True)


@over("gate", [2, 4])
@over("case", [(2, 3, 1, 64), (1, 2, 130, 128), (1, 16, 1000, 40)], ids=str)
def test_v6_reads_gates_as_often_as_keys(case, gate):
    B, H, T, D = case
    for count in (1, 2, 5):
        v5, v6 = traffic.v5_wgmma(*case, 2, count=count), traffic.v6_factored_gates(*case, 2, gate, count=count)
        n, tokens = schedule.segments_of(B * H, T, 64, 132, count)
        gates = B * H * (T + (n - 1) * tokens) * D * gate
        blocks = B * H * (2 * n - 1)
        assert v6.load_bytes - v5.load_bytes == gates + blocks * -(-D // 16) * 128
        assert v6.store_bytes - v5.store_bytes == 4 * blocks


@over("heads", [1, 3, 16, 128, 200])
@over("T", [1, 64, 65, 5000])
def test_segments_are_whole_tiles_and_cover_every_token_once(T, heads):
    for count in (None, 1, 2, 7, 1000):
        n, tokens = schedule.segments_of(heads, T, 64, 132, count)
        assert tokens % 64 == 0 and (n - 1) * tokens < T <= n * tokens


def test_more_segments_where_heads_are_few():
    counts = [schedule.segments_of(heads, 65_536, 64, 132)[0] for heads in (1, 4, 16, 64, 128)]
    assert counts == sorted(counts, reverse=True) and counts[0] > 8 and counts[-1] == 1
    times = [schedule.makespan(16, 1024, n, 132) for n in (1, schedule.segments_of(16, 65_536, 64, 132)[0])]
    assert times[1] < times[0] / 4


@over(("scale", "power"), [(1.0, 1.0), (0.09, 0.0625), (-0.3, 0.25), (1e-12, 2.0**-8), (0.0, 1.0), (50.0, 1.0)])
def test_states_are_shrunk_by_a_power_of_two_near_the_scale(scale, power):
    assert raw.shrink(scale) == power
