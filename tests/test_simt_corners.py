"""What is easy to get wrong at the edges of types and shapes: narrow integers, whole arrays, NaN, reversed views."""

import math

import numpy as np
import pytest

from minikernels import simt
from minikernels.core.errors import KernelError
from minikernels.launch import cuda, float32, float64

FULL = 0xFFFFFFFF


def rows(a, which, out):
    i = cuda.threadIdx.x
    row = a[which[i]]
    out[i, 0] = row[5]
    out[i, 1] = a[which[i], 2:][3]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "uint64"])
def test_a_narrow_index_finds_its_row(dtype):
    a = np.arange(4 * 300, dtype=np.float32).reshape(4, 300)
    which, out = np.array([0, 3, 1, 2], dtype), np.zeros((4, 2), np.float32)
    launch = simt.run(rows, 1, 4, a, which, out)
    assert launch.findings == []
    np.testing.assert_array_equal(out, np.stack([a[which, 5]] * 2, axis=1))


def rows_of_an_argument(a, n, out):
    row = a[n]
    out[0] = row[1]


@pytest.mark.parametrize("n", [np.int8(3), np.uint8(3), np.int16(3), np.uint64(3), 3])
def test_a_narrow_argument_finds_its_row(n):
    a, out = np.arange(4 * 300, dtype=np.float32).reshape(4, 300), np.zeros(1, np.float32)
    simt.run(rows_of_an_argument, 1, 1, a, n, out)
    assert out[0] == a[3, 1]


def slices(a, ends, out):
    out[0] = a[ends[0] : ends[1]].shape[0]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint64"])
def test_ends_of_a_slice_have_any_integer_type(dtype):
    out = np.zeros(1, np.int64)
    simt.run(slices, 1, 1, np.zeros(400, np.float32), np.array([100, 120], dtype), out)
    assert out[0] == 20


def signs(x, out):
    out[0] = -x[0]
    out[1] = ~x[0]


SIGNS = [(np.uint32(1), [2**32 - 1, 2**32 - 2]), (np.int32(-(2**31)), [-(2**31), 2**31 - 1]),
         (np.uint8(1), [255, 254]), (np.int8(-128), [-128, 127]), (np.int64(5), [-5, -6])]


@pytest.mark.parametrize(("x", "wanted"), SIGNS)
def test_signs_and_inversions_are_taken_before_an_integer_widens(x, wanted):
    out = np.zeros(2, np.int64)
    simt.run(signs, 1, 1, np.array([x]), out)
    assert out.tolist() == wanted


LEAST = np.int8(-128)


def sign_of_a_constant(out):
    out[0] = -LEAST
    least = LEAST
    out[1] = -least


def test_a_constant_and_a_variable_have_one_sign():
    out = np.zeros(2, np.int64)
    simt.run(sign_of_a_constant, 1, 1, out)
    assert out.tolist() == [-128, -128]


