"""The outputs of a NumPy exercise under judgement."""

import numpy as np

from minikernels.grading.failure import Failure
from minikernels.grading.launched import judge

__all__ = ["check_outputs"]


def check_outputs(found, exact, plain, *, names, letters, said, magnitude=None, exponent=0.0):
    """Fail unless every output of one call is right.

    Parameters
    ----------
    found : tuple of ndarray
        What came back from the worker.
    exact, plain : sequence of array_like
        The float64 answer, and plain NumPy's in the exercise's precision, which sets the budget.
    names, letters : sequence of str
        What messages call the outputs, and one letter for each of their axes.
    said : str
        What the function was called with.
    magnitude : float, or sequence of float or None
        That of `oracle.check`, the size of what every output is summed from; or one for each.
    exponent : float
        That of `oracle.check`, of every output.
    """
    if len(found) != len(names):
        raise Failure(f"{said}: it returned {len(found)} values; it should return ({', '.join(names)})")
    sizes = magnitude if isinstance(magnitude, (list, tuple)) else [magnitude] * len(names)
    for name, axes, output, right, rough, size in zip(names, letters, found, exact, plain, sizes, strict=True):
        exactly, roughly = np.asarray(right, np.float64), np.asarray(rough)
        wrong = judge(output, exactly, roughly, name=name, letters=axes or None, magnitude=size, exponent=exponent)
        if wrong is not None:
            raise Failure(f"{wrong[1]}\n({said})")
