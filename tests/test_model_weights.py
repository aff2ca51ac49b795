"""Weight files, the text's split, conversion to fewer heads, the approximations, and what is recorded."""

import json
from pathlib import Path

import numpy as np
import pytest

import minikernels.model as m
from minikernels.core.errors import ShapeError
from minikernels.model import approximations, text, weights
from minikernels.model.train import convert

RECORDED = Path(m.__file__).parent / "recorded"


@pytest.fixture(scope="module")
def mha():
    return m.load("mha")


def test_unknown_name_lists_the_models():
    with pytest.raises(ValueError, match="mha, gqa2, mqa, hybrid"):
        m.load("gpt")


def test_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(m.WeightsError, match="no weights at"):
        m.load(str(tmp_path / "mha.npz"))


@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "text"])
def test_damaged_file_is_a_clear_error(tmp_path, damage):
    whole = bytearray(weights.path_of("mqa").read_bytes())
    flipped = whole.copy()
    flipped[len(whole) // 2] ^= 0xFF
    content = {"empty": b"", "half": whole[: len(whole) // 2], "flipped": flipped, "text": b"not an archive"}[damage]
    path = tmp_path / "mqa.npz"
    path.write_bytes(content)
    with pytest.raises(m.WeightsError, match="damaged"):
        m.load(str(path))


def test_changed_missing_or_misshapen_weights_are_clear_errors(tmp_path):
    config, arrays, seal = weights.read(weights.path_of("mqa"))

    def resaved(**changes):
        path = tmp_path / "x.npz"
        changed = {key: array for key, array in (arrays | changes).items() if array is not None}
        np.savez(path, config=np.array(config.to_json()), digest=np.array(seal), **changed)
        return str(path)

    assert m.load(resaved()).digest == seal
    with pytest.raises(m.WeightsError, match="digest"):
        m.load(resaved(norm=arrays["norm"] * 2))
    with pytest.raises(m.WeightsError, match=r"lacks \['norm'\]"):
        m.load(resaved(norm=None))
    with pytest.raises(m.WeightsError, match="norm has shape"):
        m.load(resaved(norm=arrays["norm"][:5]))
    np.savez(tmp_path / "y.npz", a=np.zeros(3))
    with pytest.raises(m.WeightsError, match="not a weight file"):
        m.load(str(tmp_path / "y.npz"))


def test_written_weights_come_back(tmp_path):
    config, arrays, seal = weights.read(weights.path_of("hybrid"))
    assert weights.write(tmp_path / "z.npz", config, arrays) == seal
    assert weights.read(tmp_path / "z.npz")[0] == config


@pytest.mark.parametrize("change", [{"G": 3}, {"layers": ()}, {"layers": ("conv",)}, {"D": 5}], ids=str)
def test_impossible_sizes_are_refused(change):
    with pytest.raises(ShapeError):
        m.Config(**change)


def test_splits_share_no_file_and_hold_no_foreign_package():
    paths = {split: set(text._paths(split, None)) for split in text.SPLITS}
    assert sum(map(len, paths.values())) == len(set().union(*paths.values()))
    assert not any("site-packages" in path.parts for path in set().union(*paths.values()))
    assert not any("test_json" in path.parts or path.name == "test_heapq.py" for path in paths["tests"])
    assert {path.stem for path in paths["held_out"]} >= {"argparse", "heapq", "textwrap"}


def test_corpus_separates_its_files(tmp_path):
    (tmp_path / "heapq.py").write_bytes(b"a = 1\n")
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "__init__.py").write_bytes(b"b = 2\n")
    (tmp_path / "os.py").write_bytes(b"c = 3\n")
    assert text.corpus("held_out", tmp_path) == b"\x00a = 1\n\x00b = 2\n"
    assert text.corpus("train", tmp_path) == b"\x00c = 3\n"
    assert text.held_out(4, tmp_path) == b"a b "[:1] + b" " + b"b "
    assert text.provenance(tmp_path)["held_out"]["files"] == 2
    with pytest.raises(ValueError, match="split is 'test'"):
        text.corpus("test", tmp_path)


def test_mean_pooling_averages_the_heads_of_a_group(mha):
    config, pooled = convert.pool(mha.config, mha.weights, 2)
    key, heads = "layers.1.key", mha.weights["layers.1.key"].reshape(8, 32, 128)
    assert config.G == 2
    np.testing.assert_allclose(pooled[key].reshape(2, 32, 128)[1], heads[4:].mean(0), rtol=1e-6)
    np.testing.assert_array_equal(pooled["layers.1.query"], mha.weights["layers.1.query"])
    first = convert.pool(mha.config, mha.weights, 2, "first")[1]
    np.testing.assert_array_equal(first[key].reshape(2, 32, 128)[1], heads[4])


def test_pooling_to_the_same_heads_changes_nothing(mha):
    same = m.Model(*convert.pool(mha.config, mha.weights, 8))
    assert same.loss("x = 1\n") == mha.loss("x = 1\n")
    with pytest.raises(ShapeError, match="must divide"):
        convert.pool(mha.config, mha.weights, 3)
    with pytest.raises(ValueError, match="mean, aligned, first, random"):
        convert.pool(mha.config, mha.weights, 2, "median")


@pytest.mark.parametrize("G", [1, 2, 4, 8])
def test_aligned_heads_compute_the_same_and_lie_nearer_to_their_mean(mha, G):
    aligned = m.Model(mha.config, convert.align(mha.config, mha.weights, G))
    data = m.held_out(22000)[2000:2300]
    assert aligned.loss(data) == pytest.approx(mha.loss(data), abs=1e-4)
    for layer in range(len(mha.config.layers)):
        for name in (f"layers.{layer}.key", f"layers.{layer}.value"):
            before, after = (_spread(model.weights[name], G) for model in (mha, aligned))
            assert after < before or G == 8, name


def _spread(weight, G):
    """Return the mean square distance of heads from the mean of their group."""
    heads = weight.reshape(G, 8 // G, -1)
    return np.square(heads - heads.mean(1, keepdims=True)).mean()


def test_aligned_heads_are_pooled_at_a_lower_cost(mha):
    data = m.held_out(22000)[2000:2500]
    for G in (1, 2, 4):
        mean, aligned = (
            m.Model(*convert.pool(mha.config, mha.weights, G, how)).loss(data) for how in ("mean", "aligned")
        )
        assert aligned < mean


def test_heads_that_share_keys_are_not_aligned():
    gqa2 = m.load("gqa2")
    with pytest.raises(ShapeError, match="G=2 must be H=8"):
        convert.pool(gqa2.config, gqa2.weights, 1, "aligned")


@pytest.mark.parametrize("size", [1, 63, 200])
@pytest.mark.parametrize(
    "how",
    [
        {"attention": approximations.window(4096)},
        {"attention": approximations.keep_blocks(1.0, 64)},
        {"attention": approximations.keep_blocks(1.0, 48, "pooled")},
        {"attention": approximations.merge(1)},
        {"attention": approximations.merge(7, recent=4096)},
        {"hook": approximations.quantise(20)},
    ],
    ids=["window", "mass", "pooled", "merge-1", "merge-recent", "20-bits"],
)
def test_an_approximation_that_leaves_nothing_out_costs_nothing(mha, how, size):
    data = m.held_out(22000)[3000 : 3000 + size]
    assert mha.loss(data, **how) == pytest.approx(mha.loss(data), abs=1e-4)


@pytest.mark.parametrize(
    "how",
    [
        {"attention": approximations.window(8, 0)},
        {"attention": approximations.keep_blocks(0.1, 16, "local")},
        {"attention": approximations.merge(4, recent=8)},
        {"hook": approximations.quantise(1)},
    ],
    ids=["window", "blocks", "merge", "1-bit"],
)
def test_a_coarse_approximation_costs_bits(mha, how):
    data = m.held_out(22000)[2000:2500]
    assert mha.loss(data, **how) > mha.loss(data) + 0.01


def test_merging_lets_no_query_see_its_future(mha):
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(1, 2, 40, 8)).astype(np.float32) for _ in range(3))
    attention = approximations.merge(4, recent=4)
    before = attention(q, k, v, 0)
    k[:, :, 30:], v[:, :, 30:] = 9, 9
    np.testing.assert_array_equal(attention(q, k, v, 0)[:, :, :30], before[:, :, :30])


@pytest.mark.parametrize("axis", ["channel", "token"])
def test_rounding_errs_by_at_most_half_a_step(axis):
    x = np.random.default_rng(0).normal(size=(1, 2, 70, 8)).astype(np.float32)
    error = np.abs(approximations.round_to_bits(x, 4, axis) - x)
    assert 0 < error.max() <= (x.max() - x.min()) / 15 / 2 + 1e-6
    with pytest.raises(ValueError, match="axis is 'row'"):
        approximations.round_to_bits(x, 4, "row")


@pytest.mark.parametrize("name", ["statistics", "costs"])
def test_recordings_are_of_the_shipped_weights(name):
    path = RECORDED / f"{name}.json"
    record = json.loads(path.read_text())
    assert path.stat().st_size < 200_000
    models = record["models"] if name == "statistics" else {row["name"]: row for row in record["groups"]}
    assert {key: value["digest"] for key, value in models.items()} == {key: m.load(key).digest for key in models}


def test_readme_states_what_is_recorded():
    readme = (RECORDED.parent / "README.md").read_text()
    scores = json.loads((RECORDED / "scores.json").read_text())["models"]
    for name, label in [*((name, f"`{name}`") for name in weights.NAMES), ("teacher", "the teacher, not shipped")]:
        row = " | ".join(f"{scores[name]['held_out'][how]:.3f}" for how in ("512", "512_after_256", "2048"))
        assert f"| {label} | {row} |" in readme
        assert name == "teacher" or f"{scores[name]['parameters']:,} |" in readme
    for name, bits in scores["mha"]["compressors"].items():
        assert f"| {name}, whole text | {bits:.3f} |" in readme
    ways = {"mean": "averaged", "aligned": "aligned, then averaged", "first": "first kept", "random": "started anew"}
    for row in json.loads((RECORDED / "conversions.json").read_text())["rows"]:
        after = f"{row['uptrained']['512']:.3f}" if "uptrained" in row else "not tried"
        assert f"| {row['G']} | {ways[row['method']]} | {row['converted']['512']:.3f} | {after} |" in readme


def test_every_model_reaches_the_aim_at_context_512():
    scores = json.loads((RECORDED / "scores.json").read_text())["models"]
    assert all(scores[name]["held_out"]["512"] <= 1.25 for name in weights.NAMES)
    run = json.loads((RECORDED / "conversions.json").read_text())
    assert run["share_of_steps"] == 0.05
    assert run["from_digest"] == m.load("mha").digest


def test_recorded_attention_mass_is_whole():
    statistics = json.loads((RECORDED / "statistics.json").read_text())["models"]
    for model in statistics.values():
        for layer in model["layers"].values():
            np.testing.assert_allclose(np.sum(layer["attention"]["mass_by_distance"], axis=1), 1, atol=2e-3)


def test_recorded_costs_grow_as_less_is_kept():
    costs = json.loads((RECORDED / "costs.json").read_text())
    bits = {row["bits"]: row["bits_per_byte"] for row in costs["cache_bits"] if row["key_axis"] == "channel"}
    window = {row["kept"]: row["bits_per_byte"] for row in costs["window"] if row["sinks"]}
    assert bits[8] < bits[4] < bits[2]
    assert window[1024] < window[64]
    assert (
        costs["groups"][0]["bits_per_byte"] < costs["groups"][1]["bits_per_byte"] < costs["groups"][2]["bits_per_byte"]
    )


@pytest.mark.parametrize(("density", "count"), [(0.07, 7), (0.14, 14), (0.55, 55), (0.071, 8), (1e-15, 1), (1.0, 100)])
def test_a_share_that_is_a_whole_number_of_blocks_keeps_so_many(density, count):
    q = np.random.default_rng(0).standard_normal((1, 1, 100, 4)).astype(np.float32)
    p = np.tri(100, dtype=np.float32)[None, None]
    seen = approximations._chosen(q, q, p, density, 1, "local")
    assert seen[0, 0, 99].sum() == count
