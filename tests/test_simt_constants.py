"""Constants of a source that is never run: what its module's lines compute, or a refusal that names the line."""

import ast

import numpy as np
import pytest

from minikernels.core.errors import KernelError
from minikernels.simt import names
from minikernels.simt.constants import Outside, module_names
from minikernels.simt.source import program_of_text

KERNEL = """
def kernel(out):
    s = cuda.shared.array(WIDTH, float32)
    s[0] = out[0]
    out[0] = s[0]
"""
ODD = [  # ways to write 65 after D = 64
    "WIDTH = D | 1", "WIDTH = D + 1 - D % 2", "WIDTH = D + 1 - (D & 1)", "WIDTH = D ^ 1", "WIDTH = (D << 0) + 1",
    "WIDTH = D + (D % 2 == 0)", "WIDTH = D + (not D % 2)", "WIDTH = D + int(0 < D < 65)", "WIDTH = max(D, D + 1)",
    "WIDTH = D + 1 if D % 2 == 0 else D", "WIDTH: int = D + 1", "WIDTH = D\nWIDTH += 1", "WIDTH = (D, D + 1)[1]",
    "PAD, EXTRA = 1, 0\nWIDTH = D + PAD + EXTRA", "WIDTH = OTHER = D + 1", "WIDTH = [D + 1, D][D % 2]",
    "WIDTH = D\nif D % 2 == 0:\n    WIDTH = D + 1\nelse:\n    WIDTH = 7", "WIDTH = (half := D // 2) * 2 + 1",
    "import math as m\nWIDTH = m.ceil(D / 2) * 2 + 1", "from math import gcd\nWIDTH = gcd(D, D) + 1",
    "KIND = 'odd'\nWIDTH = D + 1 if KIND == 'odd' else D", "WIDTH = D + 1 - divmod(D, 2)[1]",
    "WIDTH = D + 1\nif __name__ == '__main__':\n    WIDTH = 3",
    "try:\n    WIDTH = D + 1\nexcept ValueError:\n    WIDTH = 3",
    "WIDTH = D + 1\nclass Tile:\n    WIDTH = 3", "WIDTH = D + 1\ndef other():\n    WIDTH = 3",
]
REFUSED = {  # source after D = 64 -> the line that is named
    "def odd(n):\n    return n | 1\nWIDTH = D\nWIDTH = odd(D)": "line 5 (WIDTH = odd(D))",
    "WIDTH = D\nfor WIDTH in range(3):\n    pass": "line 3 (for WIDTH in range(3):)",
    "WIDTH = D\nif unheard_of():\n    WIDTH = 3": "line 3 (if unheard_of():)",
    "WIDTH = D\ndel WIDTH": "line 3 (del WIDTH)",
    "WIDTH = 2**70": "line 2 (WIDTH = 2 ** 70)", "WIDTH = ((2**60) ** 60) ** 60": "line 2",
    "WIDTH = 1 << 10**9": "line 2",
    "WIDTH = 1 / 0": "line 2 (WIDTH = 1 / 0)", "WIDTH = 'wide'": "line 2 (WIDTH = 'wide')", "WIDTH = None": "line 2",
    "WIDTH = [1, 2]": "line 2", "from tiles import WIDTH": "line 2 (from tiles import WIDTH)",
    "WIDTH, *rest = 65, 1": "line 2", "class WIDTH:\n    pass": "line 2 (class WIDTH:)",
}


def found(source):
    return module_names(ast.parse("D = 64\n" + source), names.source_names())


@pytest.mark.parametrize("source", ODD)
def test_arithmetic_of_numbers_is_worked_out(source):
    assert found(source)["WIDTH"] == 65
    program_of_text("D = 64\n" + source + KERNEL, "kernel")


@pytest.mark.parametrize("source", REFUSED)
def test_what_is_more_than_arithmetic_is_refused_where_it_is_used(source):
    assert isinstance(found(source)["WIDTH"], Outside)
    with pytest.raises(KernelError, match="WIDTH is bound in line") as caught:
        program_of_text("D = 64\n" + source + KERNEL, "kernel")
    assert REFUSED[source] in str(caught.value)


def test_a_kernel_that_does_not_use_the_name_is_read():
    program_of_text("WIDTH = 4\nNAME = 'text'\nrows = open('rows')" + KERNEL, "kernel")


def test_parts_of_the_language_have_the_names_that_imports_and_lines_give_them():
    known = found("""
import math as m
import numpy as N
from math import exp, inf as INF
from numba import float32 as f32
from minikernels.launch import cuda as gpu
root = m.sqrt
LOWEST = f32(-INF)
scale = N.float32(1) / 3
""")
    assert (known["m"], known["N"], known["gpu"]) == tuple(map(names.Namespace, ("math", "np", "cuda")))
    assert (known["exp"], known["root"]) == (names.Math("exp"), names.Math("sqrt"))
    assert (known["INF"], known["LOWEST"]) == (np.inf, np.float32(-np.inf))
    assert known["f32"] == names.Cast(np.dtype("float32"))
    assert known["scale"] == np.float32(1) / 3
    assert isinstance(known["scale"], np.float32)
