"""What is not in the kernel language is refused: with file, line, the construct and what to write instead."""

import re

import numpy as np
import pytest
from numba.cuda.random import xoroshiro128p_uniform_float32

from minikernels import simt
from minikernels.launch import cuda, float32

HEAD = "from numba import cuda, float32\nimport numpy as np\nT = 4\nPAIR = (2, 3)\n\ndef k(x, y):\n"

# (body of k(x, y) whose last line is at fault, what the message says of the construct, and what to do instead)
STATIC = {
    "try": ("try:\n    x[0] = 1\nexcept: pass", "try statements do not run", "test the condition with if", 1),
    "with": ("with x:\n    pass", "with statements", "no meaning on a GPU", 1),
    "raise": ("raise ValueError", "raise statements", "error code", 1),
    "assert": ("assert x[0] > 0", "assert statements", "error code", 1),
    "import": ("import math", "import statements", "top of the file", 1),
    "from-import": ("from os import path", "importfrom statements", "top of the file", 1),
    "global": ("global T\nT = 3", "global statements", "pass an array", 1),
    "del": ("del x", "delete statements", "registers are free", 1),
    "nested-function": ("def f(v):\n    return v\nx[0] = f(1)", "functiondef statements", "module level", 1),
    "class": ("class A: pass", "classdef statements", "arrays and scalars", 1),
    "match": ("match x[0]:\n    case 1:\n        pass", "match statements", "if and elif", 1),
    "lambda": ("f = lambda v: v", "a lambda", "define a device function", 1),
    "list": ("a = [1, 2]", "a list", "cuda.local.array", 1),
    "comprehension": ("a = [v for v in range(3)]", "a list comprehension", "cuda.local.array", 1),
    "generator": ("a = (v for v in range(3))", "a generator", "use numbers, arrays and tuples", 1),
    "dict": ("a = {1: 2}", "a dict", "use arrays", 1),
    "f-string": ("a = f'{x}'", "a string", "use numbers", 1),
    "string": ("a = 'text'", "a str is not a kernel value", "numbers", 1),
    "complex": ("a = 2j", "a complex is not a kernel value", "numbers", 1),
    "walrus": ("if (n := 3) > 2:\n    x[0] = n", "':='", "statement of its own", 1),
    "starred": ("a, *b = x.shape", "starred assignment", "name each item", 1),
    "star-call": ("a = min(*PAIR)", "* and ** in a call", "write the arguments out", 1),
    "keyword": ("a = abs(x=3)", "abs takes no keyword arguments", "by position", 1),
    "matmul": ("a = x @ x", "@ does not run", "inner axis", 1),
    "in": ("a = 1 in PAIR", "'in' does not run", "compare numbers", 1),
    "is": ("a = x is y", "'is' does not run", "compare numbers", 1),
    "for-array": ("for v in x:\n    pass", "runs over range", "for i in range(n)", 1),
    "for-else": ("for i in range(3):\n    pass\nelse:\n    x[0] = 1", "for ... else", "set a flag", 1),
    "while-else": ("while x[0] > 0:\n    pass\nelse:\n    x[0] = 1", "while ... else", "set a flag", 1),
    "for-tuple": ("for i, j in range(3):\n    pass", "one name", "unpack it in the body", 1),
    "range-alone": ("r = range(3)", "range() stands in a for statement only", "for i in range(n)", 1),
    "break-outside": ("break", "break outside a loop", "mend it", 1),
    "dropped": ("x[0] + 1", "dropped", "assign it", 1),
    "method": ("a = x.sum()", "x.sum(...) cannot be called", "cuda, math or device functions", 1),
    "attribute": ("a = x.T", ".T is not part", ".shape, .size and .ndim", 1),
    "dunder": ("a = x.__class__", "__class__ is not part", ".shape", 1),
    "dunder-name": ("__m = 3", "two underscores", "another name", 1),
    "set-attribute": ("x.shape = 3", "only variables and array elements", "no attributes", 1),
    "unknown-name": ("x[0] = unknown", "the name unknown is not defined", "define or import it", 1),
    "unknown-cuda": ("cuda.nothing()", "cuda.nothing is not part", "README", 1),
    "grid-barrier": ("g = cuda.cg.this_grid()", "cuda.cg is not part", "launch a kernel for each step", 1),
    "whole-array": ("np.sin(x, y)", "np.sin takes 1 argument and got 2", "loop over the elements", 1),
    "unknown-numpy": ("a = np.zeros(3)", "np.zeros is not part", "README", 1),
    "grid-variable": ("n = x.shape[0]\na = cuda.grid(n)", "cuda.grid takes the constant", "number of axes", 2),
    "thread-index-kept": ("t = cuda.threadIdx\na = t.x", "cuda.threadIdx is not a value", "write cuda.threadIdx.x", 1),
    "shape-variable": ("n = x.shape[0]\ns = cuda.shared.array(n, float32)", "is not a constant", "give it a name", 2),
    "shape-computed": ("s = cuda.shared.array((T, T + 1), float32)", "not a constant: (T, T + 1)", "give it a name", 1),
    "shape-float": ("s = cuda.local.array(2.5, float32)", "is not a constant", "integers", 1),
    "shape-zero": ("s = cuda.local.array(0, float32)", "of shape (0,)", "at least 1", 1),
    "dtype-missing": ("s = cuda.shared.array(4)", "takes a shape and a dtype", "float32)", 1),
    "dtype-odd": ("s = cuda.shared.array(4, T)", "a scalar type", "float32, int32", 1),
    "argument-count": ("a = cuda.shfl_sync(1, 2)", "takes 3 arguments and got 2", "mend the call", 1),
    "atomic-count": ("cuda.atomic.add(x, 1)", "cuda.atomic.add takes 3", "array, index and value", 1),
    "ellipsis": ("a = x[...]", "None and ... as an index", "by name", 1),
    "new-axis": ("a = x[None]", "None and ... as an index", "by name", 1),
    "read-before": ("x[0] = v\nv = 1", "v is read before it is assigned", "assign it first", 1),
    "update-before": ("v += 1", "v is read before it is assigned", "assign it first", 1),
    "kernel-value": ("return x[0]", "a kernel returns nothing", "write the result to an array", 1),
    "huge": ("x[0] = 9 ** 9 ** 9 ** 9", "does not fit in 64 bits", "smaller", 1),
    "huge-shift": ("x[0] = 1 << 10 ** 12", "does not fit in 64 bits", "smaller", 1),
    "huge-number": ("x[0] = 123456789123456789123456789", "does not fit in 64 bits", "smaller", 1),
    "division-by-zero": ("x[0] = 1 // 0", "cannot be computed", "mend it", 1),
    "tuple-index": ("x[0] = PAIR[5]", "outside a tuple of 2", "mend it", 1),
    "yield": ("yield 3", "an expression whose value is dropped", "", 1),
    "print": ("print(x[0])", "print is not defined", "", 1),
}


