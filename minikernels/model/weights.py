"""Weight files: float16 arrays, the configuration and a digest over both in one ``.npz``."""

import hashlib
import zipfile
import zlib
from pathlib import Path

import numpy as np

from minikernels.core.errors import ShapeError
from minikernels.model.config import Config

__all__ = ["NAMES", "WeightsError", "digest", "path_of", "read", "write"]

NAMES = ("mha", "gqa2", "mqa", "hybrid")
FOLDER = Path(__file__).parent / "weights"


class WeightsError(RuntimeError):
    """A weight file is missing, damaged, or not one of a model of this kind."""


def path_of(name):
    """Return the path of a shipped model's weights."""
    if name not in NAMES:
        raise ValueError(f"there is no model {name!r}; the models are {', '.join(NAMES)}")
    return FOLDER / f"{name}.npz"


def digest(config, weights):
    """Return the SHA-256, in hexadecimal, over a configuration and its weights' names, shapes and bytes."""
    total = hashlib.sha256(config.to_json().encode())
    for name in config.shapes():
        array = np.ascontiguousarray(weights[name], dtype="<f2")
        total.update(f"{name} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def write(path, config, weights):
    """Write weights as float16 beside their configuration and digest; return the digest."""
    arrays = {name: np.asarray(weights[name], dtype=np.float16) for name in config.shapes()}
    for name, shape in config.shapes().items():
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise ShapeError(f"weight {name} has shape {arrays[name].shape}; it must be {shape}, and finite in float16")
    seal = digest(config, arrays)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, config=np.array(config.to_json()), digest=np.array(seal), **arrays)
    return seal


def read(path):
    """Return the configuration, the float16 weights and the digest of a weight file.

    Raises
    ------
    WeightsError
        If the file is missing, is no weight file, lacks a weight, or is not what was written.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights at {path}: reinstall minikernels, or train them with minikernels.model.train")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise WeightsError(f"{path} is damaged and cannot be read ({error}); reinstall minikernels") from error
    try:
        config, seal = Config.from_json(str(arrays.pop("config"))), str(arrays.pop("digest"))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not a weight file of minikernels.model: {error!r}") from error
    _check(path, config, arrays, seal)
    return config, arrays, seal


def _check(path, config, arrays, seal):
    """Raise unless `arrays` are exactly the weights of `config`, unchanged since they were written."""
    shapes = config.shapes()
    if set(shapes) != set(arrays):
        raise WeightsError(
            f"{path} lacks {sorted(set(shapes) - set(arrays))}, has too much: {sorted(set(arrays) - set(shapes))}"
        )
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise WeightsError(f"{path}: weight {name} has shape {arrays[name].shape}; its configuration needs {shape}")
    if digest(config, arrays) != seal:
        raise WeightsError(f"{path} is damaged: its weights do not have the digest {seal}; reinstall minikernels")
