"""The machine that rewritten kernels run on: one method for each thing a statement can do.

A rewritten kernel is a Python function whose first argument is a `Machine`; every operator, access and
branch of the source became a call on it. The machine holds the active mask, the counters, and the chunk of
blocks that runs now.
"""

import numpy as np

from minikernels.core.errors import KernelError
from minikernels.simt import views
from minikernels.simt.arithmetic import BINARY, F64, MATH, UNARY, common_type
from minikernels.simt.control import Control
from minikernels.simt.findings import STOPPING, Finding, short, stop
from minikernels.simt.hazards import Clock
from minikernels.simt.intrinsics import Intrinsics
from minikernels.simt.scalars import Scalars
from minikernels.simt.storage import ConstStorage, LocalStorage, SharedStorage
from minikernels.simt.views import View

__all__ = ["COUNTERS", "Machine"]

COUNTERS = ("flop16", "flop32", "flop64", "special", "branches", "divergent_branches", "lane_steps", "warp_steps",
            "barriers")
FLOP = {f"flop{w}": COUNTERS.index(f"flop{w}") for w in (16, 32, 64)}
SPECIAL, LANE_STEPS, WARP_STEPS = (COUNTERS.index(n) for n in ("special", "lane_steps", "warp_steps"))

STATIC_SHARED_BYTES = 48 * 1024
DYNAMIC_SHARED_BYTES = 227 * 1024  # what one block of an H100 or H200 may use in all

COMPARE = {"Lt": np.less, "LtE": np.less_equal, "Gt": np.greater, "GtE": np.greater_equal, "Eq": np.equal,
           "NotEq": np.not_equal}


