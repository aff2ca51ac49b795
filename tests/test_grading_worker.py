"""The process of a NumPy submission: what it does to nobody else, what it imports, and what comes back."""

import sys
from pathlib import Path

import numpy as np
import pytest

from minikernels.grading import Failure, sandbox
from minikernels.grading.sandbox import Limits, call
from minikernels.grading.submission import Submission
from tests import attacks

QUICK = Limits(seconds=1)

# What the fence refuses, so that the message names it: with or without Python's own words around it.
REFUSED = ("reads", "lists", "starts", "forks", "opens", "loads", "writes", "removes", "links", "kills", "bounds",
           "slows", "leaves its", "makes")


@pytest.mark.parametrize("name", attacks.NUMPY)
def test_a_cheat_gains_nothing(tmp_path, name):
    path = tmp_path / "ex2_merge.py"
    path.write_text(attacks.numpy_attack(name), "utf-8")
    before = left(tmp_path)
    state = np.zeros(3, np.float32), np.ones(3, np.float32), np.ones((3, 2), np.float32)
    other = (state[0] + 1, *state[1:])
    try:
        (found,) = Submission(path, QUICK).call("merge", (*state, *other))
    except Failure as failure:
        assert "ex2_merge.py" in str(failure) and len(str(failure)) < 2000
        assert ("an exercise " in str(failure)) or not name.startswith(REFUSED) or name in TOLD_OTHERWISE, failure
    else:
        right = np.float32(1 + np.exp(-1))
        assert len(found) != 3 or found[1].shape != (3,) or not np.allclose(found[1], right)
    assert left(tmp_path) == before


def left(folder):
    """Return what a submission might have left behind."""
    shared = Path("/dev/shm")
    return {path for place in (folder, Path("/tmp"), shared) if place.is_dir() for path in place.iterdir()
            if place == folder or "minikernels-left" in path.name}


# Python says it in words of its own, or the function goes on and returns what is wrong.
TOLD_OTHERWISE = ("reads the tests by linecache", "forks by multiprocessing", "opens a page", "loads it by numpy",
                  "loops for ever", "starts a burst of processes")


# All that acts on other processes than its own: where the system takes nothing away, Python alone has to refuse it.
@pytest.mark.parametrize("name", [n for n in attacks.NUMPY if n.startswith(("kills", "bounds", "slows", "leaves its"))])
def test_python_alone_keeps_a_submission_from_other_processes(tmp_path, monkeypatch, name):
    monkeypatch.setattr(sandbox, "confined", lambda: ((), ""))
    path = tmp_path / "ex2_merge.py"
    # A descriptor of a process that has ended: whatever is not refused hits nobody.
    text = attacks.numpy_attack(name).replace("os.getppid()", "2**22").replace("os.getpgid(2**22)", "2**22")
    path.write_text(text.replace("os.killpg(0, 9)", "os.killpg(2**22, 9)"), "utf-8")
    with pytest.raises(Failure, match="an exercise does not "):
        Submission(path, QUICK).call("merge", *[[np.zeros(1, np.float32)] * 6])


def test_a_worker_can_name_no_process_of_others_where_the_system_hides_them():
    if "other processes" not in sandbox.confined()[1]:
        pytest.skip("no namespaces of processes here")
    (found,) = call("import os\ndef f(x):\n    return os.getpid(), os.getppid()", "f.py", "f", [(np.zeros(1),)])
    assert [int(x) for x in found] == [2, 1]


@pytest.mark.parametrize("line", [
    "from numpy.testing import assert_allclose", "import asyncio", "import subprocess", "import numpy.f2py",
    "import multiprocessing", "import unittest, doctest, timeit, tempfile, sqlite3, ctypes, urllib.request, pdb"])
def test_what_is_imported_and_not_used_costs_nothing(line):
    (found,) = call(f"{line}\ndef f(x):\n    return x", "f.py", "f", [(np.arange(3),)])
    assert found[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("line, said", [
    ("import pytest", "No module named 'pytest'"),  # it is installed, beside NumPy
    ("import multiprocessing.shared_memory", "does not import _posixshmem")])
def test_a_refused_import_names_the_line(line, said):
    with pytest.raises(Failure) as failure:
        call(f"x = 1\n{line}\ndef f(x):\n    return x", "f.py", "f", [(np.arange(3),)])
    assert "f.py:2: f raised" in str(failure.value) and said in str(failure.value)
    assert f"(in the line: {line})" in str(failure.value)


@pytest.mark.parametrize("future, kind", [("from __future__ import annotations\n", "float"), ("", "'float'")])
def test_a_submission_may_define_dataclasses(future, kind):
    source = f"{future}from dataclasses import dataclass\n@dataclass\nclass State:\n    m: {kind}\n"
    (found,) = call(source + "def f(x):\n    return State(x).m", "f.py", "f", [(np.arange(3),)])
    assert found[0].tolist() == [0, 1, 2]


def test_frozen_arguments_stay_as_they_are():
    source = "def f(x):\n    x += 1\n    return x"
    assert call(source, "f.py", "f", [(np.arange(3),)])[0][0].tolist() == [1, 2, 3]
    with pytest.raises(Failure, match=r"f.py:2: f raised ValueError: .*; the arguments must stay as they are"):
        call(source, "f.py", "f", [(np.arange(3),)], frozen=True)
    assert call("def f(x):\n    return x + 1", "f.py", "f", [(np.arange(3),)], frozen=True)[0][0].tolist() == [1, 2, 3]


def test_output_does_not_reach_the_grader(tmp_path, capfd):
    source = "import sys\ndef f(x):\n    for _ in range(1000): print('x' * 10**5)\n    sys.stderr.write('y')\n"
    source += "    return x"
    assert call(source, "f.py", "f", [(np.arange(3),)])[0][0].tolist() == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


def test_outputs_come_back_whole():
    source = "import numpy as np\ndef f(x, y):\n    return np.asfortranarray(x), x[::2].T, y > 0, float(y)"
    x = np.arange(12.0, dtype=np.float32).reshape(4, 3)
    a, b, c, d = call(source, "f.py", "f", [(x, np.int64(2))])[0]
    assert a.tolist() == x.tolist() and a.dtype == np.float32
    assert b.tolist() == x[::2].T.tolist()
    assert c.shape == () and bool(c) and d == 2.0


@pytest.mark.parametrize("source, said", [
    ("def f(x):\n    return x[9]", "f.py:2: f raised IndexError"),
    ("def g(x):\n    return x", "f.py: f raised NameError: the file defines no function f"),
    ("def f(x):\n    x + 1", "it returned None: is there a return?"),
    ("def f(x):\n    return 'a'", "which is no array of numbers"),
    ("import torch\ndef f(x):\n    return x", "f.py:1: f raised ModuleNotFoundError"),
])
def test_a_failing_call_names_its_line(source, said):
    with pytest.raises(Failure) as failure:
        call(source, "f.py", "f", [(np.arange(3),)])
    assert said in str(failure.value) and "case 1, called with int64[3]" in str(failure.value)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_worker_sees_no_environment(monkeypatch):
    monkeypatch.setenv("SECRET", "value")
    source = "import os\ndef f(x):\n    return 'SECRET' in os.environ, len(os.environ) < 6"
    assert [bool(x) for x in call(source, "f.py", "f", [(np.zeros(1),)])[0]] == [False, True]
