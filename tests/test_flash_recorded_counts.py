"""The closed forms of traffic equal what a GPU's own counters said, recorded with tests.recorded.profile_flash."""

import json
from pathlib import Path

import pytest

from minikernels.flash import traffic

RECORDED = json.loads((Path(__file__).parent / "recorded/ncu_flash.json").read_text("utf-8"))
COUNTS = ("load_requests", "load_sectors", "store_requests", "store_sectors")
COMPILED_OTHERWISE = {  # the compiler moved loads, so that the GPU ran another program than the source says
    "v2_keys_outside-T200-D64-float32-causal": "fewer loads, most likely none for rows that do not see the key tile",
    "v2_tiled-T70-D40-float16-causal": "unrolling peels off a step of 8 threads, which then run ahead of their warp",
}


def identity(case):
    words = [case["rung"], f"T{case['sizes']['T']}", f"D{case['sizes']['D']}", case["dtype"]]
    return "-".join([*words, *(["causal"] if case["causal"] else [])])


def parameter(case):
    reason = COMPILED_OTHERWISE.get(identity(case))
    marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
    return pytest.param(case, id=identity(case), marks=marks)


@pytest.mark.parametrize("case", [parameter(case) for case in RECORDED["cases"]])
def test_closed_form_equals_the_counters_of_the_gpu(case):
    form = getattr(traffic, case["rung"])
    predicted = form(**case["sizes"], itemsize=2 if case["dtype"] == "float16" else 4, causal=case["causal"])
    assert {name: getattr(predicted, name) for name in COUNTS} == {name: case["counts"][name] for name in COUNTS}


@pytest.mark.parametrize("rung", ["v4_register_tiles", "v5_mma"])
@pytest.mark.parametrize("D", [64, 128])
def test_raw_rungs_meet_no_bank_conflicts_at_usual_widths(rung, D):
    for case in RECORDED["cases"]:
        if case["rung"] == rung and case["sizes"]["D"] == D and case["sizes"]["T"] == 200:
            assert case["counts"]["shared_load_conflicts"] == case["counts"]["shared_store_conflicts"] == 0


def test_provenance_says_where_the_counts_come_from():
    about = RECORDED["provenance"]
    assert about["gpu"].startswith("NVIDIA")
    assert {"compute", "driver", "cuda", "versions", "ncu"} <= set(about)
