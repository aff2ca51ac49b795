"""linear_attention on a GPU: every rung against the oracle, splits along time, gates, states, what is refused."""

import numpy as np
import pytest

from minikernels import launch
from minikernels import linear_attention as la
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from minikernels.linear_attention import api, raw, raw_wgmma, reference, reference_backward
from tests.linear_attention_cases import CASES, gate, label, made, options, right

pytestmark = pytest.mark.gpu
over = pytest.mark.parametrize
NUMBA, RAW = api.FORWARD.of_kind("numba"), api.FORWARD.of_kind("raw")
DECAYS_ONLY, WGMMA = ("v5_wgmma",), ("v5_wgmma", "v6_factored_gates")
GATED = [rung for rung in RAW if rung not in DECAYS_ONLY]
WIDE = [  # B, H, T, D, gates, initial state
    (1, 1, 1, 64, None, True),
    (2, 3, 15, 128, None, True),
    (1, 2, 64, 64, None, False),
    (1, 2, 65, 128, "random", True),
    (2, 2, 130, 128, "mixed", True),
    (1, 3, 257, 64, "strong", True),
    (1, 2, 1000, 128, None, True),
    (1, 4, 777, 40, "random", False),  # a width that is padded
    (2, 5, 333, 96, None, True),
    (1, 2, 500, 8, "mixed", True),
    (1, 1, 190, 128, "ones", False),
    (1, 3, 49, 24, "random", True),
    (1, 2, 2049, 16, None, False),
    (1, 2, 127, 72, None, True),
]
PAIRS = [(rung, case) for rung in RAW for case in WIDE if rung in GATED or case[4] is None]
SPLIT = {"v4_split_along_time": raw.launch_v4_split_along_time, "v5_wgmma": raw_wgmma.launch_v5_wgmma,
         "v6_factored_gates": raw_wgmma.launch_v6_factored_gates}


@pytest.fixture(autouse=True)
def able(request):
    """Skip what needs wgmma on a GPU without it."""
    rung = getattr(request.node, "callspec", None) and request.node.callspec.params.get("rung")
    if rung in WGMMA and launch.architecture() != launch.HOPPER["min_arch"]:
        pytest.skip(f"{rung} needs compute capability {launch.HOPPER['min_arch']}")


def there(cp, inputs):
    """Return the inputs with their arrays on the GPU."""
    return [cp.asarray(x) if isinstance(x, np.ndarray) else x for x in inputs]


def run(cp, rung, inputs):
    """Return o and the last state as NumPy arrays; cells that no thread wrote are NaN."""
    moved = there(cp, inputs)
    o, state = la.attention(*moved[:3], **options(moved), return_state=True, rung=rung)
    return cp.asnumpy(o), cp.asnumpy(state)


@over(("rung", "case"), PAIRS, ids=lambda x: x if isinstance(x, str) else label(x))
def test_raw_rung_is_within_the_error_budget(cp, rung, case):
    inputs = made(case, "float16")
    o, state = run(cp, rung, inputs)
    assert (o.dtype, state.dtype) == (np.float16, np.float32)
    right(reference.judge(o, state, *inputs))


@over("segments", [1, 2, 3, 7, 64])
@over(("rung", "case"), [(rung, case) for rung, case in PAIRS if rung in SPLIT and case in WIDE[:9]],
      ids=lambda x: x if isinstance(x, str) else label(x))
def test_any_number_of_segments_is_right(cp, segments, rung, case):
    inputs = made(case, "float16")
    o, state = SPLIT[rung](*there(cp, inputs), True, segments=segments)
    right(reference.judge(cp.asnumpy(o), cp.asnumpy(state), *inputs))


@over("case", CASES, ids=label)
@over("dtype", ["float32", "float16"])
@over("rung", NUMBA)
def test_numba_rung_is_within_the_error_budget(cp, rung, dtype, case):
    inputs = made(case, dtype)
    right(reference.judge(*run(cp, rung, inputs), *inputs))


@over("case", CASES, ids=label)
@over("dtype", ["float32", "float16"])
def test_gradients_are_within_the_error_budget(cp, dtype, case):
    q, k, v, decay, gates, scale, state = made(case, dtype)
    rng = np.random.default_rng(9)
    do = rng.standard_normal(q.shape).astype(dtype)
    dstate = None if state is None else rng.standard_normal(state.shape).astype("float32")
    q_, k_, v_, do_, decay_, gates_, state_, dstate_ = there(cp, (q, k, v, do, decay, gates, state, dstate))
    found = la.attention_backward(q_, k_, v_, do_, decay=decay_, gate=gates_, scale=scale, initial_state=state_,
                                  dstate=dstate_)
    rest = iter(found[3:])
    grads = (*found[:3], None if gates is None else next(rest), None if state is None else next(rest))
    grads = [None if x is None else cp.asnumpy(x) for x in grads]
    right(reference_backward.judge_backward(grads, q, k, v, do, decay, gates, scale, state, dstate))


