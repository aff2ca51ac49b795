"""The machine's types are numba's, and float64 that nobody asked for is found."""

import math
import operator

import numpy as np
import pytest

from minikernels import simt
from minikernels.launch import cuda, float16, float32, float64, int8, int32, int64
from minikernels.simt.arithmetic import BINARY, MATH, UNARY, common_type
from minikernels.simt.scalars import Scalars

NAMES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
         "float16", "float32", "float64")
DTYPES = [np.dtype(n) for n in NAMES]
OPERATORS = {
    "Add": operator.add, "Sub": operator.sub, "Mult": operator.mul, "Div": operator.truediv,
    "FloorDiv": operator.floordiv, "Mod": operator.mod, "Pow": operator.pow, "LShift": operator.lshift,
    "RShift": operator.rshift, "BitAnd": operator.and_, "BitOr": operator.or_, "BitXor": operator.xor,
    "min": min, "max": max,
}
# numba's own oddities, which the machine does not share
ODD = {("Pow", "bool", "int32"): "numba picks pow(float32, int32) for a bool base",
       ("pow", "float32", "uint16"): "numba takes uint16 for an int32 exponent here, and for no other base"}


@pytest.fixture(scope="module")
def numba_type():
    """Return a function from (function, dtypes) to the dtype that numba infers, or None where it refuses."""
    import numba.cuda.cudadecl
    import numba.cuda.cudamath  # noqa: F401 - each registers its types
    from numba import types
    from numba.core.errors import NumbaError
    from numba.cuda.descriptor import cuda_target

    context = cuda_target.typing_context
    context.refresh()
    known = {n: getattr(types, "boolean" if n == "bool" else n) for n in NAMES}

    def infer(function, *dtypes):
        try:
            found = context.resolve_function_type(function, tuple(known[d.name] for d in dtypes), {})
        except (NumbaError, NotImplementedError):
            return None
        return np.dtype(str(found.return_type)) if found is not None else None

    infer.unify = lambda a, b: np.dtype(str(context.unify_types(known[a.name], known[b.name])))
    return infer


def mine(function, *dtypes):
    """Return the dtype that the machine computes in, or None where it refuses."""
    try:
        with np.errstate(all="ignore"):
            return np.asarray(function(*[np.ones(1, d) for d in dtypes])).dtype
    except TypeError:
        return None


def machine():
    """Return a machine that only computes."""
    from minikernels.simt.machine import COUNTERS, Machine
    from minikernels.simt.rewrite import Program

    made = Machine(Program("k", "f", "", 1, [], explicit64=True))
    made.here = [0] * len(COUNTERS)
    made.mask = type("Mask", (), {"lanes": 1, "warps": 1})()
    return made


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_types_are_numbas(name, numba_type):
    m, wrong = machine(), []
    for a in DTYPES:
        for b in DTYPES:
            wanted = numba_type(OPERATORS[name], a, b)
            if (name, a.name, b.name) in ODD or (name in ("min", "max") and "float16" in (a.name, b.name)):
                continue  # numba 0.68 has no min and max of float16; the machine takes them as fp16.hmin and hmax
            got = mine(lambda x, y: m.binary(name, x, y), a, b)
            if got != wanted:
                wrong.append((a.name, b.name, got, wanted))
    assert not wrong
    assert len(BINARY[name].rules) > 80


@pytest.mark.parametrize("name", ["Lt", "LtE", "Gt", "GtE", "Eq", "NotEq"])
def test_comparisons_give_bool(name):
    m = machine()
    assert {mine(lambda x, y: m.compare(name, x, y), a, b) for a in DTYPES for b in DTYPES} == {np.dtype(bool)}


UNARIES = {"USub": operator.neg, "UAdd": operator.pos, "Invert": operator.invert}


@pytest.mark.parametrize("name", UNARIES)
def test_unary_types_are_numbas(name, numba_type):
    for a in DTYPES:
        if (name, a.name) in {("UAdd", "bool"), ("UAdd", "float16")}:
            continue  # numba has no + for these
        assert mine(UNARY[name], a) == numba_type(UNARIES[name], a), a


BUILTINS = {"abs": abs, "int": int, "float": float, "round": round, "bool": bool}


@pytest.mark.parametrize("name", BUILTINS)
def test_builtin_types_are_numbas(name, numba_type):
    call = getattr(machine(), f"python_{name}")
    for a in DTYPES:
        if (name, a.name) in {("int", "float16"), ("float", "bool"), ("abs", "bool")}:
            continue  # numba refuses the first two, and abs(True) is int8 for it; the machine gives a number
        assert mine(call, a) == numba_type(BUILTINS[name], a), a


@pytest.mark.parametrize("name", sorted(n for n in MATH if hasattr(math, n)))
def test_math_types_are_numbas(name, numba_type):
    m = machine()
    m.count_special = lambda: None
    for a in DTYPES:
        wanted = numba_type(getattr(math, name), a)
        if wanted is None:
            continue  # numba lacks it for this type; for float16 the machine computes on
        assert mine(lambda x: m.math(name, x), a) == wanted, a


