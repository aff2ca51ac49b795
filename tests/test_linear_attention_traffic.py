"""The closed forms of linear_attention: equal to what the SIMT machine counts, and to the formulas of the README."""

import numpy as np
import pytest

from minikernels import linear_attention as la
from minikernels import simt
from minikernels.core.traffic import Traffic
from minikernels.linear_attention import numba_chunk, numba_cuda, traffic
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
