"""The dispatch of a public function: which rungs it has, where each of them runs, and what it takes."""

from collections.abc import Mapping
from importlib import import_module

from minikernels.core.errors import DeviceError, DtypeError
from minikernels.core.numerics import FLOATS
from minikernels.launch.homes import home, to_cupy

__all__ = ["Ladder", "gathered"]

TAKES = {"numpy": FLOATS, "numba": ("float16", "float32"), "raw": ("float16", "float32")}  # kind -> dtypes


class Ladder(Mapping):
    """The rungs of one public function, from the equation to the fastest kernel: name -> where its function stands.

    A rung's kind follows from its module: ``raw...`` is CUDA C++ and runs on a GPU, ``numba...`` runs on a GPU and, on
    NumPy arrays, on the SIMT machine, anything else is NumPy's.

    Parameters
    ----------
    technique : str
        The folder under ``minikernels`` that the functions stand in.
    rungs : dict of str to str
        Name -> ``module.function`` in that folder; imported when the rung is first run, and not before.
    takes : dict of str to tuple of str, optional
        Dtypes by kind, or by name of a rung, where they are not `TAKES`.

    Examples
    --------
    >>> ladder = Ladder("flash", {"tiled": "tiled.attention", "v5_mma": "raw.launch_v5_mma"})
    >>> list(ladder), ladder.kind("v5_mma")
    (['tiled', 'v5_mma'], 'raw')
    >>> ladder.check_name("v9_magic")
    Traceback (most recent call last):
        ...
    ValueError: there is no rung 'v9_magic' here; the rungs are tiled, v5_mma
    """

    def __init__(self, technique, rungs, takes=None):
        self.technique, self.rungs, self.takes = technique, dict(rungs), {**TAKES, **(takes or {})}

    def __getitem__(self, rung):
        return self.rungs[rung]

    def __iter__(self):
        return iter(self.rungs)

    def __len__(self):
        return len(self.rungs)

    def kind(self, rung):
        """Return ``numpy``, ``numba`` or ``raw``."""
        module = self.rungs[rung].partition(".")[0]
        return next((kind for kind in ("raw", "numba") if module.startswith(kind)), "numpy")

    def of_kind(self, *kinds):
        """Return the names of the rungs of these kinds, in order."""
        return [rung for rung in self if self.kind(rung) in kinds]

    def check_name(self, rung):
        """Raise ValueError unless `rung` is None, the default, or one of the ladder's."""
        if rung is not None and (not isinstance(rung, str) or rung not in self.rungs):
            raise ValueError(f"there is no rung {rung!r} here; the rungs are {', '.join(self)}")

    def check_place(self, rung, place):
        """Raise DeviceError where a rung asked for by name cannot run where the arrays live, ``cpu`` or ``gpu``."""
        kind = None if rung is None else self.kind(rung)
        if kind == "numpy" and place == "gpu":
            raise DeviceError(
                f"rung {rung} is NumPy's and the arrays live on the GPU; pass NumPy arrays, or name a kernel"
            )
        if kind == "raw" and place == "cpu":
            raise DeviceError(
                f"rung {rung} is CUDA C++ and needs arrays on a GPU (CuPy's, or torch's on cuda); these are NumPy's. "
                "The numba rungs run on NumPy arrays too, on the SIMT machine"
            )

    def check_dtype(self, rung, **array):
        """Raise DtypeError where the rung does not take the dtype of an array, given by its name."""
        allowed = self.takes.get(rung, self.takes[self.kind(rung)])
        for name, x in array.items():
            if x.dtype.name not in allowed:
                raise DtypeError(f"{name} has dtype {x.dtype}; rung {rung} takes {' and '.join(allowed)}")

    def function(self, rung):
        """Return a rung's function; numba and CuPy are imported here, by the module that needs them."""
        module, name = self.rungs[rung].split(".")
        return getattr(import_module(f"minikernels.{self.technique}.{module}"), name)


def gathered(**arrays):
    """Return the arrays as NumPy's or CuPy's, the first of them as it came, and where they live.

    Parameters
    ----------
    **arrays : array or None
        All in one place, ``cpu`` or ``gpu``; CuPy's view of a GPU array shares its memory. None stays None.

    Raises
    ------
    DeviceError
        If some live on the CPU and some on the GPU, or there is no GPU to use.
    DtypeError
        If something is no array.
    """
    place, like = home(**arrays), next((x for x in arrays.values() if x is not None), None)
    if place == "gpu":
        return [None if x is None else to_cupy(x, name) for name, x in arrays.items()], like, place
    return list(arrays.values()), like, place
