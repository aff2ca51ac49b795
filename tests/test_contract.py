"""What every rung of every technique promises: one list of checks, run over the whole catalog."""

import importlib
import inspect
import re

import numpy as np
import pytest

from minikernels import catalog, launch, simt
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from minikernels.core.traffic import Traffic

SMALL = {  # letters -> sizes that no tile divides
    "BHGTSD": (2, 4, 2, 37, 53, 16),
    "BHGSD": (3, 6, 2, 53, 16),
    "BHGSPD": (3, 6, 2, 53, 5, 16),
    "BTEN": (2, 37, 41, 5),
    "BHTD": (2, 3, 37, 16),
}
SPREAD = {  # letter -> sizes that meet and miss the limits of every kernel
    "B": (0, 1, 2), "G": (1, 1, 2), "R": (1, 2, 3, 8, 33, 80), "T": (0, 1, 5, 31, 64, 70), "S": (0, 1, 9, 31, 64, 200),
    "D": (1, 2, 3, 8, 20, 31, 32, 64, 96, 128, 200, 256, 264, 512, 520, 1100), "P": (1, 5, 16), "E": (0, 1, 7, 64, 130),
    "N": (1, 3, 16, 128, 129, 256, 300), "H": (1, 2, 3),
}
RUNGS = [pytest.param(catalog.technique(name), rung, id=f"{name}-{rung.name}")
         for name in catalog.names() for rung in catalog.technique(name).rungs]
HERE = [case for case in RUNGS if case.values[1].kind != "raw"]  # runs without a GPU
NUMBA = [case for case in RUNGS if case.values[1].kind == "numba"]
RAW = [case for case in RUNGS if case.values[1].kind == "raw"]
over = pytest.mark.parametrize


def small(technique, dtype="float32", widths=None, **options):
    """Return a small random input, of other sizes where `widths` has some."""
    sizes = dict(zip(technique.letters, SMALL[technique.letters], strict=True)) | (widths or {})
    return technique.random(sizes, dtype, **options)


def blocks(technique, rung):
    """Return options for blocks that the rung takes: a product of wgmma has 64 rows."""
    return {"block": (64, 64)} if (technique.name, rung.name) == ("block_sparse", "v7_wgmma") else {}


def widths(technique):
    """Return sizes that the rungs in CUDA C++ take: those of kv_compression load 32 codes at a time."""
    return {"D": 64, "S": 70} if technique.name == "kv_compression" else {}


def arrays(inputs):
    """Return the arrays among the inputs."""
    return {name: x for name, x in inputs.items() if isinstance(x, np.ndarray)}


def strided(x):
    """Return a view of x's values that is not contiguous: axes 1 and 2 exchanged in memory, or gaps."""
    if x.ndim > 2:
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, 2)), 2, 1)
    return np.repeat(x, 2, axis=-1)[..., ::2]


@over(("technique", "rung"), HERE)
@over("dtype", ["float32", "float16"])
def test_rung_is_within_the_error_budget(technique, rung, dtype):
    if dtype not in rung.dtypes:
        pytest.skip(f"takes {rung.dtypes}")
    inputs = small(technique, dtype)
    for verdict in technique.judge(technique.run(rung, inputs), inputs).values():
        assert verdict, verdict.message


@over(("technique", "rung"), HERE)
def test_rung_leaves_its_inputs_alone_and_repeats_itself(technique, rung):
    inputs = small(technique)
    before = {name: x.copy() for name, x in arrays(inputs).items()}
    first, second = technique.run(rung, inputs), technique.run(rung, inputs)
    for name, x in arrays(inputs).items():
        np.testing.assert_array_equal(x, before[name])
    for name, x in first.items():
        np.testing.assert_array_equal(x, second[name])


@over(("technique", "rung"), HERE)
def test_rung_takes_views_that_are_not_contiguous(technique, rung):
    inputs = small(technique)
    views = {name: strided(x) for name, x in arrays(inputs).items()}
    assert not any(x.flags.c_contiguous for x in views.values())
    expected = technique.run(rung, inputs)
    for name, x in technique.run(rung, {**inputs, **views}).items():
        np.testing.assert_array_equal(x, expected[name])


@over(("technique", "rung"), HERE)
def test_an_empty_axis_gives_an_empty_result_or_zeros(technique, rung):
    for letter in technique.letters:
        sizes = dict(zip(technique.letters, SMALL[technique.letters], strict=True)) | {letter: 0}
        if letter == "H" and "G" in sizes:
            sizes["G"] = 0
        if letter == "G":
            continue  # no key/value head for H > 0 query heads is an error
        inputs = technique.random(sizes)
        for verdict in technique.judge(technique.run(rung, inputs), inputs).values():
            assert verdict, f"{letter}=0: {verdict.message}"


