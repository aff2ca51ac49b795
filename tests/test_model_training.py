"""Training: the scan's gradient, the optimiser, resuming. Needs PyTorch."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is only needed to train the models anew")

from minikernels.model.config import Config  # noqa: E402
from minikernels.model.train import torch_scan  # noqa: E402
from minikernels.model.train.muon import orthogonal  # noqa: E402
from minikernels.model.train.optimise import Run, bits_per_byte, optimise  # noqa: E402
from minikernels.model.train.torch_model import Decoder  # noqa: E402

TINY = Config(layers=("attention", "mamba"), M=16, H=2, G=1, D=8, F=16, E=16, N=4, R=2, context=64)


@pytest.mark.gpu
def test_triton_scan_and_its_gradient_agree_with_the_loop():
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch sees no GPU")
    torch.manual_seed(0)
    shapes = [(3, 37, 32), (3, 37, 32), (32, 16), (3, 37, 16), (3, 37, 16)]
    x = [torch.randn(shape, device="cuda") for shape in shapes]
    x[1], x[2] = x[1].abs() * 0.1, -x[2].abs()
    ours, loop = ([y.clone().requires_grad_() for y in x] for _ in range(2))
    weight = torch.randn(3, 37, 32, device="cuda")
    y, expected = torch_scan.selective_scan(*ours), torch_scan.scan_loop(*loop)
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    for a, b in zip(ours, loop, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-3)


def test_orthogonal_brings_singular_values_near_one():
    torch.manual_seed(0)
    for shape in ((3, 8, 20), (2, 20, 8)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert values.min() > 0.5
        assert values.max() < 1.3


def test_decoder_has_the_names_and_shapes_of_the_configuration():
    state = Decoder(TINY).state_dict()
    assert {name: tuple(weight.shape) for name, weight in state.items()} == TINY.shapes()


@pytest.mark.parametrize("muon", [False, True])
def test_a_resumed_run_is_the_same_run(tmp_path, muon):
    text = np.frombuffer(b"\0for i in range(10):\n    print(i)\n" * 30, np.uint8)
    run = Run(steps=6, batch=4, length=16, long_every=3, warmup=2, validate_every=2, muon=muon)

    def trained(folder, stops):
        torch.manual_seed(0)
        log = []
        for seconds in stops:
            model = Decoder(TINY)
            done = optimise(model, text, text[:200], run, tmp_path / folder, log.append, seconds)
        assert done
        return model, log

    whole, log = trained("whole", [None])
    resumed, _ = trained("resumed", [-1.0, -1.0, None])
    assert log[-1]["step"] == 6
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_bits_per_byte_is_that_of_the_numpy_model():
    from minikernels.model.forward import Model

    torch.manual_seed(0)
    twin = Decoder(TINY).eval()
    model = Model(TINY, {name: weight.numpy() for name, weight in twin.state_dict().items()})
    data = b"while True:\n    pass  # for ever and a day\n" * 3
    text = np.frombuffer(b"\0" + data, np.uint8)
    assert bits_per_byte(twin, text, 64) == pytest.approx(model.loss(data, context=64), rel=1e-5)


def test_one_short_run_writes_all_that_a_model_ships_with(tmp_path, monkeypatch):
    from minikernels.model.train import train

    text = np.frombuffer(b"\0def f(x):\n    return x + 1\n" * 40, np.uint8)
    texts = dict.fromkeys(("train", "tests", "validation", "held_out"), text)
    short = Run(steps=2, batch=2, length=16, warmup=1, validate_every=1, muon=True)
    monkeypatch.setattr(train, "CONFIGS", {"mha": Config(layers=("attention",), M=16, H=2, G=2, D=8, F=16, context=64)})
    monkeypatch.setattr(train, "STAGES", {"mha": (short, short)})
    monkeypatch.setattr(train, "UPTRAINED", short)
    job = train.Job(texts, {}, tmp_path)
    job.train("mha")
    job.convert("G1-mean", uptrain=True)
    scores = json.loads((tmp_path / "mqa.scores.json").read_text())
    assert scores["config"]["G"] == 1
    assert set(scores["held_out"]) == {"512", "2048"}
    assert (tmp_path / "mha.npz").is_file()
    assert json.loads((tmp_path / "G1-mean.json").read_text())["converted"] == scores["not_uptrained"]