@over("rung", GATED)
@over("gates", ["strong", "mixed", "random"])
def test_gates_in_float32_and_in_float16(cp, rung, gates):
    q, k, v, decay, _, scale, state = made((2, 2, 300, 128, None, True), "float16")
    for dtype in ("float16", "float32"):
        g = gate(np.random.default_rng(3), q.shape, gates, dtype)
        inputs = q, k, v, decay, g, scale, state
        o, last = run(cp, rung, inputs)
        assert np.isfinite(o).all() and np.isfinite(last).all()
        right(reference.judge(o, last, *inputs))


@over("segments", [1, 3])
@over("strength", [0.0, 0.05, 0.17, 0.5])
@over(("T", "D", "dtype"), [(64, 64, "float16"), (333, 128, "float16"), (333, 128, "float32"), (450, 72, "float32")])
def test_gates_that_are_factored_and_gates_that_are_not(cp, T, D, dtype, strength, segments):
    if launch.architecture() != launch.HOPPER["min_arch"]:
        pytest.skip(f"v6_factored_gates needs compute capability {launch.HOPPER['min_arch']}")
    q, k, v, _, _, scale, state = made((2, 2, T, D, None, True), "float16")
    rng = np.random.default_rng(4)
    gates = (-strength * (1 + rng.random(q.shape))).astype(dtype)
    gates[1, 1, T // 2 :, 3] = -20  # one channel of one head, from the middle on
    k[0, 1, T - 1, 0] = 3000  # a key that leaves float16 if it grows much
    inputs = q, k, v, np.array([1, 0.99], np.float32), gates, scale, state
    o, last = raw_wgmma.launch_v6_factored_gates(*there(cp, inputs), True, segments=segments)
    right(reference.judge(cp.asnumpy(o), cp.asnumpy(last), *inputs))


@over("rung", RAW)
@over("scale", [-0.3, 0.0, 1e-3, 2.0, None])
def test_any_scale_is_right(cp, rung, scale):
    q, k, v, decay, gates, _, state = made((1, 2, 300, 64, None, True), "float16")
    o, last = run(cp, rung, (q, k, v, decay, gates, scale, state))
    right(reference.judge(o, last, q, k, v, decay, gates, 0.125 if scale is None else scale, state))


@over("rung", RAW)
def test_a_state_larger_than_float16_holds_is_shrunk_with_the_scale(cp, rung):
    T = 100_000
    q = k = v = np.ones((1, 1, T, 16), np.float16)
    o, state = run(cp, rung, (q, k, v, np.ones(1, np.float32), None, 1 / T, None))
    np.testing.assert_allclose(state, T, rtol=1e-6)
    np.testing.assert_allclose(o[0, 0, :, 0], 16 * np.arange(1, T + 1) / T, rtol=2e-3, atol=1e-3)


@over("rung", RAW)
@over("cut", [1, 64, 100])
def test_a_sequence_in_two_parts_is_the_whole(cp, rung, cut):
    whole = made((1, 2, 200, 64, "random" if rung in GATED else None, True), "float16")
    q, k, v, decay, gates, scale, state = whole
    parts = []
    for rows in (slice(0, cut), slice(cut, 200)):
        piece = [x if x is None else np.ascontiguousarray(x[:, :, rows]) for x in (q, k, v, gates)]
        o, state = run(cp, rung, (*piece[:3], decay, piece[3], scale, state))
        parts.append(o)
    right(reference.judge(np.concatenate(parts, axis=2), state, *whole))


@over("rung", RAW)
def test_views_that_are_not_contiguous_or_not_aligned(cp, rung):
    q, k, v, decay, *_ = there(cp, made((2, 6, 65, 64, None, True), "float16"))
    expected = la.attention(q, k, v, decay=decay, rung=rung)
    swapped = [cp.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2) for x in (q, k, v)]
    odd = []
    for x in (q, k, v):
        room = cp.empty(x.size + 1, x.dtype)
        room[1:] = x.ravel()
        odd.append(room[1:].reshape(x.shape))
    for views in (swapped, odd):
        cp.testing.assert_array_equal(la.attention(*views, decay=decay, rung=rung), expected)


