"""A machine's ceilings: measured by the clock, written with where they come from, read back for a roofline."""

import json

import pytest

from minikernels import launch
from minikernels.bench import roofs
from minikernels.core.errors import DeviceError
from minikernels.widgets import Roofline

WORK = [("bandwidth", "copy", 8 * 10**9, None), ("compute", "matrix product float16", 4 * 10**12, None)]
POINT = {"name": "v1", "flop": 1e12, "bytes": 1e9, "ms": 10}


@pytest.fixture
def clock(monkeypatch):
    """The clock always says 2 ms, and once 50."""
    monkeypatch.setattr(launch, "times_ms", lambda function, runs, warm_up: [50.0] + [2.0] * (runs - 1))
    monkeypatch.setattr(launch, "require_gpu", lambda *_, **__: None)
    monkeypatch.setattr(launch, "provenance", lambda: {"gpu": "NVIDIA Test", "driver": "1.2", "cuda": "13.0"})
    monkeypatch.setattr(roofs, "limits", lambda: WORK)


def test_ceilings_are_amounts_over_the_median_time(clock):
    assert roofs.measure(WORK) == {"bandwidth": [{"name": "copy", "gb_per_s": 4000.0}],
                                   "compute": [{"name": "matrix product float16", "tflop_per_s": 2000.0}]}


def test_ceilings_are_written_with_their_source_and_make_a_roofline(clock, tmp_path):
    path = roofs.run(tmp_path)
    assert path.name == "nvidia-test.json" and "driver 1.2" in json.loads(path.read_text("utf-8"))["source"]
    view = Roofline([POINT], roofs.roofs("NVIDIA Test", tmp_path))
    assert view.standing["v1"]["roof"] == 2000
    with pytest.raises(KeyError, match="no ceilings of another GPU are recorded"):
        roofs.roofs("another GPU", tmp_path)


@pytest.mark.skipif(launch.no_gpu_because() is None, reason="there is a GPU")
def test_ceilings_need_a_gpu():
    with pytest.raises(DeviceError, match="measuring ceilings needs a GPU"):
        next(roofs.limits())


def test_recorded_ceilings_make_a_roofline():
    for path in roofs.FOLDER.glob("*.json"):
        Roofline([POINT], json.loads(path.read_text("utf-8")))
