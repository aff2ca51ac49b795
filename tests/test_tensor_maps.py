"""Tensor maps refuse, before any driver is asked, what the copy engine cannot do. No GPU is needed for that."""

from types import SimpleNamespace

import numpy as np
import pytest

from minikernels.core.errors import ShapeError
from minikernels.launch import tensor_map, tensor_maps


def array(shape, dtype="float16", address=256, contiguous=True):
    """Return what `tensor_map` looks at of a CuPy array."""
    return SimpleNamespace(shape=shape, dtype=np.dtype(dtype), data=SimpleNamespace(ptr=address),
                           flags=SimpleNamespace(c_contiguous=contiguous))


@pytest.mark.parametrize(("x", "box", "words"), [
    (array((4, 100, 64)), (1, 1, 128, 64), "does not fit"),
    (array((100,)), (64,), "does not fit"),
    (array((4, 100, 64)), (257, 64), "cannot fetch a box"),
    (array((4, 100, 128)), (64, 128), "cannot fetch a box"),
    (array((4, 100, 12)), (64, 64), "cannot read an array"),
    (array((4, 0, 64)), (64, 64), "cannot read an array"),
    (array((4, 100, 64), address=8), (64, 64), "cannot read an array"),
    (array((4, 100, 64), contiguous=False), (64, 64), "cannot read an array"),
], ids=["more axes", "one axis", "long side", "row past the swizzle", "row of 24 bytes", "empty", "address", "strides"])
def test_what_the_copy_engine_cannot_do_is_refused(x, box, words):
    with pytest.raises(ShapeError, match=words):
        tensor_map(x, box)


def test_leading_axes_count_as_one_and_the_array_lives_as_long_as_its_map(monkeypatch):
    asked = []
    monkeypatch.setattr(tensor_maps, "encoded", lambda *about: asked.append(about))
    x = array((2, 3, 100, 64))
    assert tensor_map(x, (128, 64)).array is x
    assert asked == [(256, (6, 100, 64), "float16", (1, 128, 64), True)]