@pytest.mark.parametrize("name", STATIC)
def test_construct_is_refused_before_anything_runs(name):
    body, construct, instead, line = STATIC[name]
    text = HEAD + "    x[1] = 5\n" + "".join(f"    {part}\n" for part in body.split("\n"))
    x = np.zeros(8)
    with pytest.raises(simt.KernelError) as raised:
        simt.run_source(text, "k", 1, 32, x, x, filename="mine.py")
    message = str(raised.value)
    assert raised.value.kind == "language"
    assert message.startswith(f"mine.py:{7 + line}: "), message
    assert construct in message and instead in message, message
    assert not x.any()


TYPED = {
    "float-index": ("x[0.5] = 1", "an index of x is a float64; indices are integers: use // or int(...)"),
    "too-many-axes": ("x[0, 0] = 1", "x has 1 axes and is indexed with 2"),
    "array-as-number": ("x[0] = x + 1", "an array stands where a number is needed; index it first"),
    "tuple-as-number": ("p = (1, 2)\n    x[0] = p * 2", "a tuple stands where a number is needed"),
    "array-as-element": ("x[0] = x", "an element takes one number"),
    "array-as-truth": ("if x:\n        pass", "an array has no truth value; test one element"),
    "unpack": ("a, b, c = x.shape, 1", "a tuple of 2 does not unpack into 3 names"),
    "tuple-item": ("p = (1, 2)\n    i = 3\n    x[0] = p[i]", "item 3 of a tuple of 2"),
    "tuple-item-varies": ("p = (1, 2)\n    x[0] = p[cuda.laneid % 2]", "the same in every thread"),
    "store-to-tuple": ("p = (1, 2)\n    p[0] = 3", "only elements of arrays can be assigned"),
    "bits-of-float": ("x[0] = x[0] & 1", "bitwise operators take integers"),
    "shift-of-float": ("x[0] = x[0] << 1", "shifts take integers"),
    "invert-float": ("x[0] = ~x[0]", "~ takes integers"),
    "float-range": ("for i in range(x[0]):\n        pass", "range() takes integers, not float64"),
    "endless-range": ("for i in range(0, 3, x.size - 8):\n        pass", "range() with a step of 0 never ends"),
    "shape-of-number": ("v = 3\n    x[0] = v.shape[0]", ".shape is known of arrays only"),
    "len-of-number": ("x[0] = len(3)", "len() takes an array or a tuple"),
    "bits-of-a-float": ("x[0] = cuda.popc(x[0])", "bit operations take integers"),
    "negative-step": ("v = x[::-1]\n    x[0] = v[0]", "negative or zero step"),
    "read-only": ("y[0] = 1", "y is read-only; pass an array that the kernel may write"),
    "nothing": ("v = cuda.syncthreads()\n    x[0] = v + 1", "None stands where a number is needed"),
    "array-differs": ("v = x\n    if cuda.laneid > 3:\n        v = y\n    x[0] = v[0]",
                      "different arrays in different threads"),
    "atomic-axes": ("cuda.atomic.add(x, (0, 1), 1)", "x has 1 axes and is indexed with 2"),
    "atomic-local": ("a = cuda.local.array(2, float32)\n    cuda.atomic.add(a, 0, 1)", "a global or shared array"),
    "slice-length": ("x[cuda.laneid:4] = 0", "same length in every thread"),
    "slice-shape": ("x[2:4] = y[:3]", "is assigned an array of another shape"),
    "slice-float": ("v = x[0.5:]\n    x[0] = v[0]", "the ends of a slice are integers"),
}


