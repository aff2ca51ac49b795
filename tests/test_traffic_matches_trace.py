"""Every closed form equals, number for number, what the SIMT machine counts."""

import pytest

from minikernels import catalog, simt
from minikernels.core.traffic import Traffic

SIZES = {  # technique -> rows of its letters: 1, a prime, a tile less and more one, T != S, G = 1, G = H
    "BHGTSD": [
        (1, 1, 1, 1, 1, 1), (1, 2, 1, 63, 65, 8), (2, 2, 2, 64, 64, 16), (1, 4, 2, 65, 31, 7), (1, 2, 2, 17, 130, 33),
    ],
    "BHGSD": [(1, 1, 1, 1, 1), (3, 2, 1, 65, 8), (2, 2, 2, 64, 16), (4, 6, 2, 131, 33), (2, 32, 1, 37, 32)],
    "BHGSPD": [(1, 1, 1, 1, 1, 1), (3, 2, 1, 65, 16, 8), (2, 2, 2, 64, 1, 16), (4, 6, 2, 131, 7, 33),
               (2, 32, 1, 37, 128, 32)],
    "BTEN": [(1, 1, 1, 1), (2, 37, 24, 5), (3, 33, 41, 16), (1, 65, 130, 2), (2, 5, 7, 33)],
    "BHTD": [(1, 1, 1, 1), (2, 2, 31, 8), (1, 3, 16, 33), (3, 1, 37, 64)],
}
EXACT = ["load_requests", "load_sectors", "load_bytes", "store_requests", "store_sectors", "store_bytes", "barriers"]
OPTIONS = [("float32", True), ("float32", False), ("float16", True)]


def rows():
    """Yield a case for every numba rung of the catalog, sizes, dtype and mask, with a readable id."""
    for name in catalog.names():
        technique = catalog.technique(name)
        for rung in (rung for rung in technique.rungs if rung.kind == "numba"):
            for sizes in SIZES[technique.letters]:
                for dtype, causal in OPTIONS:
                    spelled = "-".join(f"{letter}{n}" for letter, n in zip(technique.letters, sizes, strict=True))
                    label = f"{name}-{rung.name}-{spelled}-{dtype}{'-causal' if causal else ''}"
                    yield pytest.param(technique, rung, sizes, dtype, causal, id=label)


@pytest.mark.parametrize(("technique", "rung", "sizes", "dtype", "causal"), list(rows()))
def test_predicted_traffic_equals_counted(technique, rung, sizes, dtype, causal):
    inputs = technique.random(dict(zip(technique.letters, sizes, strict=True)), dtype, causal=causal)
    with simt.collect() as launches:
        technique.run(rung, inputs)
    counted = sum((launch.traffic for launch in launches), Traffic()).as_dict()
    predicted = technique.traffic(rung, inputs).as_dict()
    for name in EXACT:
        assert predicted[name] == counted[name], f"{name}: predicted {predicted[name]}, counted {counted[name]}"
    others = {name: (n, counted[name]) for name, n in predicted.items() if n and n != counted[name]}
    assert not others, f"(predicted, counted): {others}"


def test_a_wrong_closed_form_is_caught():
    """The comparison is no formality: K and V read twice as often would be seen."""
    technique = catalog.technique("flash")
    inputs = technique.random(dict(zip("BHGTSD", (1, 2, 1, 130, 64, 8), strict=True)), causal=False)
    twice = technique.traffic(technique.rung("v2_tiled"), inputs)
    with simt.collect() as launches:
        technique.run(technique.rung("v3_split_rows"), inputs)  # 128 rows a block instead of 64
    assert launches[0].traffic.load_bytes < twice.load_bytes