@pytest.mark.parametrize("name", ["atan2", "hypot", "fmod", "copysign", "pow"])
def test_math_of_two_types_are_numbas(name, numba_type):
    m = machine()
    wrong = []
    for a in DTYPES:
        for b in DTYPES:
            wanted = numba_type(getattr(math, name), a, b)
            got = mine(lambda x, y: m.math_other(name, x, y), a, b)
            if wanted is not None and got != wanted and (name, a.name, b.name) not in ODD:
                wrong.append((a.name, b.name, got, wanted))
    assert not wrong


def test_variables_of_two_types_unify_as_numbas_do(numba_type):
    for a in DTYPES:
        for b in DTYPES:
            if "float16" not in (a.name, b.name):
                assert common_type(a, b) == numba_type.unify(a, b), (a, b)


def run(kernel, *arguments, lanes=None):
    return simt.run(kernel, 1, lanes or len(arguments[0]), *arguments)


def quotients(a, b, out):
    i = cuda.grid(1)
    out[i, 0] = a[i] // b[i]
    out[i, 1] = a[i] % b[i]


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
def test_division_and_modulo_take_the_sign_of_the_divisor(dtype):
    a = np.array([7, -7, 7, -7, 6, -6, 0], dtype)
    b = np.array([2, 2, -2, -2, 3, 3, -5], dtype)
    out = np.zeros((7, 2), dtype)
    run(quotients, a, b, out)
    assert out.tolist() == [[x // y, x % y] for x, y in zip(a.tolist(), b.tolist())]


def overflows(x, narrow, wide):
    i = cuda.grid(1)
    wide[i] = x[i] * x[i] + 1
    narrow[i] = x[i] + 1


def test_int32_computes_in_64_bits_and_wraps_on_the_store():
    x = np.array([2**31 - 1, -(2**31), 2**16], np.int32)
    narrow, wide = np.zeros(3, np.int32), np.zeros(3, np.int64)
    run(overflows, x, narrow, wide)
    assert wide.tolist() == [int(v) ** 2 + 1 for v in x]
    assert narrow.tolist() == [-(2**31), -(2**31) + 1, 2**16 + 1]


def test_int64_wraps_round():
    x, wide = np.array([2**62, 2**63 - 1, -(2**63)]), np.zeros(3, np.int64)
    run(overflows, x, np.zeros(3, np.int32), wide)
    assert wide.tolist() == [1, 2, 1]  # modulo 2**64


def narrow_stores(x, a, b, c, d):
    i = cuda.grid(1)
    a[i] = x[i]
    b[i] = x[i]
    c[i] = x[i]
    d[i] = int8(x[i])


def test_floats_out_of_an_integers_range_end_at_its_ends():
    x = np.array([1e10, -1e10, 2.9, -2.9, np.nan, np.inf])
    a, b, c, d = np.zeros(6, np.int32), np.zeros(6, np.uint8), np.zeros(6, bool), np.zeros(6, np.int64)
    run(narrow_stores, x, a, b, c, d)
    assert a.tolist() == [2**31 - 1, -(2**31), 2, -2, 0, 2**31 - 1]
    assert b.tolist() == [255, 0, 2, 0, 0, 255]
    assert c.all()
    assert d.tolist() == [127, -128, 2, -2, 0, 127]


def powers(a, b, out):
    i = cuda.grid(1)
    out[i] = a[i] ** b[i]


def test_integer_powers():
    a, b = np.array([2, -3, 2, 1, -1, -1, 0, 5]), np.array([10, 3, -1, -4, -3, -2, 0, 0])
    out = np.zeros(8, np.int64)
    run(powers, a, b, out)
    assert out.tolist() == [1024, -27, 0, 1, -1, 1, 1, 1]


def stays_narrow(x, out):
    i = cuda.grid(1)
    a = x[i] * x[i] + x[i] / x[i] - float32(2)
    a += math.sqrt(a * a) + math.exp(-abs(a))
    b = max(a, float32(0)) ** 2
    flag = a > 0.5
    out[i] = min(b, x[i]) if flag else -b


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float_arithmetic_stays_in_its_width(dtype):
    x = np.linspace(0.5, 2, 40, dtype=dtype)
    launch = run(stays_narrow, x, np.zeros_like(x))
    assert launch.findings == []
    assert (launch.traffic.flop64 == 0) == (dtype == "float32")


def halves(x, out):
    i = cuda.grid(1)
    out[i] = x[i] * x[i] + float16(1)


def test_float16_stays_float16():
    x, out = np.full(33, 0.1, np.float16), np.zeros(33, np.float16)
    launch = run(halves, x, out)
    assert launch.findings == []
    assert (launch.traffic.flop16, launch.traffic.flop32, launch.traffic.flop64) == (66, 0, 0)
    assert (out == np.float16(0.1) * np.float16(0.1) + np.float16(1)).all()


HALF, DOUBLE = 0.5, np.float64(0.5)


def constant(x, s, out):
    i = cuda.grid(1)
    out[i] = x[i] * 0.5  # here


def global_constant(x, s, out):
    i = cuda.grid(1)
    out[i] = x[i] + HALF  # here


def numpy_constant(x, s, out):
    i = cuda.grid(1)
    out[i] = x[i] - DOUBLE  # here


def integer_constant(x, s, out):
    i = cuda.grid(1)
    out[i] = x[i] * 2  # here


def integer_index(x, s, out):
    i = cuda.grid(1)
    out[i] = i * x[i]  # here


def python_float_argument(x, s, out):
    i = cuda.grid(1)
    out[i] = x[i] * s  # here


def integer_quotient(x, s, out):
    i = cuda.grid(1)
    v = i / 3  # here
    out[i] = v


def root_of_an_integer(x, s, out):
    i = cuda.grid(1)
    v = math.sqrt(i)  # here
    out[i] = v


def accumulator(x, s, out):
    i = cuda.grid(1)
    acc = 0.0
    for _ in range(4):
        acc += x[i]  # here
    out[i] = acc


def least(x, s, out):
    i = cuda.grid(1)
    out[i] = max(x[i], 0)  # here


SLIPS = [constant, global_constant, numpy_constant, integer_constant, integer_index, python_float_argument,
         integer_quotient, root_of_an_integer, accumulator, least]


def marked(kernel, text="# here"):
    import inspect

    lines, first = inspect.getsourcelines(kernel)
    return next(first + k for k, line in enumerate(lines) if text in line)


@pytest.mark.parametrize("kernel", SLIPS, ids=lambda k: k.__name__)
def test_float64_that_slipped_in_is_found_with_its_line(kernel):
    x = np.ones(20, np.float32)
    launch = run(kernel, x, 0.5, np.zeros_like(x))
    assert [(f.kind, f.lines) for f in launch.findings] == [("float64", (marked(kernel),))]
    assert "float32(" in launch.findings[0].message
    simt.run(kernel, 1, 20, x, 0.5, np.zeros_like(x), strict=True)  # reported, but never a reason to stop


def meant_by_name(x, out):
    i = cuda.grid(1)
    acc = float64(0)
    for _ in range(3):
        acc += x[i] * x[i]
    out[i] = acc * 0.5


def meant_by_the_arrays(x, out):
    i = cuda.grid(1)
    out[i] = out[i] * 0.5 + 1


def test_float64_that_is_asked_for_is_not_reported():
    x = np.ones(8, np.float32)
    assert run(meant_by_name, x, np.zeros_like(x)).findings == []
    assert run(meant_by_the_arrays, np.ones(8), np.ones(8)).findings == []


def mixed(x, out):
    i = cuda.grid(1)
    out[i] = float64(x[i]) + x[i] * 0.5  # here


def test_a_slip_beside_a_wanted_float64_is_found():
    x = np.ones(8, np.float32)
    assert [f.lines for f in run(mixed, x, np.zeros_like(x)).findings] == [(marked(mixed),)]


def arguments(out, a, b, c, pair):
    out[0] = a + b
    out[1] = c
    out[2] = pair[0] * pair[1]


def test_scalars_and_tuples_are_arguments():
    out = np.zeros(3, np.int64)
    simt.run(arguments, 1, 1, out, np.int8(100), 100, True, (3, np.int32(4)))
    assert out.tolist() == [200, 1, 12]


@pytest.mark.parametrize(("value", "what"), [("text", "str"), (None, "NoneType"), ([1, 2], "list"), (1j, "complex")])
def test_other_arguments_are_refused(value, what):
    with pytest.raises(simt.KernelError, match=f"a is a {what}"):
        simt.run(arguments, 1, 1, np.zeros(3), value, 1, 1, (1, 1))


@pytest.mark.parametrize("dtype", ["complex64", "U3", "object", "datetime64[s]", "i4,f4", ">f4"])
def test_arrays_of_other_dtypes_are_refused(dtype):
    with pytest.raises(simt.KernelError, match="out has dtype"):
        simt.run(arguments, 1, 1, np.zeros(3, dtype), 1, 1, 1, (1, 1))


def unsigned(x, out):
    i = cuda.grid(1)
    out[i] = x[i] - 1
    if x[i] > -1:
        out[i] += int64(10)
    if x[i] == int32(3):
        out[i] = 0


def test_unsigned_integers_compare_and_subtract_with_signed_ones():
    x, out = np.array([0, 2, 3, 2**63], np.uint64), np.zeros(4, np.int64)
    run(unsigned, x, out)
    assert out.tolist() == [9, 11, 0, -(2**63) + 9]  # the last one wraps, as int64 does


def test_every_scalar_method_keeps_to_the_lanes_shape():
    m = machine()
    for name in ("python_abs", "python_int", "python_float", "python_round", "python_bool"):
        assert hasattr(Scalars, name)
        for shape in ((), (1, 32), (4, 1), (4, 32)):
            assert np.shape(getattr(m, name)(np.ones(shape, np.float32)[()])) == shape