@pytest.mark.parametrize("name", TYPED)
def test_types_that_do_not_fit_are_refused_and_leave_no_trace(name):
    body, says = TYPED[name]
    x, y = np.zeros(8), np.ones(8)
    y.flags.writeable = False
    with pytest.raises(simt.KernelError) as raised:
        simt.run_source(HEAD + f"    x[1] = 5\n    {body}\n", "k", 1, 32, x, y, filename="mine.py")
    assert raised.value.kind == "language"
    assert re.match(r"mine\.py:\d+: ", str(raised.value)) and says in str(raised.value), raised.value
    assert not x.any()


DEVICE = {
    "recursion": ("@cuda.jit(device=True)\ndef f(v):\n    return f(v - 1)\n", "f calls itself", 3),
    "mutual": ("def g(v):\n    return f(v)\n\ndef f(v):\n    return g(v)\n", "calls itself", 2),
    "count": ("def f(v, w):\n    return v\n", "f(v, w) takes 2 arguments and got 1", 5),
    "falls-through": ("def f(v):\n    if v > 0:\n        return v\n", "returns a value on some paths", 1),
    "default": ("def f(v=1):\n    return v\n", "plain positional parameters only", 1),
    "varargs": ("def f(*v):\n    return v\n", "plain positional parameters only", 1),
}


@pytest.mark.parametrize("name", DEVICE)
def test_device_functions_that_cannot_run_are_refused(name):
    text, says, line = DEVICE[name]
    with pytest.raises(simt.KernelError) as raised:
        simt.run_source(text + "\ndef k(x):\n    x[0] = f(x[0])\n", "k", 1, 1, np.zeros(1), filename="mine.py")
    assert str(raised.value).startswith(f"mine.py:{line}: ") and says in str(raised.value), raised.value


def undecorated(v):
    return v + 1


def calls_undecorated(x):
    x[0] = undecorated(x[0])


def prints(x):
    print(x[0])


def text_constant(x):
    x[0] = NAME


def draws(x, states):
    x[0] = xoroshiro128p_uniform_float32(states, 0)


NAME = "seven"


@pytest.mark.parametrize(("kernel", "says"), [
    (calls_undecorated, "undecorated is a function, which a kernel cannot use; kernels use numbers, arrays, cuda, math "
                        "and functions decorated as device functions"),
    (prints, "print is a builtin_function_or_method, which a kernel cannot use; write the value to an array"),
    (text_constant, "NAME is a str, which a kernel cannot use"),
    (draws, "xoroshiro128p_uniform_float32 is part of cuda.random, which a kernel cannot use; draw the numbers with "
            "NumPy and pass them in an array")])
def test_names_of_a_live_function_that_kernels_cannot_use(kernel, says):
    line = kernel.__code__.co_firstlineno + 1
    with pytest.raises(simt.KernelError, match=re.escape(f"test_simt_refusals.py:{line}: {says}")):
        simt.run(kernel, 1, 1, *[np.zeros(1)] * kernel.__code__.co_argcount)


