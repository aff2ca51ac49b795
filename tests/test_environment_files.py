"""environment.yml and environment-cpu.yml say what pyproject.toml says."""

import re
import tomllib

import pytest
import yaml

GPU_ONLY = {"cupy", "numba-cuda", "cuda-version"}


def environment(root, name):
    """Return the conda packages and the pip lines of an environment file, as {name: bound}."""
    listed = yaml.safe_load((root / name).read_text("utf-8"))["dependencies"]
    pip = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    return bounds(entry for entry in listed if isinstance(entry, str)), bounds(pip)


def bounds(requirements):
    """Return {name: bound} of requirement lines; extras and markers are dropped, `-e .` stays whole."""
    parts = (re.match(r"(-e \.|[\w-]+)(?:\[.*?\])?\s*([^;]*)", line).groups() for line in requirements)
    return {name: bound.strip() for name, bound in parts}


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))


@pytest.mark.parametrize("name", ["environment.yml", "environment-cpu.yml"])
def test_environment_files_hold_the_dependencies_of_pyproject(root, project, name):
    conda, pip = environment(root, name)
    wanted = bounds(project["project"]["dependencies"])
    assert {k: conda.get(k) for k in wanted} == wanted
    assert conda["python"] == project["project"]["requires-python"]
    tools = bounds(project["dependency-groups"]["dev"])
    assert pip.pop("-e .") == ""
    assert {**pip, "pytest": conda["pytest"]} == tools
    assert conda.keys() - wanted.keys() - GPU_ONLY == {"python", "pip", "pytest"}


def test_environment_with_gpu_holds_the_cuda_extra(root, project):
    conda, _ = environment(root, "environment.yml")
    extra = bounds(project["project"]["optional-dependencies"]["cuda13"])
    assert conda["cupy"] == extra["cupy-cuda13x"]
    assert conda["numba-cuda"] == extra["numba-cuda"]
    assert conda["cuda-version"] == "=13.*"


def test_environment_files_differ_by_the_gpu_packages_alone(root):
    gpu, gpu_pip = environment(root, "environment.yml")
    cpu, cpu_pip = environment(root, "environment-cpu.yml")
    assert gpu.keys() - cpu.keys() == GPU_ONLY
    assert {k: v for k, v in gpu.items() if k not in GPU_ONLY} == cpu
    assert gpu_pip == cpu_pip


def test_cuda_extras_agree_and_conflict(project):
    extras = project["project"]["optional-dependencies"]
    assert [line.replace("12", "13") for line in extras["cuda12"]] == extras["cuda13"]
    assert all("sys_platform != 'darwin'" in line for lines in extras.values() for line in lines)
    assert project["tool"]["uv"]["conflicts"] == [[{"extra": "cuda12"}, {"extra": "cuda13"}]]


def test_no_file_names_a_registry(root, project):
    """A lock file or an index address would tie a clone to one network."""
    text = "".join((root / name).read_text("utf-8")
                   for name in ("pyproject.toml", "environment.yml", "environment-cpu.yml", ".ci/run"))
    assert "://" not in text
    assert "index" not in project["tool"]["uv"]
    assert "uv.lock" in (root / ".gitignore").read_text("utf-8").split()
