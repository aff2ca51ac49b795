"""The text that the gallery's models read: held out from all of them, and the same for every figure."""

import functools

__all__ = ["activations", "loaded", "sample"]


@functools.cache
def loaded(name):
    """Return a tiny model."""
    from minikernels import model

    return model.load(name)


@functools.cache
def file():
    """Return a file of the standard library that no model was trained on."""
    from minikernels.model.text import modules

    return modules()["textwrap"][0]


def sample(length):
    """Return the first bytes of that file, and its name."""
    return file().read_bytes()[:length], file().name


@functools.cache
def activations(name, length, layer=-1):
    """Return what one layer of a tiny model computes while it reads, and where that comes from, in words."""
    tiny, (text, source) = loaded(name), sample(length)
    layer %= len(tiny.config.layers)
    origin = f"layer {layer} of the tiny model {name}, reading the first {len(text):,} bytes of Python's {source}"
    return tiny.activations(text, layer), origin
