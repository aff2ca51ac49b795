"""The errors a user of minikernels can meet.

Every message says what came, in letters, and what was needed:
``k has shape (1, 3, 7, 64) = (B, G, S, D); G=3 must divide H=8``.
"""

__all__ = ["DeviceError", "DtypeError", "KernelError", "ShapeError"]


class ShapeError(ValueError):
    """An array's shape does not fit the letters of the function it was given to."""


class DtypeError(ValueError):
    """An array's dtype is not one that the function accepts."""


class DeviceError(RuntimeError):
    """Arrays live in the wrong place, or this machine lacks what the rung needs."""


class KernelError(RuntimeError):
    """A kernel cannot be run, or did something that no kernel may do.

    Parameters
    ----------
    message : str
        A sentence that a beginner understands, with file and line.
    kind : str, optional
        One of ``race``, ``barrier_divergence``, ``out_of_bounds``, ``uninitialised``, ``resources``,
        ``float64`` for a finding of the SIMT machine; ``language`` for source it refuses to run;
        ``limit`` where a launch ran past its step budget.
    finding : minikernels.simt.findings.Finding, optional
        The finding itself, with array, index, lines and threads.
    """

    def __init__(self, message, kind=None, finding=None):
        super().__init__(message)
        self.kind = kind
        self.finding = finding
