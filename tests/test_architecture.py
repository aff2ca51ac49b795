"""The arrows of the design, the style that ruff can check, and the sizes of files."""

import ast
import functools
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from minikernels import catalog

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "minikernels"
CUDA = {"cuda", "cupy", "numba"}  # `cuda` is NVIDIA's cuda.bindings
HEAVY = ("numba", "cupy", "torch", "matplotlib", "IPython", "jupyterlab", "ipywidgets", "anywidget")
PARTS = ("reference", "online", "tiled", "numba", "raw", "traffic")


def run(*command):
    """Run a tool of this environment in the repository's root."""
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")


@functools.cache
def imports(path):
    """Return the dotted names that a file imports, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides where it leads"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def sources():
    """Return every Python file of the package, as a path relative to it."""
    return sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def needs_numpy_alone(path):
    """Return whether the design lets a file import NumPy and the standard library alone."""
    in_technique = path.parts[0] in catalog.names()
    return path.parts[0] in ("core", "simt") or (in_technique and path.stem in ("reference", "tiled", "traffic"))


def test_import_contracts_hold():
    done = run("-c", "import sys; from importlinter.cli import lint_imports_command as main; sys.exit(main())",
               "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing():
    done = run("-m", "ruff", "check", "--no-cache", "--output-format", "concise", ".")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [p for p in sources() if needs_numpy_alone(p)], ids=str)
def test_these_need_numpy_alone(path):
    """And so does every module of the project that they import, and every one that those import."""
    known, waiting = set(), [path]
    while waiting:
        names = imports(PACKAGE / waiting.pop())
        own = {name for name in names if name.split(".")[0] == "minikernels"}
        foreign = {name for name in names - own if name.split(".")[0] not in sys.stdlib_module_names}
        assert {name.split(".")[0] for name in foreign} <= {"numpy"}, f"{path} reaches {sorted(foreign)}"
        assert not {name for name in own if name.startswith("minikernels.launch")}, f"{path} reaches launch"
        files = {Path(*name.split(".")[1:]).with_suffix(".py") for name in own if "." in name}
        fresh = {file for file in files if (PACKAGE / file).exists()} - known
        known |= fresh
        waiting += fresh


@pytest.mark.parametrize("path", [p for p in sources() if p.parts[0] != "launch"], ids=str)
def test_cuda_is_imported_in_launch_alone(path):
    found = {name for name in imports(PACKAGE / path) if name.split(".")[0] in CUDA}
    assert not found, f"{path} imports {sorted(found)}; take it from minikernels.launch"


def test_torch_trains_the_tiny_model_and_is_a_peer_and_nothing_else():
    users = {path for path in sources() if "torch" in {name.split(".")[0] for name in imports(PACKAGE / path)}}
    assert not {path for path in users if path.parts[0] != "bench" and path.parts[:2] != ("model", "train")}


@pytest.mark.parametrize("name", catalog.names())
def test_parts_of_a_technique_never_import_each_other(name):
    """``numba_cuda`` and ``numba_tiled`` are one part; ``numba_tiled`` and ``traffic`` are two."""
    modules = {path.stem: path for path in (PACKAGE / name).glob("*.py")}
    parts = {stem: stem.split("_")[0] for stem in modules if stem.split("_")[0] in PARTS}
    for stem, part in parts.items():
        used = {other for other in modules if f"minikernels.{name}.{other}" in imports(modules[stem])}
        assert "api" not in used, f"{name}/{stem}.py imports api"
        assert {parts.get(other, part) for other in used} <= {part}, f"{name}/{stem}.py imports {sorted(used)}"


def test_catalog_and_package_import_nothing_heavy():
    code = ("import json, sys, minikernels, minikernels.cli; from minikernels import catalog;"
            "[catalog.technique(name).rungs for name in catalog.names()];"
            f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))")
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_no_folder_is_a_drawer_for_odds_and_ends():
    drawers = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not [p for p in sources() if drawers & set(p.with_suffix("").parts)]


def test_files_stay_readable():
    """About 300 lines in a file of the package; none has over 400."""
    lengths = {str(p): (PACKAGE / p).read_text("utf-8").count("\n") for p in sources()}
    assert not {name: length for name, length in lengths.items() if length > 400}


def test_wheel_holds_every_kind_of_file_in_the_package():
    """Hatchling takes what lies under minikernels/ unless git ignores it; nothing there may be ignored."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["minikernels"]}
    kept = {p.suffix for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    data = {".npz", ".json", ".jsonl", ".toml", ".md", ".mplstyle", ".svg", ".txt"}
    assert kept <= {".py", ".cu", ".cuh", ".js", ".css"} | data
