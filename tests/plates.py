"""The gallery's plates, made once for all tests of a process, from the recordings and from small traces."""

import functools
from dataclasses import replace

import pytest

from minikernels import gallery
from minikernels.commands import figures
from minikernels.gallery import flash_bytes, flash_memory


@functools.cache
def sources():
    """Return what is recorded; of the profiled launches one a technique, for the SIMT machine repeats them."""
    given = figures.sources()
    quick = {name: {**one, "cases": one["cases"][5:6]} for name, one in given.counters.items()}
    return replace(given, counters=quick)


@functools.cache
def plate(name):
    """Return a figure's plate; `Missing` where its data is not recorded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flash_memory, "TOKENS", 32)
        patch.setattr(flash_bytes, "LENGTHS", (256, 512, 1024, 2048))
        made = gallery.load(name, sources())
        return replace(made, draw=drawing(made.draw))


def drawing(draw):
    """Return the function that draws, with the same small sizes as its data."""
    def small():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(flash_bytes, "LENGTHS", (256, 512, 1024, 2048))
            return draw()

    return small
