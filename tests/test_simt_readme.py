"""The machine's README says what the machine does."""

import re
from dataclasses import fields

import numpy as np
import pytest

from minikernels import simt
from minikernels.core.traffic import Traffic
from minikernels.launch import cuda, float32
from minikernels.simt import names
from minikernels.simt.findings import KINDS, STOPPING


@pytest.fixture(scope="module")
def text(root):
    return (root / "minikernels" / "simt" / "README.md").read_text("utf-8")


def test_every_counter_is_in_the_table(text):
    counters = [f.name for f in fields(Traffic) if not f.name.startswith("by_")] + ["flop", "mean_active_lanes"]
    table = text.split("## Counters")[1].split("\n\n")[1]
    first_column = "".join(row.split("|")[1] for row in table.splitlines())
    assert sorted(re.findall(r"`(\w+)`", first_column)) == sorted(counters)


def test_every_kind_of_finding_is_in_the_table(text):
    rows = re.findall(r"^\| `(\w+)` \|.*\| (yes)? ?\|$", text, re.M)
    assert dict(rows) == {k: "yes" if k in STOPPING else "" for k in KINDS}


def test_every_function_of_cuda_is_named(text):
    language = text.split("* **cuda**:")[1].split("* **Arrays**")[0]
    for group in re.findall(r"`([^`]*\{[^`]*)`", language):  # a{b,c}d or a{b c}d stands for abd and acd
        head, choices, tail = re.match(r"([^{]*)\{([^}]*)\}(.*)", group).groups()
        language += " ".join(f" {head}{c}{tail}" for c in re.split(r"[, ]", choices))
    words = set(re.findall(r"[\w.]+", language))
    prefixed = {"syncthreads_count", "syncthreads_and", "syncthreads_or", "threadfence_block", "threadfence_system"}
    assert set(names.CUDA_CALLS) - words - prefixed == {"nanosleep"}
    assert {f"atomic.{n}" for n in names.ATOMICS} <= words
    assert names.CUDA_VALUES | names.CUDA_SPECIALS | set(names.CUDA_MATH) <= words
    assert names.BUILTINS <= set(re.findall(r"\w+", text))


def doubled(x, out):
    acc = x[cuda.grid(1)] * float32(2)
    out[cuda.grid(1)] = acc


def test_examples_run(text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    space = {"kernel": doubled, "grid": 6, "block": 32, "x": np.ones(192, np.float32), "out": np.zeros(192, np.float32)}
    for example in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(example, space)
    assert (space["out"] == 2).all()
    assert "load_requests=6" in capsys.readouterr().out
    assert simt.Trace.load("run.trace").registers == ["acc"]
