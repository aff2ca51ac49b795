"""ScanTree without a browser: every algorithm gives every prefix, at the cost that is said."""

import numpy as np
import pytest
import traitlets

from minikernels.core.errors import DtypeError, ShapeError
from minikernels.widgets import ScanTree
from minikernels.widgets.scan import ALGORITHMS, levels


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13, 16, 37, 64])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_scan_tree_ends_in_every_prefix(algorithm, n):
    rng = np.random.default_rng(n)
    decay, drive = rng.uniform(0.2, 1.2, n), rng.standard_normal(n)
    tree, h = ScanTree(decay, drive, algorithm=algorithm), 0.0
    for t in range(n):
        h = decay[t] * h + drive[t]
        np.testing.assert_allclose(tree.values[t], (np.prod(decay[:t + 1]), h), rtol=1e-9)


@pytest.mark.parametrize("algorithm, n, work, depth", [
    ("sequential", 16, 15, 15), ("hillis_steele", 16, 49, 4), ("blelloch", 16, 26, 7), ("hillis_steele", 5, 8, 3),
    ("blelloch", 5, 5, 3), ("blelloch", 1, 0, 0)])
def test_scan_tree_counts_work_and_depth(algorithm, n, work, depth):
    tree = ScanTree(np.ones(n), algorithm=algorithm)
    assert (tree.work, tree.depth, tree.step) == (work, depth, depth)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 37, 64])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_combinations_of_a_level_wait_for_none_of_each_other(algorithm, n):
    """No element is written twice, and with a copy of the level before it none reads what another writes."""
    for level in levels(algorithm, n):
        assert len({right for _, right in level}) == len(level) and all(left < right for left, right in level)


@pytest.mark.parametrize("n", [1, 5, 8, 37])
def test_scan_tree_costs_what_the_scans_of_the_lesson_cost(n):
    operators = pytest.importorskip("minikernels.selective_scan.operators", reason="this tree has no selective scan")
    for algorithm, scan in operators.SCANS.items():
        _, cost = scan(operators.affine, (np.ones(n), np.ones(n)))
        tree = ScanTree(np.ones(n), algorithm=algorithm)
        assert (tree.work, tree.depth) == tuple(cost)


def test_scan_tree_can_be_observed_and_stays_inside():
    heard, tree = [], ScanTree()
    tree.observe(lambda change: heard.append((change.name, change.new)), ["algorithm", "step", "element"])
    tree.step = 2
    assert tree.values[:4].tolist() == [[1, 1], [1, 2], [1, 1], [1, 4]]
    tree.algorithm, tree.step, tree.element = "sequential", 99, -3
    assert tree.step == 15 and tree.element == 0
    tree.algorithm = "hillis_steele"
    assert tree.step == 4 and sorted(heard[-2:]) == [("algorithm", "hillis_steele"), ("step", 4)]
    with pytest.raises(traitlets.TraitError):
        tree.algorithm = "magic"


@pytest.mark.parametrize("decay, drive, error, message", [
    (np.ones(65), None, ValueError, "1 to 64 elements, and these are 65"), ([], None, ValueError, "these are 0"),
    (np.ones(3), np.ones(4), ShapeError, "drive has shape"), (np.ones((2, 2)), None, ShapeError, "decay has shape"),
    (["a"], None, DtypeError, "decay holds"), ([np.inf], None, ValueError, "decay holds NaN or infinity")])
def test_scan_tree_refuses(decay, drive, error, message):
    with pytest.raises(error, match=message):
        ScanTree(decay, drive)


def test_scan_tree_picture_is_small_and_repeatable():
    tree = ScanTree(np.ones(64), algorithm="sequential", step=5)
    assert tree.to_svg() == tree.to_svg() and len(tree.to_svg()) < 300_000