@over("rung", RAW)
def test_nan_stays_in_its_head_and_out_of_the_past(cp, rung):
    q, k, v, decay, gates, scale, _ = made((2, 4, 300, 64, None, False), "float16")
    k[1, 2, 150, 3] = np.nan
    o, state = run(cp, rung, (q, k, v, decay, gates, scale, None))
    assert np.isnan(o[1, 2, 150:]).all() and np.isfinite(o[1, 2, :150 if rung in WGMMA else 144]).all()
    assert np.isnan(state[1, 2, 3]).all()
    assert np.isfinite(np.delete(o.reshape(8, 300, 64), 6, axis=0)).all()


@over(("dtype", "D", "gates", "rung"), [
    ("float16", 64, None, "v5_wgmma"), ("float16", 64, "random", "v6_factored_gates"),
    ("float32", 64, None, "v2_chunk"), ("float16", 60, None, "v2_chunk"), ("float32", 200, None, "v1_recurrent")])
def test_the_default_is_the_fastest_rung_that_takes_the_inputs(cp, dtype, D, gates, rung):
    if launch.architecture() < api.RAW_NEEDS:
        pytest.skip(f"the raw rungs need compute capability {api.RAW_NEEDS}")
    q, k, v, _, gates, *_ = there(cp, made((1, 2, 70, D, gates, True), dtype))
    assert api.fastest_on_gpu(q, k, v, gates) == rung
    cp.testing.assert_array_equal(la.attention(q, k, v, gate=gates), la.attention(q, k, v, gate=gates, rung=rung))


@pytest.mark.parametrize("T", [1, 63, 64, 65, 1000])
def test_rows_of_other_heads_and_what_lies_behind_o_stay_as_they_are(cp, T):
    if launch.architecture() != launch.HOPPER["min_arch"]:
        pytest.skip(f"v5_wgmma needs compute capability {launch.HOPPER['min_arch']}")
    inputs = made((2, 3, T, 40, None, True), "float16")
    alone = [run(cp, "v5_wgmma", [x if x is None or np.isscalar(x) or x.ndim == 1 else x[b : b + 1] for x in inputs])
             for b in range(2)]
    o, state = run(cp, "v5_wgmma", inputs)
    np.testing.assert_array_equal(o, np.concatenate([x for x, _ in alone]))
    np.testing.assert_array_equal(state, np.concatenate([x for _, x in alone]))


@over("rung", [None, *NUMBA, *RAW])
@over("case", [(0, 2, 4, 8), (1, 0, 4, 8), (1, 2, 0, 8), (1, 2, 4, 0)], ids=str)
def test_an_empty_axis_gives_an_empty_result(cp, rung, case):
    inputs = made((*case, "mixed", True), "float16")
    o, state = run(cp, rung, inputs)
    assert o.shape == inputs[0].shape and not o.any()
    np.testing.assert_array_equal(state, inputs[-1])


def test_torch_tensors_come_back_as_torch_tensors(cp):
    torch = pytest.importorskip("torch", reason="PyTorch, whose tensors come through DLPack, is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    inputs = made((2, 3, 90, 64, "random", True), "float16")
    moved = [torch.from_numpy(x).cuda() if isinstance(x, np.ndarray) else x for x in inputs]
    o, state = la.attention(*moved[:3], **options(moved), return_state=True)
    assert isinstance(o, torch.Tensor) and o.is_cuda and o.dtype == torch.float16 and state.dtype == torch.float32
    right(reference.judge(o.cpu().numpy(), state.cpu().numpy(), *inputs))
    grads = la.attention_backward(*moved[:3], torch.ones_like(moved[0]), decay=moved[3])
    assert len(grads) == 3 and all(isinstance(x, torch.Tensor) and x.is_cuda for x in grads)


def test_what_a_rung_does_not_take_is_refused(cp):
    q, k, v, decay, *_ = there(cp, made((1, 2, 6, 12, None, True), "float16"))
    with pytest.raises(ShapeError, match="D=12 must be a multiple of 8, and not 0, for rung v3_mma_chunk"):
        la.attention(q, k, v, rung="v3_mma_chunk")
    with pytest.raises(DtypeError, match="q has dtype float32; rung v4_split_along_time takes float16"):
        la.attention(*(x.astype("float32") for x in (q, k, v)), rung="v4_split_along_time")
    if launch.architecture() == launch.HOPPER["min_arch"]:
        wide = [cp.zeros((1, 2, 6, 16), np.float16)] * 4
        with pytest.raises(DtypeError, match="v5_wgmma takes decays and no gates; rung v4_split_along_time takes both"):
            la.attention(*wide[:3], gate=wide[3], rung="v5_wgmma")
    with pytest.raises(DeviceError, match="arrays live in different places"):
        la.attention(q, k, v, decay=np.ones(2, np.float32))
    with pytest.raises(DeviceError, match="rung tiled is NumPy's and the arrays live on the GPU"):
        la.attention(q, k, v, decay=decay, rung="tiled")
