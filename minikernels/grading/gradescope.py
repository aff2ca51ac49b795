"""The zip that Gradescope is given as an autograder: this package, the exercises with their tests, and two scripts."""

import secrets
import shlex
import zipfile

from minikernels.grading import course

__all__ = ["write_zip"]

SETUP = """#!/usr/bin/env bash
# Gradescope runs this once, when the autograder's image is built.
set -euo pipefail
apt-get update
apt-get install -y --no-install-recommends python3-pip
PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install uv
cd /autograder/source
uv venv --python ">=3.11" /autograder/venv
uv pip install --python /autograder/venv/bin/python numpy numba rich pytest --constraint constraints.txt
"""

RUN = """#!/usr/bin/env bash
# Gradescope runs this for every submission and reads results.json, which is there whatever happens.
results=/autograder/results/results.json
mkdir -p /autograder/results
cat > "$results" <<'NOTHING'
{{"score": 0, "output": "The autograder did not come to an end; ask your instructor.", "tests": []}}
NOTHING
cd /autograder/source
export PYTHONPATH=/autograder/source
/autograder/venv/bin/python -m minikernels grade /autograder/submission --gradescope "$results" {words}
"""

LEFT_OUT = {"__pycache__", ".ipynb_checkpoints"}


def write_zip(path, order):
    """Write the autograder of an order; the seed and the hidden tests travel with it, and no solution does."""
    root = course.folder().parent
    words = [word for key in order.exercises for word in ("--only", key)]
    words += ["--seed", str(order.seed or secrets.randbits(62))]
    words += ["--time-limit", str(order.time_limit)] if order.time_limit else []
    words += ["--hidden", "/autograder/source/hidden"] if order.hidden else []
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        add(archive, "setup.sh", SETUP.encode(), executable=True)
        add(archive, "run_autograder", RUN.format(words=shlex.join(words)).encode(), executable=True)
        add(archive, "constraints.txt", constraints(root).encode())
        add(archive, "pyproject.toml", (root / "pyproject.toml").read_bytes())
        for name in ("minikernels", "exercises"):
            add_folder(archive, root / name, name)
        if order.hidden:
            add_folder(archive, order.hidden, "hidden")


def constraints(root):
    """Return the bounds of pyproject.toml on the packages that grading needs."""
    import tomllib

    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    lines = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    return "".join(f"{line}\n" for line in lines if line.startswith(("numpy", "numba", "rich", "pytest>")))


def add_folder(archive, folder, name):
    """Add the files below a folder."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not LEFT_OUT & set(p.parts)):
        add(archive, f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def add(archive, name, data, executable=False):
    """Add a file, dated like all the others, so that the same order and seed give the same zip."""
    entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
    entry.external_attr = (0o100755 if executable else 0o100644) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, data)
