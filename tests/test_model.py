"""The tiny language model: its NumPy forward, its losses, its activations, its weights."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minikernels.model as m
from minikernels.core.errors import DtypeError, ShapeError
from minikernels.model import layers, weights

RECORDED = Path(m.__file__).parent / "recorded"
TEXT = "def softmax(x):\n    return exp(x - max(x)) / sum(exp(x))\n"


@pytest.fixture(scope="module", params=m.NAMES)
def model(request):
    return m.load(request.param)


@pytest.fixture(scope="module")
def mha():
    return m.load("mha")


@pytest.fixture(scope="module")
def hybrid():
    return m.load("hybrid")


@pytest.fixture(scope="module")
def scores():
    return json.loads((RECORDED / "scores.json").read_text())["models"]


def tokens_of(text):
    return np.frombuffer(text.encode(), np.uint8)[None]


@pytest.mark.parametrize("name", ["mha", "hybrid"])
def test_forward_agrees_with_recorded_torch(name):
    with np.load(RECORDED / f"{name}.reference.npz") as file:
        reference = dict(file)
    seen = {}
    logits = m.load(name).forward(reference.pop("tokens"), hook=seen.__setitem__)
    np.testing.assert_allclose(logits[:, ::8], reference.pop("logits"), rtol=0, atol=float32_rounding(logits))
    assert reference
    for key, expected in reference.items():
        layer, letter = key.split(".")
        got = seen[int(layer)][letter]
        got = got.take([1, -1], axis={4: 2, 3: 1}[got.ndim])
        np.testing.assert_allclose(got, expected, rtol=0, atol=float32_rounding(got), err_msg=key)


def test_forward_agrees_with_live_torch(model):
    torch = pytest.importorskip("torch", reason="PyTorch is only needed to train the models anew")
    from minikernels.model.train.torch_model import Decoder

    twin = Decoder(model.config).eval()
    twin.load_state_dict({key: torch.tensor(array) for key, array in model.weights.items()})
    tokens, record, seen = tokens_of(TEXT), [], {}
    with torch.no_grad():
        expected = twin(torch.tensor(tokens.astype(np.int64)), record).numpy()
    logits = model.forward(tokens, hook=seen.__setitem__)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=float32_rounding(expected))
    for layer, activations in enumerate(record):
        for letter, value in activations.items():
            value = value.detach().numpy()
            np.testing.assert_allclose(seen[layer][letter], value, rtol=0, atol=float32_rounding(value))


def float32_rounding(x):
    """Return what 256 float32 roundings, half a unit in the last place each, add up to beside the largest value."""
    return 256 * np.finfo(np.float32).eps / 2 * max(1.0, float(np.abs(x).max()))


@pytest.mark.parametrize("pieces", [(1,) * 12, (5, 1, 6), (11, 1)], ids=str)
def test_incremental_forward_agrees_with_full(model, pieces):
    tokens = np.stack([np.frombuffer(s, np.uint8) for s in (b"class Vector", b"    return 0")])
    state, parts, start = m.State(model.config, B=2), [], 0
    for piece in pieces:
        parts.append(model.forward(tokens[:, start : start + piece], state))
        start += piece
    full = model.forward(tokens)
    assert state.position == 12
    np.testing.assert_allclose(np.concatenate(parts, axis=1), full, rtol=0, atol=float32_rounding(full))


def test_a_wrong_layer_would_be_seen(mha, monkeypatch):
    with np.load(RECORDED / "mha.reference.npz") as file:
        tokens, expected = file["tokens"], file["logits"]
    rotate = layers.rotate
    monkeypatch.setattr(layers, "rotate", lambda x, position, base: rotate(x, position + 1, base * 2))
    logits = mha.forward(tokens)[:, ::8]
    assert np.abs(logits - expected).max() > 100 * float32_rounding(expected)


def test_attention_agrees_with_float64_on_ragged_grouped_shapes():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 6, 300, 8), (2, 3, 311, 8), (2, 3, 311, 8)))
    s = np.einsum("bgrtd,bgsd->bgrts", q.reshape(2, 3, 2, 300, 8).astype(np.float64), k) * 8**-0.5
    s[..., np.arange(311) > np.arange(300)[:, None] + 11] = -np.inf
    p = np.exp(s - s.max(-1, keepdims=True))
    expected = np.einsum("bgrts,bgsd->bgrtd", p / p.sum(-1, keepdims=True), v).reshape(2, 6, 300, 8)
    np.testing.assert_allclose(layers.attend(q, k, v), expected, rtol=0, atol=float32_rounding(expected))


def test_activations_of_attention_have_the_shapes_and_dtype_of_a_rung(model):
    layer = model.config.layers.index("attention")
    inputs = model.activations("x = 1\n", layer, dtype=np.float16)
    H, G, D = model.config.H, model.config.G, model.config.D
    assert (inputs.q.shape, inputs.k.shape, inputs.v.shape) == ((1, H, 6, D), (1, G, 6, D), (1, G, 6, D))
    assert {array.dtype for array in dict(inputs).values()} == {np.dtype(np.float16)}
    assert all(array.flags.c_contiguous for array in dict(inputs).values())


def test_activations_of_mamba_scan_to_what_the_layer_gave(hybrid):
    inputs = hybrid.activations(TEXT, 0)
    T, E, N = len(TEXT), hybrid.config.E, hybrid.config.N
    assert {key: array.shape for key, array in dict(inputs).items()} == {
        "u": (1, T, E), "delta": (1, T, E), "a": (E, N), "b": (1, T, N), "c": (1, T, N), "d": (E,), "z": (1, T, E),
        "delta_bias": (E,),
    }  # fmt: skip
    step = np.log1p(np.exp(inputs.delta.astype(np.float64) + inputs.delta_bias))
    h, y = np.zeros((1, E, N)), []
    for t in range(T):
        h = np.exp(step[:, t, :, None] * inputs.a) * h + (step[:, t] * inputs.u[:, t])[..., None] * inputs.b[:, t, None]
        y.append((h * inputs.c[:, t, None]).sum(-1) + inputs.d * inputs.u[:, t])
    expected = np.stack(y, axis=1) * inputs.z / (1 + np.exp(-inputs.z.astype(np.float64)))
    got, _ = layers.scan(**inputs, h=np.zeros((1, E, N), np.float32))
    np.testing.assert_allclose(got, expected, rtol=0, atol=float32_rounding(expected))


def test_negative_layer_counts_from_the_last(mha):
    np.testing.assert_array_equal(mha.activations("abc", -1).q, mha.activations("abc", 3).q)


def test_loss_is_that_of_the_bytes_one_by_one(mha):
    logits = mha.forward(tokens_of("\0" + TEXT[:-1])).astype(np.float64)[0]
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    expected = -np.log2(p[np.arange(len(TEXT)), tokens_of(TEXT)[0]]).mean()
    assert mha.loss(TEXT) == pytest.approx(expected, rel=1e-5)
    assert mha.loss(TEXT.encode()) == mha.loss(TEXT)


def test_loss_of_windows_is_the_sum_over_their_bytes(mha):
    data = m.held_out(4000)[:700]
    stream = b"\0" + data
    total = 0.0
    for start in range(0, 700, 256):
        piece = np.frombuffer(stream[start : start + 257], np.uint8)
        logits = mha.forward(piece[None, :-1]).astype(np.float64)[0]
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        total -= log_p[np.arange(len(piece) - 1), piece[1:]].sum()
    assert mha.loss(data, context=256) == pytest.approx(total / 700 / np.log(2), rel=1e-5)


def test_overlapping_windows_cost_less_than_separate_ones(mha):
    data = m.held_out(22000)[2000:3000]
    assert mha.loss(data) < mha.loss(data, context=256, stride=64) < mha.loss(data, context=256)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 511, 700])
@pytest.mark.parametrize("stride", [256, 100, 1])
def test_windows_score_every_byte_once(size, stride):
    from minikernels.model.forward import _windows

    scored = [
        byte
        for (length, count), starts in _windows(size, 256, stride).items()
        for start in starts
        for byte in range(start + length - count, start + length)
    ]
    assert sorted(scored) == list(range(size))
    assert all(start >= 0 for starts in _windows(size, 256, stride).values() for start in starts)


@pytest.mark.parametrize("text", ["a", b"\xff", "größer als 日本", "\x00"], ids=repr)
def test_loss_of_short_and_foreign_text_is_finite(model, text):
    assert 0 < model.loss(text) < 60


def test_models_predict_held_out_source_better_than_lzma(model, scores):
    data = m.held_out(22000)
    loss = model.loss(data[6000:8000])
    assert loss < 2.0
    assert scores[model.name]["held_out"]["512"] < scores[model.name]["compressors"]["lzma"]


def test_recorded_scores_are_those_of_the_shipped_weights(model, scores):
    assert scores[model.name]["digest"] == model.digest
    assert sum(path.stat().st_size for path in weights.FOLDER.glob("*.npz")) < 8e6


def test_identity_attention_and_hook_change_nothing(mha):
    calls = []
    same = mha.loss(
        TEXT, attention=lambda q, k, v, layer: layers.attend(q, k, v), hook=lambda i, inputs: calls.append(i)
    )
    assert same == mha.loss(TEXT)
    assert calls == [0, 1, 2, 3]


def test_hook_replaces_what_attention_sees(mha):
    def no_values(layer, inputs):
        return m.AttentionInputs(inputs.q, inputs.k, 0 * inputs.v)

    assert mha.loss(TEXT, hook=no_values) > mha.loss(TEXT) + 0.5


def test_generation_is_that_of_the_full_forward(model):
    made = model.generate("def f(", 8, temperature=0)
    text = b"\0def f("
    for _ in range(8):
        text += bytes([int(model.forward(np.frombuffer(text, np.uint8)[None])[0, -1].argmax())])
    assert made.encode() == text[7:]


def test_generation_repeats_with_its_seed_and_keeps_the_prompts_type(mha):
    assert mha.generate(b"import ", 12, seed=3) == mha.generate(b"import ", 12, seed=3)
    assert isinstance(mha.generate(b"import ", 2), bytes)
    assert len(mha.generate(b"", 5)) == 5
    assert mha.generate("x", 0) == ""


def test_state_grows_with_attention_and_not_with_mamba(mha, hybrid):
    def grown(model):
        state = m.State(model.config)
        model.forward(tokens_of("abcd"), state)
        before = state.nbytes
        model.forward(tokens_of("abcd"), state)
        return state.nbytes - before

    assert grown(mha) == 4 * 2 * 8 * 32 * 4 * 4  # four layers, k and v, G, D, four bytes of text, float32
    assert grown(hybrid) == 1 * 2 * 2 * 32 * 4 * 4


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda x: x.loss(""), ShapeError, "empty"),
        (lambda x: x.loss(3), DtypeError, "str or bytes"),
        (lambda x: x.loss("abc", context=4096), ShapeError, "1 to 2048"),
        (lambda x: x.loss("abc", context=8, stride=9), ShapeError, "stride is 9"),
        (lambda x: x.activations("", 0), ShapeError, "T=0"),
        (lambda x: x.activations("a" * 2049, 0), ShapeError, "T=2049"),
        (lambda x: x.activations("a", 4), ShapeError, "layers 0 to 3"),
        (lambda x: x.activations("a", 1.5), ShapeError, "layer is 1.5; mha has layers 0 to 3"),
        (lambda x: x.activations("a", 0, dtype=np.int8), DtypeError, "int8"),
        (lambda x: x.generate("a", 2048), ShapeError, "do not fit"),
        (lambda x: x.forward(np.zeros((1, 3))), DtypeError, "float64"),
        (lambda x: x.forward(np.zeros(3, np.uint8)), ShapeError, r"\(B, T\)"),
        (lambda x: x.forward(np.zeros((2, 3), np.uint8), m.State(x.config)), ShapeError, "B=1"),
        (lambda x: x.loss("abc", attention=lambda q, k, v, layer: q[:, :1]), ShapeError, r"\(B, H, T, D\)"),
    ],
)  # fmt: skip
def test_bad_input_is_a_clear_error(mha, call, error, says):
    with pytest.raises(error, match=says):
        call(mha)


@pytest.mark.parametrize("name", ["mha", "gqa2", "hybrid"])
def test_a_batch_of_no_sequences_has_no_logits(name):
    assert m.load(name).forward(np.zeros((0, 2), np.uint8)).shape == (0, 2, 256)


def test_import_is_light():
    code = "import sys, minikernels.model; print([x for x in ('torch', 'numba', 'matplotlib') if x in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
