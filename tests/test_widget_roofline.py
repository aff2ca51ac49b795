"""Roofline without a browser: where kernels stand, and ceilings that must say where they come from."""

import numpy as np
import pytest
import traitlets

from minikernels.widgets import Roofline

MACHINE = {"name": "A GPU", "source": "measured on a day", "bandwidth": [{"name": "copy", "gb_per_s": 1000}],
           "compute": [{"name": "tensor", "tflop_per_s": 100}, {"name": "float32", "tflop_per_s": 10}]}
POINTS = [{"name": "v1", "flop": 1e9, "bytes": 1e9, "ms": 2}, {"name": "v2", "flop": 1e12, "bytes": 1e9, "ms": 20},
          {"name": "v3", "flop": 1e12, "bytes": 1e9, "ms": 125, "compute": "float32"},
          {"name": "peer", "flop": 1e12, "bytes": 1e9, "ms": 12.5, "peer": True}]


def test_kernels_stand_under_the_roof_that_limits_them():
    standing = Roofline(POINTS, MACHINE).standing
    assert standing["v1"] == pytest.approx({"intensity": 1, "tflop_per_s": 0.5, "roof": 1, "share": 0.5,
                                            "bound": "memory"})
    assert [(standing[n]["bound"], standing[n]["roof"]) for n in ("v2", "v3")] == [("compute", 100), ("compute", 10)]
    assert [standing[n]["share"] for n in ("v2", "v3", "peer")] == pytest.approx([0.5, 0.8, 0.8])


def test_roofline_selected_is_observable():
    heard, view = [], Roofline(POINTS, MACHINE)
    view.observe(lambda change: heard.append(change.new), "selected")
    view.selected = "v2"
    with pytest.raises(traitlets.TraitError, match="no kernel 'v9'"):
        view.selected = "v9"
    assert heard == ["v2"] and view.title == "Roofline: 4 kernels on A GPU"


@pytest.mark.parametrize("points, machine, error, message", [
    ([], MACHINE, ValueError, "at least one kernel"), ([POINTS[0]] * 2, MACHINE, ValueError, "each once"),
    ([{"name": "v1", "flop": 1, "bytes": 0, "ms": 1}], MACHINE, ValueError, "bytes of v1 is a number above 0"),
    ([{"name": "v1", "flop": 1, "bytes": 1}], MACHINE, ValueError, "ms of v1 is a number above 0, and not None"),
    ([{**POINTS[0], "ms": np.nan}], MACHINE, ValueError, "ms of v1"), (["v1"], MACHINE, TypeError, "and not 'v1'"),
    ([{**POINTS[0], "compute": "fp8"}], MACHINE, ValueError, "v1 works under 'fp8'; the machine's ceilings are tensor"),
    (POINTS, {**MACHINE, "source": ""}, ValueError, "these ceilings have no source"),
    (POINTS, {**MACHINE, "bandwidth": []}, ValueError, "no bandwidth ceiling"),
    (POINTS, {**MACHINE, "compute": [{"name": "x"}]}, ValueError, "compute tflop_per_s is a number above 0"),
    (POINTS, 4000, TypeError, "this is a int")])
def test_roofline_refuses(points, machine, error, message):
    with pytest.raises(error, match=message):
        Roofline(points, machine)


def test_roofline_picture_is_small_and_repeatable():
    view = Roofline(POINTS, MACHINE)
    assert view.to_svg() == view.to_svg() and len(view.to_svg()) < 100_000