def masks(out):
    m = cuda.activemask()
    out[0] = cuda.popc(~m)
    out[1] = cuda.ffs(~m)
    out[2] = cuda.ballot_sync(FULL, True) == FULL
    out[3] = cuda.ballot_sync(FULL, True) >> 31
    out[4] = cuda.match_any_sync(FULL, cuda.laneid // 32) >> 31


def test_votes_are_int32_and_the_active_mask_is_not():
    out = np.zeros(5, np.int64)
    simt.run(masks, 1, 32, out)
    assert out.tolist() == [0, 0, 0, -1, -1]


def counted_bits(x, out):
    out[0] = cuda.popc(x[0])
    out[1] = cuda.clz(x[0])
    out[2] = cuda.brev(x[0])


def lowest_bit(x, out):
    out[0] = cuda.ffs(x[0])


BITS = [(np.int8(-1), [8, 0, 2**32 - 1]), (np.uint8(0x50), [2, 1, 0x0A000000]), (np.int16(1), [1, 15, 2**31]),
        (np.int32(-1), [32, 0, 2**32 - 1]), (np.uint32(0), [0, 32, 0]), (np.int64(2), [1, 62, 2**62])]


@pytest.mark.parametrize(("x", "wanted"), BITS)
def test_bits_are_counted_in_the_width_of_the_type(x, wanted):
    out = np.zeros(3, np.int64)
    simt.run(counted_bits, 1, 1, np.array([x]), out)
    assert out.tolist() == wanted


def test_the_lowest_bit_is_looked_for_in_32_or_64():
    out = np.zeros(1, np.int64)
    simt.run(lowest_bit, 1, 1, np.array([0x50], np.int32), out)
    assert out[0] == 5
    with pytest.raises(KernelError, match="cuda.ffs takes integers of 32 or 64 bits and this is a int8"):
        simt.run(lowest_bit, 1, 1, np.array([1], np.int8), out)


def extremes(x, out):
    i = cuda.threadIdx.x
    cuda.atomic.max(out, i, x[i])
    cuda.atomic.min(out, 3 + i, x[i])


def test_atomic_maximum_and_minimum_leave_a_nan_out():
    out = np.array([1, np.nan, 2, 1, np.nan, 2], np.float32)
    simt.run(extremes, 1, 3, np.array([np.nan, 5, 0], np.float32), out)
    np.testing.assert_array_equal(out, np.array([1, np.nan, 2, 1, np.nan, 0], np.float32))


def half_a_warp(stride, out):
    s = cuda.shared.array(64, float64)
    i = cuda.threadIdx.x
    s[stride * i] = float64(i)
    out[i] = s[stride * i]


@pytest.mark.parametrize(("stride", "conflicts"), [(1, 0), (2, 1), (4, 3)])
def test_half_a_warp_of_doubles_needs_one_wavefront(stride, conflicts):
    traffic = simt.run(half_a_warp, 1, 16, stride, np.zeros(16)).traffic
    assert traffic.shared_store_requests == traffic.shared_load_requests == 1
    assert traffic.shared_store_conflicts == traffic.shared_load_conflicts == conflicts


def backwards(a, out):
    i = cuda.threadIdx.x
    if i == 0 or i > 2:
        out[i] = a[0 if i == 0 else 34 - i]


def test_sectors_of_a_view_that_runs_back_are_counted_once():
    base = np.arange(64, dtype=np.float32)
    there, back = (simt.run(backwards, 1, 32, a, np.zeros(32, np.float32)).by_array["a"].load_sectors
                   for a in (base, base[::-1]))
    assert there == back == 5 - 1


@pytest.mark.parametrize("line", ["if a == b:", "if a[0] == a:", "if a < b:", "if a == 3:"])
def test_whole_arrays_are_not_compared(line):
    text = f"def k(a, b):\n    {line}\n        b[0] = 1\n"
    with pytest.raises(KernelError, match="k.py:2: arrays cannot be compared as a whole"):
        simt.run_source(text, "k", 1, 1, np.zeros(3), np.zeros(3), filename="k.py")


def fused(x, y, out):
    i = cuda.threadIdx.x
    out[i] = cuda.fma(x[i], y, x[i])


def exponential(y, out):
    out[cuda.threadIdx.x] = math.exp(y)


@pytest.mark.parametrize(("kernel", "inputs"), [(fused, (np.ones(2, np.float32), 2.0)), (exponential, (2.0,))])
def test_float64_that_slips_into_a_function_is_found(kernel, inputs):
    findings = simt.run(kernel, 1, 2, *inputs, np.zeros(2, np.float32)).findings
    assert [f.kind for f in findings] == ["float64"]
    inputs = [x if isinstance(x, np.ndarray) else np.float32(x) for x in inputs]
    assert simt.run(kernel, 1, 2, *inputs, np.zeros(2, np.float32)).findings == []


def nothing(x):
    x[0] = float32(1)


def test_a_number_over_64_bits_and_a_crooked_address_are_refused():
    for n in (2**64, -(2**63) - 1):
        with pytest.raises(KernelError, match="n is .* does not fit in 64 bits"):
            simt.run(rows_of_an_argument, 1, 1, np.zeros((2, 2)), n, np.zeros(1))
    packed = np.zeros(4, np.dtype([("a", "i4"), ("b", "f8")]))["b"]
    with pytest.raises(KernelError, match="x has strides|x does not start at a multiple"):
        simt.run(nothing, 1, 1, packed)
    with pytest.raises(KernelError, match="x does not start at a multiple of its 4-byte elements"):
        simt.run(nothing, 1, 1, np.zeros(9, np.uint8)[1:].view(np.float32))


def same_nan(out):
    out[0] = float32(np.nan)


def test_threads_that_store_the_same_nan_do_not_race():
    assert simt.run(same_nan, 2, 64, np.zeros(1, np.float32)).findings == []
