"""The machine that rewritten kernels run on: one method for each thing a statement can do.

A rewritten kernel is a Python function whose first argument is a `Machine`; every operator, access and
branch of the source became a call on it. The machine holds the active mask, the counters, and the chunk of
blocks that runs now.
"""

import numpy as np

from minikernels.core.errors import KernelError
from minikernels.simt.accessors import Clock
from minikernels.simt.arithmetic import BINARY, F16, F32, F64, HALF, MATH, UNARY, common_type, convert
from minikernels.simt.control import Control
from minikernels.simt.findings import STOPPING, Finding, short, stop
from minikernels.simt.intrinsics import Intrinsics
from minikernels.simt.memory import Memory
from minikernels.simt.releases import Releases
from minikernels.simt.scalars import Scalars
from minikernels.simt.views import View

__all__ = ["COUNTERS", "Machine"]

COUNTERS = ("flop16", "flop32", "flop64", "special", "branches", "divergent_branches", "lane_steps", "warp_steps",
            "barriers")
FLOP = {f"flop{w}": COUNTERS.index(f"flop{w}") for w in (16, 32, 64)}
SPECIAL, LANE_STEPS, WARP_STEPS = (COUNTERS.index(n) for n in ("special", "lane_steps", "warp_steps"))

COMPARE = {"Lt": np.less, "LtE": np.less_equal, "Gt": np.greater, "GtE": np.greater_equal, "Eq": np.equal,
           "NotEq": np.not_equal}


