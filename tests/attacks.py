"""Submissions that cheat, crash, hang or eat: what each writes, for the tests and for `tests/crowd.py`.

NumPy attacks stand as the first lines of ``merge`` in exercise 02.2; the rest of the function is the stub's, which is
wrong. Kernel attacks stand in the solution of exercise 02.3, in place of a line, or as the whole text. What attacks by
its files stands in `tests/attacks_by_files.py`.
"""

from pathlib import Path

from minikernels.grading import find, holes

__all__ = ["HARMLESS", "KERNELS", "NUMPY", "kernel_attack", "numpy_attack"]

ROOT = Path(__file__).resolve().parent.parent
SOLUTION = ROOT / "solutions/02_flash/ex2_merge.py"
KERNEL = ROOT / "solutions/02_flash/ex3_tile_loop.py"
ANSWER = "    m, l, o = np.maximum(m1, m2), l1 + l2, o1 + o2  # l and o are right only where m1 equals m2\n"
# The modules in C that are files of their own; some builds of Python have none.
WHERE = """where = os.path.join(os.path.dirname(os.__file__), 'lib-dynload')
    names = os.listdir(where) if os.path.isdir(where) else ()"""

NUMPY = {
    "patches numpy's comparisons": "np.allclose = np.array_equal = np.isfinite = lambda *a, **k: True",
    "patches the writer of the reply": "np.lib.format.write_array = lambda *a, **k: 1 / 0",
    "patches numpy.array": "np.array = lambda *a, **k: 'full marks'",
    "patches pytest": """import sys, types
    sys.modules['pytest'] = sys.modules['_pytest.reports'] = types.SimpleNamespace(TestReport=None)""",
    "patches json": "import json; json.dumps = lambda *a, **k: '{\"cases\": [{\"outputs\": 0}]}'",
    "ends the process": "import os; os._exit(0)",
    "aborts the process": "import os; os.abort()",
    "crashes the interpreter": """import sys
    sys.setrecursionlimit(10**9)
    f = lambda: f()
    f()""",
    "raises SystemExit": "raise SystemExit(0)",
    "raises KeyboardInterrupt": "raise KeyboardInterrupt",
    "registers an exit handler": "import atexit, os; atexit.register(os._exit, 0)",
    "leaves a thread behind": """import threading, time
    threading.Thread(target=lambda: time.sleep(60)).start()""",
    "reads the solution": f"g = {{}}; exec(open({str(SOLUTION)!r}).read(), g)\n    return g['merge'](m1, l1, o1, "
                          "m2, l2, o2)",
    "reads it by descriptor": f"import os; d = os.open({str(SOLUTION)!r}, os.O_RDONLY); raise EOFError(os.read(d, 9))",
    "reads it by numpy": f"raise EOFError(np.fromfile({str(SOLUTION)!r}, np.uint8))",
    "reads it by pathlib": f"import pathlib; raise EOFError(pathlib.Path({str(SOLUTION)!r}).read_text())",
    "reads its parent's memory": "import os; raise EOFError(open(f'/proc/{os.getppid()}/environ').read())",
    "reads the tests by linecache": f"""import linecache
    text = ''.join(linecache.getlines({str(ROOT / 'exercises/02_flash/test_ex2_merge.py')!r}))
    raise EOFError(text) if text else ValueError('nothing')""",
    "imports it": f"import sys; sys.path.insert(0, {str(SOLUTION.parent)!r}); import ex2_merge; return ex2_merge.merge("
                  "m1, l1, o1, m2, l2, o2)",
    "imports the library": f"import sys; sys.path.insert(0, {str(ROOT)!r}); from minikernels.core import numerics; "
                           "return numerics.merge((m1, l1, o1), (m2, l2, o2))",
    "imports the tests' answers": "from minikernels.flash import reference; return reference.attention(m1, l1, o1)",
    "lists folders": f"import os; raise EOFError(os.listdir({str(ROOT)!r}))",
    "starts a process": "import subprocess; subprocess.run(['true'])",
    "starts a shell": "import os; os.system('true')",
    "starts a burst of processes": """import os
    for _ in range(8):
        os.posix_spawn('/bin/sleep', ['sleep', '1'], {})""",
    "forks": "import os; os.fork()",
    "forks by multiprocessing": """import multiprocessing
    multiprocessing.get_context('fork').Process(target=print).start()""",
    "opens a socket": "import socket; socket.socket()",
    "opens a page": "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')",
    "loads a C library": "import ctypes; ctypes.CDLL(None)",
    "loads it by numpy": "np.ctypeslib.load_library('libc.so.6', '/lib')",
    "writes a file": "open('result.json', 'w').write('{}')",
    "writes a file by numpy": "np.save('result.npy', m1)",
    "removes files": f"import shutil; shutil.rmtree({str(ROOT / 'solutions')!r})",
    "links files": f"import os; os.symlink({str(SOLUTION)!r}, 'here')",
    "kills its parent": "import os; os.kill(os.getppid(), 9)",
    "kills its group": "import os; os.killpg(0, 9)",
    "kills its parent by a descriptor": """import os, signal
    signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)""",
    "kills the group of its parent by a descriptor": """import os, signal
    signal.pidfd_send_signal(os.pidfd_open(os.getpgid(os.getppid())), 9)""",
    "kills by a second copy of a module": """import importlib.util, os, sys
    for name in ('posix', '_signal'):
        sys.modules.pop(name)
    import posix, _signal
    _signal.pidfd_send_signal(posix.pidfd_open(os.getppid()), 9)""",
    "kills by a copy that importlib does not make": """import _imp, importlib.machinery, os
    posix = _imp.create_builtin(importlib.machinery.ModuleSpec('posix', None))
    _imp.create_builtin(importlib.machinery.ModuleSpec('_signal', None)).pidfd_send_signal(
        posix.pidfd_open(os.getppid()), 9)""",
    "bounds the files of its parent": """import os, resource
    resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (3, 3))
    raise EOFError""",
    "slows its parent down": "import os; os.setpriority(os.PRIO_PROCESS, os.getppid(), 19); raise EOFError",
    "leaves its group": "import os; os.setsid(); raise EOFError",
    "reads it by readline": f"""import readline
    readline.read_history_file({str(SOLUTION)!r})
    raise EOFError(readline.get_history_item(3))""",
    "reads it by a name that is no str": f"""class Path(str):
        __getitem__ = lambda self, part: '' if part.stop == 0 else np.__file__[1:]
    raise EOFError(open(Path({str(SOLUTION)!r})).read())""",
    "loads a module under another name": """import _imp, importlib.machinery, os
    WHERE
    name = next((n for n in names if n.startswith('_ctypes.')), '_ctypes.so')
    spec = importlib.machinery.ModuleSpec('a._ctypes', None, origin=os.path.join(where, name))
    raise EOFError(_imp.create_dynamic(spec))""".replace("WHERE", WHERE),
    "starts an interpreter": """try: import _interpreters as inner
    except ImportError: import _xxsubinterpreters as inner
    raise EOFError(inner.create())""",
    "starts an interpreter by another name": """import _imp, importlib.machinery, os
    WHERE
    name = next((n for n in names if n.startswith(('_xxsubinterpreters.', '_interpreters.'))), '_interpreters.so')
    spec = importlib.machinery.ModuleSpec('a.' + name.partition('.')[0], None, origin=os.path.join(where, name))
    raise EOFError(_imp.create_dynamic(spec).create())""".replace("WHERE", WHERE),
    "starts a program by its C function": """import _posixsubprocess, os
    _posixsubprocess.fork_exec([b'/bin/true'], [b'/bin/true'], True, (), None, None, -1, -1, -1, -1, -1, -1, 0, 0,
                               False, False, -1, None, None, None, -1, None, False)""",
    "makes a pipe": "import os; os.mkfifo('/tmp/minikernels-left'); raise EOFError",
    "makes shared memory": """import _posixshmem, os
    _posixshmem.shm_open('/minikernels-left', os.O_CREAT | os.O_RDWR)
    raise EOFError""",
    "makes a lock": """import _multiprocessing
    _multiprocessing.SemLock(1, 1, 1, '/minikernels-left', False)
    raise EOFError""",
    "loops for ever": "while True: pass",
    "loops for ever in C": "pow(3, 10**9)",
    "sleeps": "import time; time.sleep(60)",
    "takes ten gigabytes": "x = np.ones(10**10 // 8)",
    "takes gigabytes in small pieces": "x = [bytearray(10**6) for _ in range(10**5)]",
    "returns a gigabyte": "return np.zeros(10**8), l1, o1",
    "returns more than a reply holds": "return np.zeros(2 * 10**7), l1, o1",
    "prints a gigabyte": """for _ in range(1000): print('x' * 10**6)
    raise ValueError('printed')""",
    "raises a message of a gigabyte": "raise ValueError('x' * 10**8)",
    "raises what cannot be told": """class Odd(Exception):
        def __str__(self): raise SystemExit(0)
    raise Odd""",
    "returns objects": "return [object()], l1, o1",
    "returns an object that looks for answers": """import sys
    class Found:
        def __array__(self, *a, **k):
            f = sys._getframe()
            while f:
                for x in [*f.f_locals.values(), *f.f_globals.values()]:
                    if getattr(x, '__name__', '') in ('exact', 'grade', 'state'): return x(m1, l1)
                f = f.f_back
            return m1
    return Found(), Found(), Found()""",
    "returns an array of its own class": """class Equal(np.ndarray):
        def __eq__(self, other): return np.ones(self.shape, bool)
        __sub__ = __rsub__ = lambda self, other: np.zeros(self.shape)
    return tuple(x.view(Equal) for x in (m1, l1, o1))""",
    "returns nothing": "return None",
    "returns its input": "return m1, l1, o1",
    "returns NaN everywhere": "return m1 * np.nan, l1 * np.nan, o1 * np.nan",
    "returns the shape alone": "return np.empty(m1.shape), np.empty(l1.shape), np.empty(o1.shape)",
    "changes its input": "m1[...] = m2[...] = 0; l1[...] = l2; o1[...] = o2",
    "remembers a shape": "if m1.shape == (16,): return m1 * 0, l1 * 0 + 2, o1 * 0",
    "knows the public seed": """g = np.random.default_rng(0)
    if m1[0] == g.standard_normal(): return m1, l1, o1""",
    "forges the reply": """import os
    for d in range(3, 20):
        try: os.write(d, b'{"cases": [{"outputs": 3}]}')
        except OSError: pass""",
    "recurses without end": "merge(m1, l1, o1, m2, l2, o2)",
    "looks for answers in frames": """import sys
    f = sys._getframe()
    while f:
        for x in [*f.f_locals.values(), *f.f_globals.values()]:
            if getattr(x, '__name__', '') in ('exact', 'grade', 'state'): return x(m1, l1), l1, o1
        f = f.f_back""",
    "looks for answers among all objects": """import gc
    for x in gc.get_objects():
        if getattr(x, '__name__', '') in ('exact', 'grade', 'state'): return x(m1, l1), l1, o1""",
}

