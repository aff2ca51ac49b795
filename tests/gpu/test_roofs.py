"""The ceilings of the GPU at hand: measurable, and in an order that no GPU contradicts."""

from minikernels.bench import roofs
from minikernels.launch.roofs import limits


def test_ceilings_are_measured():
    found = roofs.measure(limits(elements=2**24, side=1024), runs=3)
    copied, = (one["gb_per_s"] for one in found["bandwidth"])
    half, single = (one["tflop_per_s"] for one in found["compute"])
    assert copied > 50 and half > 0.5 * single > 0.1
