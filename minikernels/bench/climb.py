"""Climb a ladder: run every rung that can run here, check it, count its bytes and time it."""

import time
from dataclasses import dataclass, field

import numpy as np

from minikernels import launch, simt
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from minikernels.core.traffic import Traffic

__all__ = ["Step", "climb"]


PREDICTED = ("load_requests", "load_sectors", "load_bytes", "store_requests", "store_sectors", "store_bytes")


SHORT = 0.3  # seconds for which a quick rung is repeated
UNFIT = "does not take these sizes"


@dataclass
class Step:
    """What one rung did on one input.

    Attributes
    ----------
    rung : minikernels.catalog.Rung
    where : str or None
        ``NumPy``, ``SIMT`` or ``GPU``; None where it did not run.
    reason : str
        Why it did not run.
    verdicts : dict of str to Verdict
        One an output.
    findings : list of Finding
        What the SIMT machine found.
    predicted, counted : Traffic or None
        The closed form, and what the SIMT machine counted.
    seconds : float or None
        Time here: of one run on the SIMT machine, the best of several in NumPy, the median of several on a GPU.
    """

    rung: object
    where: str | None = None
    reason: str = ""
    verdicts: dict = field(default_factory=dict)
    findings: list = field(default_factory=list)
    predicted: Traffic | None = None
    counted: Traffic | None = None
    seconds: float | None = None

    @property
    def right(self):
        """Whether it ran, every output is within its budget, and no hazard was found."""
        return self.where is not None and all(self.verdicts.values()) and not self.hazards

    @property
    def hazards(self):
        """Findings that make a kernel wrong; float64 arithmetic only makes it slow."""
        return [finding for finding in self.findings if finding.kind != "float64"]

    @property
    def worst(self):
        """The verdict nearest to, or furthest over, its budget."""
        return max(self.verdicts.values(), key=lambda v: (not v.passed, share(v)), default=None)

    @property
    def agrees(self):
        """Whether every quantity that the closed form predicts was counted exactly; None if nothing was counted."""
        if self.predicted is None or self.counted is None:
            return None
        return not self.disagreements

    @property
    def disagreements(self):
        """{quantity: (predicted, counted)} where they differ; a form may leave out what is not traffic in HBM."""
        predicted, counted = self.predicted.as_dict(), self.counted.as_dict()
        return {name: (n, counted[name]) for name, n in predicted.items()
                if (n or name in PREDICTED) and n != counted[name]}


def share(verdict):
    """Return the error as a share of the budget; a NaN or a refused output stands above every number."""
    if not verdict.error == verdict.error:
        return float("inf")
    return verdict.error / verdict.budget if verdict.budget else verdict.error


def climb(technique, inputs, started=lambda rung: None):
    """Yield a `Step` for every rung of a technique, in order; ``started`` hears of each one before it runs."""
    gpu = launch.no_gpu_because(numba=True) is None
    for rung in technique.rungs:
        started(rung)
        yield step(technique, rung, inputs, gpu)


def step(technique, rung, inputs, gpu):
    """Run one rung where it can run here, and judge what came out."""
    done = Step(rung)
    dtype = str(next(iter(inputs.values())).dtype)
    absent = rung.kind == "raw" and not gpu
    if dtype not in rung.dtypes:
        done.reason = f"{'needs a GPU, ' if absent else ''}takes {' or '.join(rung.dtypes)}"
        return done
    try:
        done.predicted = technique.traffic(rung, inputs)
    except ShapeError:  # blocks of 32 x 32, say, where wgmma takes 64 rows
        done.reason = UNFIT
        return done
    if absent:
        done.reason = "needs a GPU"
    elif rung.kind == "numpy":
        run_here(done, technique, inputs, "NumPy")
    else:
        if rung.kind == "numba":
            run_on_simt(done, technique, inputs)
        if gpu:
            run_on_gpu(done, technique, inputs)
    return done


def run_here(done, technique, inputs, where):
    """Run a rung on NumPy arrays, and count it if its kernels run on the SIMT machine."""
    technique.run(done.rung, technique.cut(inputs))  # imports and rewrites first, which no time should hold
    with simt.collect() as launches:
        start = time.perf_counter()
        outputs = technique.run(done.rung, inputs)
        done.seconds = time.perf_counter() - start
    while not launches and time.perf_counter() - start < SHORT:  # NumPy is quick: the best of several is steadier
        again = time.perf_counter()
        technique.run(done.rung, inputs)
        done.seconds = min(done.seconds, time.perf_counter() - again)
    done.where, done.verdicts = where, technique.judge(outputs, inputs)
    if launches:
        done.counted = sum((one.traffic for one in launches), Traffic())
        done.findings = [finding for one in launches for finding in one.findings]


def run_on_simt(done, technique, inputs):
    """Run a rung on the SIMT machine, unless it takes no arrays of this size: other rungs do."""
    try:
        run_here(done, technique, inputs, "SIMT")
    except ShapeError:
        done.predicted, done.reason = None, UNFIT


def run_on_gpu(done, technique, inputs):
    """Run a rung on the GPU, and take its time; what the SIMT machine counted and found stands beside it."""
    there = {name: launch.to_gpu(x) if isinstance(x, np.ndarray) else x for name, x in inputs.items()}
    try:
        outputs = technique.run(done.rung, there)
    except (DeviceError, DtypeError, ShapeError) as error:  # an older GPU, or a width that the rung does not take
        done.reason = done.reason or str(error)
        return
    done.seconds = launch.time_ms(lambda: technique.run(done.rung, there), runs=10) / 1000
    done.where = "GPU"
    verdicts = technique.judge({name: launch.to_numpy(x) for name, x in outputs.items()}, inputs)
    done.verdicts |= {f"{name} on the GPU": verdict for name, verdict in verdicts.items()}