class Machine(Control, Intrinsics, Scalars):
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
        self.findings, self.reported = [], set()
        self.lines = {}
        self.sequence = 0
        self.line = program.first_line
        self.explicit64 = program.explicit64
        self.shared_total = {}
        self.releases = {}
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

    def out_of_bounds(self, site, view, axis, value, extent, at):
        """Report an index outside its axis; this ends the launch."""
        self.find(views.out_of_bounds(self, site, view, axis, value, extent, at))

    def uninitialised(self, storage, line, element, lanes):
        """Report a read of memory that the block (or thread) has not written."""
        row, thread = np.argwhere(self.mask.full if lanes is None else lanes)[0]
        block, thread = self.geometry.name(row, thread)
        index = storage.index_of(element)
        what = "shared" if storage.space == "shared" else "local"
        self.find_once(Finding(
            "uninitialised",
            f"line {line}: thread {short(thread)} of block {short(block)} reads "
            f"{storage.name}[{', '.join(map(str, index))}], which nobody has written: {what} memory "
            "starts with whatever was there before; write it first",
            storage.name, index, (line,), ((block, thread),)))

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
        if self.explicit64 and not (narrow and (literal or "f" not in {a.dtype.kind, b.dtype.kind} - {narrow[0].kind}
                                                and a.dtype.kind != b.dtype.kind)):
            return
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
        return COMPARE[name](a, b)

    def math(self, name, a):
        """Return a function of one variable; integers become float64, as in numba."""
        function, special = MATH[name]
        if a.dtype.kind != "f":
            a = a.astype(F64)
            if special and not self.explicit64:
                self.slipped(name, a, a, False)
        if special:
            self.count_special()
        return function(a)

    def count_special(self):
        """Count one special function in each active lane."""
        self.here[SPECIAL] += self.mask.lanes

    def cast(self, dtype, a):
        """Return ``a`` as another type; a float becomes an integer by dropping its fraction."""
        return a if a.dtype == dtype else a.astype(dtype)

    def truth(self, a):
        """Return a value as a bool: numbers are true where they are not 0."""
        if isinstance(a, View):
            raise TypeError("an array has no truth value; test one element")
        return a if a.dtype == bool else a != 0

    # Arrays

    def index(self, site, value, index):
        """Return ``value[index]``: an item of a tuple, an element, or a view."""
        pattern = site.pattern
        if pattern is not None and pattern.view is value:
            return self.load(site, value, index)  # as the last time
        if isinstance(value, tuple):
            if len(index) != 1 or isinstance(index[0], slice) or index[0].ndim:
                raise TypeError("a tuple is indexed with one integer that is the same in every thread")
            return value[int(index[0])]
        if not isinstance(value, View):
            raise TypeError(f"only arrays and tuples can be indexed, and this is a {value.dtype}")
        self.check_index(value, index)
        if len(index) < value.ndim or any(isinstance(i, slice) for i in index):
            return value.part(self, site, index)
        return self.load(site, value, index)

    def load(self, site, view, index):
        """Return the elements that the active lanes ask for."""
        lane, offset, pattern = views.locate(self, site, view, index)
        storage = view.storage
        if storage.space == "local":
            if lane is None:
                return storage.take_uniform(offset, site.line)
            return storage.take_varying(lane + offset, site.line)
        value = storage.take(lane, offset)
        if storage.space == "const":
            return value
        done = views.count(self, site, pattern, offset, "load")
        shadow = storage.shadow
        if shadow is not None:
            mask = self.mask

            def located():
                elements, lanes = storage.elements(lane, offset, mask)
                return storage.shadowed(elements), lanes

            if storage.space == "shared" and shadow.unwritten:
                elements, lanes = located()
                missing = shadow.never_written(elements)
                if missing.any():
                    k = int(np.flatnonzero(missing)[0])
                    lanes_missing = np.zeros(mask.full.shape, bool)
                    lanes_missing[divmod(int(lanes[k]) - self.geometry.first * self.geometry.width,
                                         self.geometry.width)] = True
                    self.uninitialised(storage, site.line, elements[k], lanes_missing)
            shadow.read(located, site.line, self.mask.blocks)
        if self.recorder is not None:
            self.recorder.access(self, "load", storage, lane, offset, done, value)
        return value

    def store(self, site, view, index, value):
        """Put the value of each active lane where it asks."""
        if isinstance(value, (View, tuple)):
            raise TypeError("an element takes one number; loop over the elements of an array or a tuple")
        if site.pattern is None or site.pattern.view is not view:
            if not isinstance(view, View):
                raise TypeError("only elements of arrays can be assigned; tuples and scalars cannot")
            self.check_index(view, index)
            if len(index) < view.ndim or any(isinstance(i, slice) for i in index):
                raise TypeError("a store writes one element a thread; loop over the slice's elements")
        lane, offset, pattern = views.locate(self, site, view, index)
        storage = view.storage
        if storage.dtype.kind in "iu" and value.dtype.kind == "f":
            value = np.where(np.isfinite(value), value, 0)
        value = value.astype(storage.dtype)
        if storage.space == "local":
            if lane is None:
                storage.put_uniform(offset, value)
            else:
                storage.put_varying(lane + offset, value)
            return
        if not storage.writable:
            raise TypeError(f"{storage.name} is read-only; pass an array that the kernel may write")
        done = views.count(self, site, pattern, offset, "store")
        elements, lanes = storage.elements(lane, offset, self.mask)
        if storage.shadow is not None:
            if pattern.distinct is None:
                pattern.distinct = len(np.unique(elements)) == len(elements)
            storage.shadow.write(storage.shadowed(elements), lanes, site.line, self.mask.blocks,
                                 distinct=pattern.distinct)
        values = value if value.ndim == 0 else np.broadcast_to(value, self.mask.full.shape)[self.mask.full]
        storage.put(elements, values)
        if self.recorder is not None:
            self.recorder.access(self, "store", storage, lane, offset, done, value)

    def attribute(self, value, name):
        """Return ``value.shape``, ``.size`` or ``.ndim`` of an array."""
        if not isinstance(value, View):
            raise TypeError(f".{name} is known of arrays only")
        if name == "shape":
            return value.shape
        if name == "ndim":
            return np.int64(value.ndim)
        size = np.int64(1)
        for extent in value.shape:
            size = size * extent
        return size

    def check_index(self, view, index):
        """Check the number and the types of the indices."""
        if len(index) > view.ndim:
            raise TypeError(f"{view.storage.name} has {view.ndim} axes and is indexed with {len(index)}")
        for i in index:
            if not isinstance(i, slice) and (isinstance(i, (View, tuple)) or i.dtype.kind not in "iu"):
                kind = type(i).__name__ if isinstance(i, (View, tuple)) else i.dtype
                raise TypeError(f"an index of {view.storage.name} is a {kind}; indices are integers: use // or "
                                "int(...)")

    # Making arrays

    def shared_array(self, key, name, shape, dtype):
        """Return the shared array that this line declares; the same one each time the line runs."""
        if key in self.storages:
            return self.storages[key]
        dynamic = shape == (0,)
        if dynamic:
            if self.dynamic is None:
                self.dynamic = np.full((self.geometry.blocks, self.shared_bytes), 0xFF, np.uint8)  # NaN as a float
            shape = (self.shared_bytes // dtype.itemsize,)
        else:
            self.shared_total[key] = int(np.prod(shape)) * dtype.itemsize
        self._shared_limit(name)
        storage = SharedStorage(name, shape, dtype, self, self.dynamic if dynamic else None)
        if self.recorder is not None:
            self.recorder.declare(storage)
        view = self.storages[key] = View.whole(storage, shape)
        return view

    def _shared_limit(self, name):
        static = sum(self.shared_total.values())
        if static > STATIC_SHARED_BYTES or static + self.shared_bytes > DYNAMIC_SHARED_BYTES:
            limit = STATIC_SHARED_BYTES if static > STATIC_SHARED_BYTES else DYNAMIC_SHARED_BYTES
            self.find(Finding(
                "resources", f"line {self.line}: with {name} a block needs {static + self.shared_bytes} bytes of "
                f"shared memory, more than the {limit} that a block may have; use smaller tiles or a narrower type",
                name, None, (self.line,)))

    def local_array(self, name, shape, dtype):
        """Return a fresh private array."""
        return View.whole(LocalStorage(name, shape, dtype, self), shape)

    def const_array(self, name, array):
        """Return a constant array."""
        if not isinstance(array, np.ndarray):
            raise TypeError("cuda.const.array_like takes a NumPy array that is known outside the kernel")
        return View.whole(ConstStorage(name, array), array.shape)

    # Variables

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