def test_call_with_wrong_arguments_names_the_parameters():
    with pytest.raises(simt.KernelError, match=r"prints takes 1 arguments \(x\) and got 2"):
        simt.run_source("def prints(x):\n    x[0] = 1\n", "prints", 1, 1, np.zeros(1), 2)


@pytest.mark.parametrize(("text", "says"), [
    ("def k(x:\n", "mine.py:1: "), ("def other(x):\n    pass\n", "defines no function k (it defines: other)"),
    ("", "it defines: none"), ("def k(x):\n    \x00\n", "mine.py:"),
    ("def k(x):\n    x[0] = " + "(" * 300 + "1" + ")" * 300, "mine.py:"),
    ("def k(x):\n    x[0] = " + "+".join(["x[0]"] * 3000), "nested too deeply"),
    ("A = 2 ** 64\nB = A ** 64\nC = B ** 64\nD = C ** 64\ndef k(x):\n    x[0] = D\n",
     "D is bound in line 4 (D = C ** 64) to more than arithmetic of numbers")])
def test_sources_that_cannot_be_read_are_refused(text, says):
    with pytest.raises(simt.KernelError) as raised:
        simt.run_source(text, "k", 1, 1, np.zeros(1), filename="mine.py")
    assert says in str(raised.value) and raised.value.kind == "language"


@pytest.mark.parametrize("function", [3, print, "k", type, lambda x: x])
def test_things_that_are_no_kernel_are_refused(function):
    with pytest.raises(simt.KernelError, match="a kernel is a Python function written with def"):
        simt.run(function, 1, 1, np.zeros(1))


@pytest.mark.parametrize(("grid", "block", "says"), [
    (0, 32, "at least 1"), (1, 0, "at least 1"), (1, (32, 33), "at most 1024 threads"),
    (1, (1, 1, 65), "at most 1024 threads"),
    ((1, 70000), 1, "65535"), ((1, 1, 1, 1), 1, "one to three integers"), (1.5, 1, "one to three integers"),
    ("a", 1, "one to three integers"), (None, 1, "one to three integers")])
def test_launch_shapes_that_no_gpu_takes_are_refused(grid, block, says):
    with pytest.raises(simt.KernelError, match=says) as raised:
        simt.run(text_free, grid, block, np.zeros(1))
    assert raised.value.kind == "resources"


@pytest.mark.parametrize("size", [131073, 10**12, (2**40, 2**40)])
def test_private_arrays_that_no_thread_may_have_are_refused(size):
    text = f"def k(x):\n    a = cuda.local.array({size}, float32)\n    a[0] = x[0]\n"
    with pytest.raises(simt.KernelError, match="of local memory that a thread may have") as raised:
        simt.run_source(text, "k", 1, 1, np.zeros(1, np.float32))
    assert raised.value.kind == "resources" and raised.value.finding.array == "a"
    simt.run_source(text.replace(str(size), "131072"), "k", 1, 1, np.zeros(1, np.float32))  # 512 KiB


def text_free(x):
    if cuda.grid(1) == 0:
        x[0] = float32(1)


def test_submission_is_never_executed():
    text = "import os\nos.abort()\n" + "T = len('abc')\n\ndef k(x):\n    x[0] = 7\n\nraise SystemExit\n"
    x = np.zeros(1)
    simt.run_source(text, "k", 1, 1, x)
    assert x[0] == 7


def test_numba_refuses_what_the_machine_refuses():
    """Spot checks that the refusals are numba's too, by its type inference (no GPU needed)."""
    from numba.core import types
    from numba.core.errors import NumbaError
    from numba.cuda.compiler import compile_cuda

    for body in ("s = cuda.shared.array((T, T + 1), float32)\n    x[0] = s[0, 0]", "x[0.5] = 1", "x[0] = x[0] & 1",
                 "x[0] = v\n    v = 1", "a, b, c = x.shape\n    x[0] = a", "x[0, 0] = 1"):
        space = {"cuda": cuda, "float32": float32, "T": 4}
        exec(f"def k(x):\n    {body}\n", space)
        with pytest.raises(NumbaError):
            compile_cuda(space["k"], types.void, (types.Array(types.float64, 1, "C"),), cc=(9, 0))
        with pytest.raises(simt.KernelError):
            simt.run_source(f"T = 4\ndef k(x):\n    {body}\n", "k", 1, 1, np.zeros(2))