@over(("technique", "rung"), RUNGS)
def test_mixed_or_foreign_dtypes_are_a_clear_error(technique, rung):
    inputs = small(technique)
    name, x = list(arrays(inputs).items())[-1]
    with pytest.raises(DtypeError, match=name):
        technique.run(rung, {**inputs, name: x.astype(np.int32)})
    with pytest.raises(DtypeError, match=name):
        technique.run(rung, {**inputs, name: x.tolist()})


@over(("technique", "rung"), RUNGS)
def test_a_wrong_shape_is_named_in_letters(technique, rung):
    inputs = small(technique)
    name, x = list(arrays(inputs).items())[-1]
    with pytest.raises(ShapeError, match=rf"{name} has shape .* = \("):
        technique.run(rung, {**inputs, name: x[..., :-1]})
    with pytest.raises(ShapeError, match=f"{name} has shape"):
        technique.run(rung, {**inputs, name: x[0]})


@over(("technique", "rung"), NUMBA)
def test_kernels_run_without_a_finding(technique, rung):
    with simt.collect() as launches:
        technique.run(rung, small(technique))
    assert launches, "the rung launched no kernel"
    assert [str(finding) for one in launches for finding in one.findings] == []


@over(("technique", "rung"), RAW)
def test_a_gpu_rung_never_falls_back_silently(technique, rung):
    with pytest.raises(DeviceError, match="GPU"):
        technique.run(rung, small(technique, rung.dtypes[0]))


@over(("technique", "rung"), RUNGS)
def test_rung_has_one_name_in_all_places(technique, rung, root):
    inputs = small(technique, rung.dtypes[0], widths(technique), **blocks(technique, rung))
    traffic = technique.traffic(rung, inputs)
    assert isinstance(traffic, Traffic)
    assert traffic.hbm_bytes > 0
    readme = (root / "minikernels" / technique.name / "README.md").read_text("utf-8")
    assert f"| `{rung.name}` |" in readme
    assert rung.kind == "numpy" or re.fullmatch(r"v\d+_[a-z0-9_]+", rung.name)


@over(("technique", "rung"), RUNGS)
def test_a_closed_form_takes_all_sizes_or_refuses_them_as_its_launcher_does(technique, rung):
    generator, taken = np.random.default_rng(5), 0
    for _ in range(60):
        drawn = {letter: int(generator.choice(SPREAD[letter])) for letter in SPREAD}
        sizes = {letter: drawn[letter] for letter in technique.letters}
        if "G" in sizes:
            sizes["H"] = drawn["G"] * drawn["R"]
        for dtype in rung.dtypes:
            inputs = technique.random(sizes, dtype)
            try:
                taken += isinstance(technique.traffic(rung, inputs), Traffic)
            except ShapeError as error:
                assert re.search(r"[A-Z]=|\*D|group=|block=", str(error)), error
    assert taken or (technique.name, rung.name) == ("block_sparse", "v7_wgmma")  # it takes no blocks of 16


@pytest.mark.gpu
@over(("technique", "rung"), [case for case in RUNGS if case.values[1].kind != "numpy"])
def test_rung_is_within_the_error_budget_on_a_gpu(technique, rung):
    for dtype in rung.dtypes:
        inputs = small(technique, dtype, widths(technique), **blocks(technique, rung))
        there = {name: launch.to_gpu(x) if isinstance(x, np.ndarray) else x for name, x in inputs.items()}
        outputs = {name: launch.to_numpy(x) for name, x in technique.run(rung, there).items()}
        for verdict in technique.judge(outputs, inputs).values():
            assert verdict, verdict.message


@over("name", catalog.names())
def test_unknown_rung_is_a_clear_error(name):
    technique = catalog.technique(name)
    with pytest.raises(ValueError, match=technique.rungs[-1].name):
        technique.run(catalog.Rung("v99_nothing", "numba", ""), small(technique))


@over("name", catalog.names())
def test_catalog_row_points_at_what_exists(name, root):
    technique = catalog.technique(name)
    assert technique.name == name
    assert (root / technique.notebook).is_file()
    assert (root / technique.exercises).is_dir()
    assert all(re.fullmatch(r"\d{4}\.\d{5}", paper.arxiv) for paper in technique.papers)
    assert [technique.rung(shown).kind for shown in technique.shown] == ["numba", "numba"]
    module = importlib.import_module(f"minikernels.{name}")
    assert inspect.getdoc(module)
