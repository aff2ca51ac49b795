"""What the cache buys and what fewer heads cost: sizes exact, times only in order."""

import numpy as np
import pytest

from minikernels import gqa, model
from minikernels.bench import decode, generation
from minikernels.core.errors import ShapeError
from minikernels.model.train.convert import pool

TEXT = model.held_out(2000)


def test_a_cache_takes_2_g_d_floats_a_token_and_layer():
    for name, G in (("mha", 8), ("gqa2", 2), ("mqa", 1)):
        tiny = model.load(name)
        (cost,) = generation.token_costs(tiny, TEXT, [50], runs=1)
        assert cost.cache_bytes == 50 * len(tiny.config.layers) * 2 * G * tiny.config.D * 4


def test_reading_the_text_again_takes_longer_than_the_cache():
    (cost,) = generation.token_costs(model.load("mqa"), TEXT, [1024], runs=3)
    assert cost.without_ms > cost.with_ms > 0


def test_a_text_too_short_is_refused():
    with pytest.raises(ShapeError, match="the text has 10 bytes; 65 are needed"):
        generation.token_costs(model.load("mqa"), b"0123456789", [64])


def test_attention_is_timed_at_every_length_by_every_rung():
    times = generation.attention_ms(model.load("mqa"), TEXT, [16, 64], runs=1)
    assert set(times) == {"reference", "tiled"}
    assert all(len(row) == 2 and min(row) > 0 for row in times.values())


def test_recorded_conversions_lose_less_after_training_and_mean_beats_random():
    rows = {(G, method): (converted, uptrained) for G, method, converted, uptrained in generation.conversions()}
    assert {G for G, _ in rows} == {4, 2, 1}
    assert all(uptrained < converted for converted, uptrained in rows.values() if uptrained)
    assert rows[2, "mean"][1] < rows[2, "first"][1] < rows[2, "random"][1]
    assert rows[4, "mean"][1] < rows[2, "mean"][1] < rows[1, "mean"][1]
    assert all(rows[G, "aligned"][i] < rows[G, "mean"][i] for G in (4, 2, 1) for i in (0, 1))


def test_pool_heads_is_the_mean_of_the_conversions():
    tiny = model.load("mha")
    for G in (1, 2, 4):
        _, converted = pool(tiny.config, tiny.weights, G, "mean")
        for name in ("layers.0.key", "layers.2.value"):
            pooled = gqa.pool_heads(tiny.weights[name], heads=8, groups=G)
            np.testing.assert_allclose(pooled, converted[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", decode.LENGTHS)
def test_the_bench_judges_what_it_times(monkeypatch, variant):
    from minikernels import catalog, launch

    for name in ("to_gpu", "to_numpy", "to_cupy"):  # NumPy stands in for the GPU's arrays
        monkeypatch.setattr(launch, name, lambda x, *_: x)
    monkeypatch.setattr(decode, "peers", lambda *_: [])
    sizes = {"B": 3, "H": 8, "G": 2, "S": 50, "D": 16}
    keys = int(decode.LENGTHS[variant](3, 50).sum())
    suite = decode.suite(catalog.technique("gqa"), sizes, "float16", variant)
    assert suite.row["technique"] == "gqa"
    assert suite.row.get("variant", "") == variant
    assert suite.bytes == 2 * 2 * 16 * keys * 2
    assert suite.flop == 4 * 8 * 16 * keys
    outputs = next(entry for entry in suite.entries if entry.name == "v3_warp_dot").run()
    assert all(suite.judge(outputs))
    outputs["o"][2, 7, 3] += 1
    assert not all(suite.judge(outputs))
