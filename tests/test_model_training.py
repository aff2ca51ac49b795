"""Training: the scan's gradient, the optimiser, resuming. Needs PyTorch."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is only needed to train the models anew")

from minikernels.model.config import Config  # noqa: E402
from minikernels.model.train import torch_scan  # noqa: E402
from minikernels.model.train.muon import orthogonal  # noqa: E402
from minikernels.model.train.optimise import bits_per_byte, optimise  # noqa: E402
from minikernels.model.train.torch_model import Decoder  # noqa: E402
from minikernels.model.train.update import Run  # noqa: E402

torch.set_num_threads(1)  # what is computed here is too small for more
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
    for shape in ((3, 8, 20), (2, 8, 8)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert values.max() < 1.3
        assert values.min() > 0.5 or shape[1] == shape[2]


def test_decoder_has_the_names_and_shapes_of_the_configuration():
    state = Decoder(TINY).state_dict()
    assert {name: tuple(weight.shape) for name, weight in state.items()} == TINY.shapes()


@pytest.mark.parametrize("taught", [0.0, 0.5])
def test_a_resumed_run_is_the_same_run(tmp_path, taught):
    text = np.frombuffer(b"\0for i in range(10):\n    print(i)\n" * 30, np.uint8)
    run = Run(steps=6, batch=4, length=16, long_every=3, warmup=2, dropout=0.1, taught=taught, validate_every=2)

    def trained(folder, stops):
        torch.manual_seed(0)
        teacher, log = Decoder(TINY), []
        for seconds in stops:
            model = Decoder(TINY)
            done = optimise(model, text, text[:200], run, tmp_path / folder, log.append, seconds, teacher)
        assert done
        return model, log

    whole, log = trained("whole", [None])
    resumed, _ = trained("resumed", [-1.0, -1.0, None])
    assert log[-1]["step"] == 6
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_pupil_comes_nearer_to_its_teacher_and_leaves_it_as_it_is(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(97, 101, 2000).astype(np.uint8)  # no next byte to be learnt from it
    torch.manual_seed(0)
    teacher, pupil = Decoder(TINY).eval(), Decoder(TINY).eval()
    torch.nn.init.normal_(teacher.norm, std=3)
    tokens = torch.from_numpy(noise[None, :64].astype(np.int64))
    before = {name: weight.clone() for name, weight in teacher.state_dict().items()}

    def distance():
        with torch.no_grad():
            expected, got = (torch.softmax(model.eval()(tokens), dim=-1) for model in (teacher, pupil))
        return float((expected - got).abs().sum(-1).mean())

    far = distance()
    run = Run(steps=30, batch=8, length=32, warmup=5, rate=1e-2, taught=1.0, validate_every=30)
    optimise(pupil, noise, noise[:100], run, tmp_path, lambda record: None, teacher=teacher)
    assert distance() < 0.7 * far
    assert all(torch.equal(before[name], weight) for name, weight in teacher.state_dict().items())


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")  # of the compiler's own
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_captured_update_is_that_of_python(dropout):
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch sees no GPU")
    from minikernels.model.train.muon import Optimiser
    from minikernels.model.train.update import Update

    text = np.frombuffer(b"\0for i in range(10):\n    print(i)\n" * 300, np.uint8)
    run = Run(steps=20, batch=8, length=64, long_every=4, warmup=2, dropout=dropout, taught=0.5)
    config = Config(layers=("attention", "mamba"), M=64, H=2, G=1, D=32, F=64, E=64, context=256)
    losses = []
    for captured in (True, False):
        torch.manual_seed(0)
        teacher, model = Decoder(config).cuda(), Decoder(config).cuda()
        model.set_dropout(dropout)
        update = Update(model, Optimiser(model, run.decay), text, run, teacher, captured=captured)
        losses.append([update(step).item() for step in range(20)])
    # Dropout draws other numbers where it is compiled, so only its course is the same.
    np.testing.assert_allclose(*losses, rtol=0.2 if dropout else 0.03)
    assert losses[0][-1] < losses[0][0] - 0.5


def test_bits_per_byte_is_that_of_the_numpy_model():
    from minikernels.model.forward import Model

    torch.manual_seed(0)
    twin = Decoder(TINY).eval()
    model = Model(TINY, {name: weight.numpy() for name, weight in twin.state_dict().items()})
    data = b"while True:\n    pass  # for ever and a day\n" * 3
    for size in (129, 128, 64, 30):
        text = np.frombuffer(b"\0" + data[:size], np.uint8)
        for stride in (None, 64, 20):
            expected = model.loss(data[:size], context=64, stride=stride)
            assert bits_per_byte(twin, text, 64, stride, batch=2) == pytest.approx(expected, rel=1e-5)


def test_one_short_run_writes_all_that_ships(tmp_path, monkeypatch):
    from minikernels.model import weights
    from minikernels.model.train import ship, train

    text = np.frombuffer(b"\0def f(x):\n    return x + 1\n" * 40, np.uint8)
    texts = dict.fromkeys(("train", "tests", "validation", "held_out"), text)
    sizes = Config(layers=("attention",), M=16, H=2, G=2, D=8, F=16, context=64)
    short = Run(steps=2, batch=2, length=16, warmup=1, validate_every=1)
    taught = Run(steps=2, batch=2, length=16, warmup=1, validate_every=1, taught=0.5)
    monkeypatch.setattr(train, "CONFIGS", dict.fromkeys(("mha", "hybrid", "teacher"), sizes))
    monkeypatch.setattr(train, "RUNS", {"mha": taught, "hybrid": taught, "teacher": short})
    monkeypatch.setattr(train, "UPTRAINED", taught)
    job = train.Job(texts, {}, tmp_path / "run")
    with pytest.raises(SystemExit, match="train it first"):
        job.train("mha")
    for name in ("teacher", "mha", "hybrid"):
        job.train(name)
    for name in ("G2-aligned", "G1-aligned"):
        job.convert(name, uptrain=True)
    job.convert("G1-first", uptrain=False)

    package = tmp_path / "package"
    for folder in ("weights", "recorded"):
        (package / folder).mkdir(parents=True)
    monkeypatch.setattr(ship, "FOLDER", package)
    monkeypatch.setattr(weights, "FOLDER", package / "weights")
    monkeypatch.setattr("sys.argv", ["ship", str(tmp_path / "run")])
    ship.main()
    scores = json.loads((package / "recorded" / "scores.json").read_text())["models"]
    assert {name: scores[name]["digest"] for name in weights.NAMES} == {
        name: weights.read(weights.path_of(name))[2] for name in weights.NAMES
    }
    assert scores["mqa"]["config"]["G"] == 1
    assert set(scores["mqa"]["held_out"]) == {"512", "512_after_256", "2048"}
    record = json.loads((package / "recorded" / "conversions.json").read_text())
    assert [(row["G"], row["method"], "uptrained" in row) for row in record["rows"]] == [
        (2, "aligned", True), (1, "aligned", True), (1, "first", False),
    ]  # fmt: skip
    assert record["rows"][1]["converted"] == scores["mqa"]["not_uptrained"]
    assert (record["share_of_steps"], record["share_of_bytes"]) == (1, 1)
    log = (package / "recorded" / "training.log.jsonl").read_text().splitlines()
    assert [json.loads(line)["model"] for line in log[::2]] == ["teacher", "mha", "hybrid", "G2-aligned", "G1-aligned"]
