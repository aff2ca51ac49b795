"""A technique's input: what the tiny model computed on a text, or random numbers."""

from dataclasses import dataclass
from math import prod

from minikernels import model
from minikernels.core.errors import DeviceError, ShapeError
from minikernels.model.text import modules

__all__ = ["LENGTH", "Made", "from_model", "from_random"]

LENGTH = 256  # bytes of text: the SIMT machine climbs a whole ladder on them in well under a minute
DEFAULT_TEXT = "textwrap"  # a module of the standard library that no model here was trained on
MOST_WORK = 2**30  # B*H*T*S*D, or B*T*E*N, of an input that the SIMT machine gets through in a few minutes a rung


@dataclass(frozen=True)
class Made:
    """The keyword arguments of a technique's public function, and a sentence on where they come from."""

    inputs: dict
    origin: str

    @property
    def dtype(self):
        """The inputs' precision, by name."""
        return str(next(iter(self.inputs.values())).dtype)

    @property
    def causal(self):
        """Whether the future is masked; False where a technique knows no mask."""
        return bool(self.inputs.get("causal", False))


def from_model(technique, text=None, layer=None, length=None, dtype="float32", causal=True):
    """Return what one layer of the tiny model computes while it reads a text.

    Parameters
    ----------
    technique : Technique
    text : (str, bytes), optional
        The text's name and its bytes; a module of the standard library by default.
    layer : int, optional
        Which layer; the last by default.
    length : int, optional
        How many bytes of the text are read; `LENGTH` by default, and never more than there are or than the model's
        context.
    dtype : str
    causal : bool
    """
    tiny = loaded(technique.model)
    name, data = text or standard_text()
    if length is not None and not 0 < length <= tiny.config.context:
        raise ShapeError(f"--length must be in 1..{tiny.config.context}, the model's context; got {length}")
    layer = len(tiny.config.layers) - 1 if layer is None else layer
    read = data[: length or LENGTH]
    arrays = technique.activations(tiny.activations(read, layer), dtype, causal=causal)
    amount = f"the first {len(read):,} of {len(data):,} bytes" if len(read) < len(data) else f"the {len(data):,} bytes"
    return Made(arrays, f"layer {layer} of the tiny model {tiny.name}, reading {amount} of {name}")


def loaded(name):
    """Load a tiny model; a damaged installation is an error of this machine."""
    try:
        return model.load(name)
    except model.WeightsError as error:
        raise DeviceError(f"{error}; --random B,H,G,T,S,D climbs without the model") from error


def standard_text():
    """Return the name and the bytes of the text that is read where none is named."""
    paths = modules().get(DEFAULT_TEXT)
    if not paths:
        raise DeviceError("this Python came without the source of its standard library; name a text with --text FILE")
    return f"Python's {paths[0].name}", paths[0].read_bytes()


def from_random(technique, sizes, dtype, causal):
    """Return random arrays of the given sizes, unless they would keep this machine busy for too long."""
    counted = [letter for letter in "BHTSDEN" if letter in technique.letters]  # a decoding step has no T
    work = prod(sizes[letter] for letter in counted)
    if work > MOST_WORK:
        raise ShapeError(f"{'*'.join(counted)} = {work:,} is too much for the SIMT machine; keep it to {MOST_WORK:,}")
    return Made(technique.random(sizes, dtype, causal=causal), "random normal numbers, seed 0")