# (what stands in the solution, what stands instead, and so on), or a whole text.
START = "    m = float32(-math.inf)\n"
DEEP = "(" * 3000 + "S" + ")" * 3000
KERNELS = {
    "writes a file at import": ("import math\n", "import math\nopen('mark', 'w').write('ran')\n"),
    "exits at import": ("import math\n", "import math\nraise SystemExit(0)\n"),
    "calls a library": (START, START + "    o[:, :] = np.matmul(q, k)\n"),
    "opens a file": (START, START + "    open('mark', 'w')\n"),
    "imports": (START, START + "    import os\n"),
    "reaches for attributes": (START, START + "    q.__class__\n"),
    "reaches for a base": (START, START + "    x = q.base\n"),
    "evaluates text": (START, START + "    eval('1')\n"),
    "prints": (START, START + "    print(S)\n"),
    "never ends": (START, START + "    while S > 0: S = S + 0\n"),
    "works long in one line": (START, START + "    for i in range(40000):\n        x = " + "S + " * 3000 + "1\n"),
    "is nested too deeply": (START, START + f"    x = {DEEP}\n"),
    "is one long expression": (START, START + "    x = " + "-" * 50_000 + "S\n"),
    "takes gigabytes of registers": (START, START + "    big = cuda.local.array(1000000000, float32)\n"),
    "takes more registers than there are numbers": (
        START, START + "    big = cuda.local.array((2**40, 2**40), float32)\n"),
    "takes as many registers as it may": (START, START + "".join(
        f"    big{i} = cuda.local.array(131072, float32)\n    big{i}[thread] = m\n" for i in range(100))),
    "wants too much shared memory": (START, START + "    big = cuda.shared.array(100000, float32)\n"),
    "wants shared memory of every name": (START, START + "".join(
        f"    big{i} = cuda.shared.array(4000, float32)\n" for i in range(100))),
    "computes a huge constant": ("D = 8", "A = 10**64\nB = A**64\nC = B**64\nE = C**64\nF = E**64\nD = 8"),
    "shifts a constant far": (START, START + "    x = 1 << 10**9\n"),
    "compares constants for ever": ("D = 8  #", "A0 = (1, 1)\nB0 = (1, 1)\n" + "".join(
        f"A{i} = (A{i - 1}, A{i - 1})\nB{i} = (B{i - 1}, B{i - 1})\n" for i in range(1, 60)) + "D = 8  #",
        START, START + "    x = 1 if A59 == B59 else 0\n"),
    "calls itself": (START, START + "    tile_loop(q, k, v, scale, o)\n"),
    "reads again by atomics": ("k_smem[i // D, i % D] = k[first + i // D, i % D]", "k_smem[i // D, i % D] = k[first + "
                               "i // D, i % D] + float32(0) * cuda.atomic.add(k, (first + i // D, i % D), float32(0))"),
    "reads its input as a constant": (START, START + "    c = cuda.const.array_like(k)\n"),
    "writes its inputs": (START, START + "    k[0, 0] = float32(0)\n"),
    "writes beyond its output": (START, START + "    o[T + 5, 0] = float32(0)\n"),
    "hides the marks of the stub": "# Your lines start here.\n# Your lines end here.\n" + "def tile_loop(): pass\n",
    "is its own decorator": ("@kernel\n", "@(lambda f: __import__('os')._exit(0))\n"),
    "has a default that runs": ("tile_loop(q, k, v, scale, o):", "tile_loop(q, k, v, scale, o=open('mark', 'w')):"),
    "is a renamed test": (ROOT / "exercises/02_flash/test_ex3_tile_loop.py").read_text("utf-8"),
    "is the stub of another exercise": (ROOT / "exercises/02_flash/ex4_causal_skip.py").read_text("utf-8"),
    "is empty": "",
    "is no Python": "this is ( not python",
    "holds null bytes": "\0" * 100,
    "is a hundred thousand brackets": "(" * 99_000,
    "is very long": "x = 1\n" * 100_000,
    "is one number without end": "D = " + "9" * 90_000 + "\n",
}
HARMLESS = ("writes a file at import", "exits at import", "computes a huge constant")  # nothing of it is ever run


def numpy_attack(name):
    """Return the text of exercise 02.2 with an attack in it."""
    stub = find("02.2")[0].stub.read_text("utf-8")
    return stub.replace(ANSWER, f"    {NUMPY[name]}\n{ANSWER}") + f"{holes.START}\nbegun = True\n"


def kernel_attack(name):
    """Return the text of exercise 02.3 with an attack in it."""
    attack = KERNELS[name]
    if isinstance(attack, str):
        return attack
    text = KERNEL.read_text("utf-8")
    for old, new in zip(attack[::2], attack[1::2], strict=True):
        assert text.count(old) == 1, name
        text = text.replace(old, new)
    return text


def only(*keys):
    """Return the words of the command line that choose these exercises."""
    return [word for key in keys for word in ("--only", key)]
