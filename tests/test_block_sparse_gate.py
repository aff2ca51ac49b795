"""What is said of SeerAttention's gate on the tiny model is what was recorded of these weights, and holds here too."""

import numpy as np
import pytest

from minikernels import model
from minikernels.bench import gate, sparsity
from minikernels.bench.recorded import Recording, Result

AGAIN = "python -m minikernels.bench.gate"


@pytest.fixture(scope="module")
def found():
    return gate.recorded()


def test_the_record_is_of_the_shipped_weights(found):
    assert found["model"]["digest"] == model.load(found["model"]["name"]).digest, f"the record is stale: {AGAIN}"
    assert list(found["choices"]) == list(gate.CHOICES)


def test_the_readme_shows_what_was_recorded(found):
    text = gate.README.read_text("utf-8")
    assert text == gate.readme(text, found), f"stale: {AGAIN} --table"


def test_what_the_readme_says_of_the_record_is_so(found):
    """Trained on mass finds more mass at every density, most in the last layer; trained on maxima costs fewer bits."""
    layers = list(found["recall"].values())
    mean = {choice: np.mean([recall[choice] for recall in layers], axis=0) for choice in found["choices"]}
    for more, less in (("mass", "gate"), ("gate", "pooled"), ("gate", "gate_max")):
        assert (mean[more] > mean[less]).all()
    gained = [np.subtract(recall["gate"], recall["pooled"]) for recall in layers]
    assert (gained[-1] == np.max(gained, axis=0)).all() and np.abs(gained[0]).max() < 0.001
    bits = found["bits_per_byte"]
    for before, after in (("pooled", "gate"), ("gate", "gate_max"), ("gate_max", "mass")):
        assert (np.array(bits[before]) > bits[after]).all()
    assert min(bits["mass"]) > bits["dense"]


def test_a_short_training_here_lowers_the_divergence_and_finds_more():
    tiny = model.load("mha")
    samples = gate.lessons(tiny, windows=2, length=256, layers=[3])
    (trained, losses), = gate.train(tiny, samples, steps=30).values()
    assert losses[-1] < 0.6 * losses[0]
    texts = [text[:256] for text in gate.judged_texts()[:2]]
    recall = gate.judge(tiny, {3: {"gate": trained}}, texts, densities=(0.5, 0.25))[3]
    assert (np.array(recall["mass"]) >= recall["gate"]).all()
    assert (np.array(recall["gate"]) > recall["local"]).all()


def test_all_choices_keep_as_many_blocks():
    tiny = model.load("mha")
    x = gate.activations(tiny, gate.judged_texts()[0][:200])[2]
    p = gate.distill.probabilities(x.q, x.k, causal=True)
    weights = gate.gate.untrained(8, 32)
    masks = gate.masks(x.q, x.k, p, 0.5, {"gate": weights, "gate_max": weights})
    assert list(masks) == list(gate.CHOICES)
    for mask in masks.values():
        assert mask.shape == (1, 8, 13, 13)
        np.testing.assert_array_equal(mask.sum(axis=3), masks["mass"].sum(axis=3))
    np.testing.assert_array_equal(masks["pooled"], masks["gate"])


def test_attention_over_all_blocks_costs_what_attention_costs():
    tiny, texts = model.load("mha"), [gate.judged_texts()[0][:128]]
    assert np.isclose(gate.cost(tiny, texts, dict.fromkeys(range(4), {}), 1.0, "mass"), tiny.loss(texts[0]), atol=1e-3)


def recording(times):
    """Return a recording of {(name, density, T): ms}."""
    rows = [Result("block_sparse", name, name == "FlexAttention",
                   ((("T", T),), "float16", False, f"density {density:g}"), ms,
                   round(density * 10**12))
            for (name, density, T), ms in times.items()]
    return Recording("a GPU", (9, 0), "1", "2026-01-01", tuple(rows))


def test_speedups_are_divided_by_what_there_is_to_gain():
    times = {("v5_mma", 1.0, 512): 10.0, ("v5_mma", 0.25, 512): 2.5, ("v5_mma", 0.1, 512): 2.0,
             ("FlexAttention", 1.0, 512): 8.0, ("FlexAttention", 0.5, 512): 5.0,
             ("v3_block_lists", 0.25, 512): 9.0, ("v5_mma", 1.0, 64): 1.0}
    found = sparsity.speedups(recording(times))
    assert found == {"v5_mma": {0.1: 0.5, 0.25: 1.0, 1.0: 1.0}, "FlexAttention": {0.5: 0.8, 1.0: 1.0}}
    assert sparsity.speedups(recording({})) == {}


def test_the_readme_shows_the_recorded_speedups(monkeypatch):
    text = gate.README.read_text("utf-8")
    assert text == sparsity.with_speedups(text), "stale: python -m minikernels.bench.ladder"
    assert sparsity.with_speedups("no marks") == "no marks"
    times = {("v5_mma", 1.0, 512): 10.0, ("v5_mma", 0.25, 512): 3.125, ("FlexAttention", 1.0, 512): 8.0}
    monkeypatch.setattr(sparsity, "recordings", lambda: (recording(times), recording({})))
    assert sparsity.table().splitlines() == [
        "| a GPU | density 0.25 | density 1 |", "| --- | ---: | ---: |",
        "| `v5_mma` | 0.80, 80 TFLOP/s | 1.00, 100 TFLOP/s |", "| FlexAttention |  | 1.00, 125 TFLOP/s |"]
    monkeypatch.setattr(sparsity, "recordings", tuple)
    assert sparsity.table() == "No time at density 1 is recorded yet, nor the gain against it."


@pytest.mark.parametrize("causal", [False, True])
def test_the_bench_judges_block_rows_as_the_oracle_does(causal):
    sizes = {"B": 2, "H": 4, "G": 2, "T": 70, "S": 90, "D": 8, "R": 16, "C": 32}
    inputs = sparsity.random(sizes, "float32", causal, density=0.5)
    o, lse = sparsity.reference.attention(**inputs, scale=8**-0.5)
    for b, h, i in sparsity.places(inputs):
        exact, _, rows = sparsity.sample(inputs, b, h, i)
        np.testing.assert_allclose(exact[0][0, 0], o[b, h, rows], rtol=0, atol=1e-12)
        np.testing.assert_allclose(exact[1][0, 0], lse[b, h, rows], rtol=0, atol=1e-12)