class Machine(Control, Intrinsics, Memory, Scalars):
    """One launch.

    Parameters
    ----------
    program : Program
        The rewritten kernel: its name, file and whether it asks for float64 by name.
    shared_bytes : int
        Dynamic shared memory of the launch.
    strict : bool
        Whether any finding but float64 raises at once.
    max_steps : int or None
        Statements after which the launch is given up.
    recorder : Recorder or None
    """

    def __init__(self, program, shared_bytes=0, strict=False, max_steps=None, recorder=None):
        self.program, self.shared_bytes, self.strict = program, shared_bytes, strict
        self.max_steps, self.recorder = max_steps, recorder
        self.findings, self.reported, self.shadows = [], set(), []
        self.lines = {}
        self.sequence = 0
        self.line = program.first_line
        self.explicit64 = program.explicit64
        self.releases = Releases()
        self.doubts = {}  # line -> the finding, if what a shuffle took from an absent lane there matters
        self.pretend = None, 0  # of which line such values are the largest (1) or the least (-1) of their type
        self.watch = None

    def enter(self, geometry):
        """Make ready for one chunk of blocks."""
        self.geometry = geometry
        self.mask = self.live = geometry.everyone
        self.clock = Clock(geometry)
        self.storages = {}
        self.dynamic = None
        self.frames = []
        self.prepare_specials()

    def leave(self, last):
        """End a chunk of blocks: its shared memory goes, and its accesses to global memory are of strangers."""
        for view in self.storages.values():
            view.storage.shadow.log.clear()
        if not last:
            for shadow in self.shadows:
                shadow.close()

    def at(self, line):
        """Note that the statement on this line starts."""
        self.line = line
        here = self.lines.get(line)
        if here is None:
            here = self.lines[line] = [0] * len(COUNTERS)
        self.here = here
        here[LANE_STEPS] += self.mask.lanes
        here[WARP_STEPS] += self.mask.warps
        self.tick()
        if self.recorder is not None:
            self.recorder.step(self, line)

    def tick(self):
        """Count one statement or loop turn against the launch's budget."""
        self.sequence += 1
        if self.max_steps is not None and self.sequence > self.max_steps:
            raise KernelError(f"{self.program.filename}:{self.line}: {self.program.name} ran more than "
                              f"{self.max_steps} statements; is there a loop that never ends?", kind="limit")

    def find(self, finding):
        """Keep a finding; stop the launch where its kind demands it."""
        self.findings.append(finding)
        if finding.kind in STOPPING or (self.strict and finding.kind != "float64"):
            stop(finding)

    def find_once(self, finding):
        """Keep a finding unless one of its kind is known on that line for that array."""
        key = finding.kind, finding.lines, finding.array
        if key not in self.reported:
            self.reported.add(key)
            self.find(finding)

    # Arithmetic

    def binary(self, name, a, b, literal=False):
        """Return ``a <op> b`` with numba's types."""
        op = BINARY[name]
        rule = op.rules.get((a.dtype, b.dtype)) or op.learn(a.dtype, b.dtype)
        left, right, counter, widened = rule
        if counter is not None:
            self.here[FLOP[counter]] += self.mask.lanes
            if counter == "flop64" and (widened or not self.explicit64):
                self.slipped(op.name, a, b, literal)
        if left is not None:
            a = a.astype(left)
        if right is not None:
            b = b.astype(right)
        return op.function(a, b)

    def literal(self, name, a, b):
        """`binary` where one operand is a Python constant in the source."""
        return self.binary(name, a, b, True)

    def slipped(self, op, a, b, literal):
        """Report float64 arithmetic that no float64 in the source asked for."""
        narrow = [x.dtype for x in (a, b) if x.dtype.kind == "f" and x.dtype != F64]
        if self.explicit64 and not (narrow and (literal or a.dtype.kind != b.dtype.kind)):
            return  # float64 beside float32 is what was asked for; a constant or an integer beside it is not
        kinds = f"{a.dtype} {op} {b.dtype}"
        if "i" in (a.dtype.kind, b.dtype.kind) or "u" in (a.dtype.kind, b.dtype.kind):
            mend = "cast the integer first: float32(i)"
        else:
            mend = "write the constant as float32(...), and pass scalars as np.float32"
        self.find_once(Finding(
            "float64", f"line {self.line}: {kinds} is computed in float64, which a GPU does 2 to 64 times slower "
            f"than float32; {mend}", None, None, (self.line,)))

    def fused(self, a, b, c):
        """Return a * b + c, rounded as the product and the sum would be."""
        return self.binary("Add", self.binary("Mult", a, b), c)

    def unary(self, name, a):
        """Return ``<op> a`` with numba's types."""
        return UNARY[name](a)

    def compare(self, name, a, b):
        """Return ``a <comparison> b``."""
        if isinstance(a, tuple) or isinstance(b, tuple):
            raise TypeError("tuples cannot be compared in a kernel; compare their items")
        if isinstance(a, View) or isinstance(b, View):
            raise TypeError("arrays cannot be compared as a whole in a kernel; compare their elements")
        return COMPARE[name](a, b)

    def math(self, name, a):
        """Return a function of one variable; integers become float64, as in numba."""
        function, special = MATH[name]
        if a.dtype.kind != "f":
            a = a.astype(F64)
        if a.dtype == F64:
            if special and not self.explicit64:
                self.slipped(name, a, a, False)
        elif a.dtype == F16 and name not in HALF:
            a = a.astype(F32)
        if special:
            self.count_special()
        return function(a)

    def count_special(self):
        """Count one special function in each active lane."""
        self.here[SPECIAL] += self.mask.lanes

    def cast(self, dtype, a):
        """Return ``a`` as another type; a float becomes an integer by dropping its fraction."""
        return convert(a, dtype)

    def truth(self, a):
        """Return a value as a bool: numbers are true where they are not 0."""
        if isinstance(a, View):
            raise TypeError("an array has no truth value; test one element")
        return a if a.dtype == bool else a != 0

    # Variables

    def assigned(self, before):
        """Return the lanes that have assigned a variable, now that the active ones did; True for all."""
        if before is True or self.mask.bits is None or self.mask is self.live:
            return True
        return self.mask if before is None else before.plus(self.mask)

    def surely(self, name, value, assigned):
        """Return a variable's value; report the active lanes that have not assigned it."""
        if assigned is True or assigned is self.mask:
            return value
        missing = self.mask if assigned is None else self.mask.minus(assigned)
        if missing.lanes:
            lane = self.geometry.name(*np.argwhere(missing.full)[0])
            finding = Finding(
                "uninitialised", f"line {self.line}: thread {short(lane[1])} of block {short(lane[0])} reads the "
                f"variable {name}, which it has not assigned on its way here; assign it before the branch or loop",
                None, None, (self.line,), (lane,))
            if value is UNDEFINED:
                stop(finding)
            self.find_once(finding)
        return value

    def merge(self, old, new):
        """Return a variable's value after the active lanes assigned ``new`` to it."""
        if self.mask.bits is None or self.mask is self.live or old is UNDEFINED:
            return new
        if isinstance(new, tuple):
            if not isinstance(old, tuple) or len(old) != len(new):
                return new
            return tuple(self.merge(o, n) for o, n in zip(old, new))
        if isinstance(new, View):
            if not isinstance(old, View) or old is new:
                return new
            if old.storage is not new.storage or old.strides != new.strides:
                raise TypeError("a variable holds different arrays in different threads; use two variables")
            shape = tuple(np.where(self.mask.bits, n, o) for n, o in zip(new.shape, old.shape))
            return View(new.storage, shape, new.strides, np.where(self.mask.bits, new.start, old.start))
        if isinstance(old, (tuple, View)):
            return new
        if old is new:
            return new
        kind = common_type(new.dtype, old.dtype)
        return np.where(self.mask.bits, new, old).astype(kind, copy=False)


class _Undefined:
    """What a variable holds before any thread has assigned it."""

    def __getattr__(self, name):
        raise TypeError("a variable is read before any thread has assigned it")


UNDEFINED = _Undefined()
