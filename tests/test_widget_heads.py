"""HeadGroups without a browser: what it counts, what it refuses, its picture."""

import pytest
import traitlets

from minikernels.core.errors import ShapeError
from minikernels.widgets import HeadGroups


@pytest.mark.parametrize("heads, groups, shared, cache, read, intensity", [
    (8, 8, True, 2048, 2048 * 100, 1), (8, 2, True, 512, 512 * 100, 4), (8, 2, False, 512, 2048 * 100, 1),
    (8, 1, True, 256, 256 * 100, 8), (12, 4, True, 1024, 1024 * 100, 3)])
def test_head_groups_counts_the_cache_and_what_a_step_reads(heads, groups, shared, cache, read, intensity):
    view = HeadGroups(heads, groups, keys=100, width=64, itemsize=2, shared=shared)
    assert (view.cache_bytes, view.read_bytes, view.intensity) == (cache, read, intensity)


def test_head_groups_can_be_observed_and_set():
    heard, view = [], HeadGroups(8, 2, quality={8: 1.9})
    view.observe(lambda change: heard.append((change.name, change.new)), ["groups", "shared", "head"])
    view.groups, view.shared, view.head = 4, False, 7
    assert heard == [("groups", 4), ("shared", False), ("head", 7)]
    assert view.title == "HeadGroups: 8 query heads over 4 key/value heads, 2,097,152 bytes read a step"


@pytest.mark.parametrize("settings, message", [
    ({"heads": 8, "groups": 3}, "G=3 must divide H=8"), ({"heads": 0}, "heads is a whole number from 1 to 64"),
    ({"keys": -1}, "keys is a whole number"), ({"quality": {3: 2.0}}, "G=3 must divide H=8")])
def test_head_groups_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        HeadGroups(**settings)


def test_head_groups_keeps_its_state_when_a_setting_is_refused():
    view = HeadGroups(8, 2)
    with pytest.raises(ShapeError):
        view.groups = 5
    with pytest.raises(traitlets.TraitError, match="no query head 8"):
        view.head = 8
    assert (view.groups, view.head) == (2, 0)


@pytest.mark.parametrize("heads, groups, shared", [(1, 1, True), (8, 2, True), (64, 4, False)])
def test_head_groups_picture_is_small_and_repeatable(heads, groups, shared):
    view = HeadGroups(heads, groups, shared=shared)
    assert view.to_svg() == view.to_svg() and len(view.to_svg()) < 150_000
