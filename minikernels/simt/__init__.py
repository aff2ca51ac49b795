"""A lockstep SIMT machine in NumPy: runs ``numba.cuda`` kernels anywhere and counts what hardware would count."""

from minikernels.core.errors import KernelError
from minikernels.simt.execute import Launch, Recording, collect, record, rewritten, run, run_source
from minikernels.simt.findings import Finding
from minikernels.simt.trace import Trace

__all__ = ["Finding", "KernelError", "Launch", "Recording", "Trace", "collect", "record", "rewritten", "run",
           "run_source"]
