"""The command line: what it prints, what it writes, and that every mistake is one line and an exit code."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from minikernels import catalog, cli, launch
from minikernels.bench import inputs, machine, record
from minikernels.commands import lab
from minikernels.core.errors import DeviceError

SMALL = ["--random", "1,2,1,17,40,8"]


@pytest.fixture
def minikernels(capsys, tmp_path, monkeypatch):
    """Run the command in an empty folder; returns (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as end:
            cli.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return run


def test_climb_finds_every_rung_right_and_every_count_predicted(minikernels, tmp_path):
    code, out, err = minikernels("climb", "flash", "--json", *SMALL)
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data["sizes"] == {"B": 1, "H": 2, "G": 1, "T": 17, "S": 40, "D": 8}
    assert [rung["name"] for rung in data["rungs"]] == [rung.name for rung in catalog.technique("flash").rungs]
    for rung in data["rungs"]:
        if rung["kind"] != "raw":
            assert rung["right"], rung
            assert 0 <= rung["outputs"]["o"]["error"] <= rung["outputs"]["o"]["budget"]
        if rung["kind"] == "numba":
            assert rung["predicted_equals_counted"] is True
            assert rung["counted"]["hbm_bytes"] == rung["predicted"]["hbm_bytes"] > 0
    page = (tmp_path / "minikernels-flash.html").read_text("utf-8")
    assert "v2_tiled beside v3_split_rows" in page
    assert "https://" not in page.replace("https://www.w3.org", "")


def test_climb_prints_a_table_with_every_rung_and_the_page(minikernels, tmp_path):
    code, out, _ = minikernels("climb", "flash", *SMALL, "--dtype", "float16", "--no-causal",
                               "--out", tmp_path / "my" / "a.html")
    assert code == 0
    for rung in catalog.technique("flash").rungs:
        assert rung.name in out
    assert "float16" in out
    assert "causal" not in out
    assert out.split()[-1].endswith("a.html")
    assert (tmp_path / "my" / "a.html").stat().st_size > 10_000


@pytest.mark.skipif(machine.driver()[1] != [], reason="this machine has a GPU, where GPU rungs run")
def test_climb_says_which_rungs_need_a_gpu(minikernels):
    rungs = json.loads(minikernels("climb", "flash", "--json", *SMALL)[1])["rungs"]
    raw = [rung for rung in rungs if rung["kind"] == "raw"]
    assert raw
    assert all(rung["where"] is None and rung["right"] is None for rung in raw)
    assert all(rung["reason"].startswith("needs a GPU") for rung in raw)


@pytest.mark.parametrize(("technique", "sizes", "unfit"), [
    ("flash", "1,2,1,5,3,300", ["v2_keys_outside", "v2_tiled", "v3_split_rows"]),
    ("gqa", "1,80,1,4,200", ["v2_shared_group"]),
    ("selective_scan", "1,1,1,300", ["v1_channel_major", "v2_token_major", "v3_hillis_steele", "v4_blelloch"]),
    ("linear_attention", "1,1,2,200", ["v2_chunk"]),
    ("kv_compression", "1,1,1,1,300", ["v1_dequantize", "v2_folded_scales"]),
])
def test_climb_goes_on_where_a_rung_does_not_take_the_sizes(minikernels, technique, sizes, unfit):
    code, out, err = minikernels("climb", technique, "--json", "--random", sizes)
    assert (code, err) == (0, "")
    rungs = [rung for rung in json.loads(out)["rungs"] if rung["kind"] != "raw"]
    assert [rung["name"] for rung in rungs if rung["reason"] == "does not take these sizes"] == unfit
    assert all(rung["right"] for rung in rungs if rung["name"] not in unfit)


def test_climb_fails_where_a_rung_is_wrong(minikernels, monkeypatch):
    flash = catalog.technique("flash")

    def forgetful(rung, inputs):
        outputs = flash.run(rung, inputs)
        return {**outputs, "o": outputs["o"] * 1.01} if rung.name == "tiled" else outputs

    monkeypatch.setitem(catalog.TABLE, "flash", replace(flash, run=forgetful))
    code, out, _ = minikernels("climb", "flash", *SMALL)
    assert code == 1
    assert out.count("WRONG") == 1
    assert "tiled, o: o[b=0" in out


def test_climb_fails_where_the_count_is_not_the_prediction(minikernels, monkeypatch):
    flash = catalog.technique("flash")

    def twice(rung, inputs):
        return flash.traffic(rung, inputs) + flash.traffic(rung, inputs)

    monkeypatch.setitem(catalog.TABLE, "flash", replace(flash, traffic=twice))
    code, out, _ = minikernels("climb", "flash", *SMALL)
    assert code == 1
    assert "v2_tiled: load_bytes predicted" in out


def test_climb_reads_the_text_that_the_user_names(minikernels, tmp_path):
    text = tmp_path / "name with spaces \u00e9.bin"
    text.write_bytes(b"\xff\xfe not UTF-8 \x00" * 5)
    code, out, _ = minikernels("climb", "flash", "--json", "--text", text, "--layer", 0)
    data = json.loads(out)
    assert code == 0
    assert data["sizes"]["T"] == 5 * 14
    assert text.name in data["origin"]


def test_climb_cuts_a_long_text_and_says_so(minikernels, tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "LENGTH", 64)  # the work grows with its square
    text = tmp_path / "long.txt"
    text.write_bytes(b"def f(x):\n    return x\n" * 50_000)
    data = json.loads(minikernels("climb", "flash", "--json", "--text", text)[1])
    assert data["sizes"]["T"] == inputs.LENGTH
    assert f"the first {inputs.LENGTH} of 1,150,000 bytes" in data["origin"]


def test_trace_writes_a_page_of_one_rung_or_two(minikernels, tmp_path):
    code, out, _ = minikernels("trace", "flash", "v2_tiled", "--beside", "v2_keys_outside", *SMALL,
                               "-o", tmp_path / "page.html")
    assert code == 0
    assert out.splitlines()[-1] == str(tmp_path / "page.html")
    assert out.count("steps of block (0, 0, 0)") == 2
    assert "flash: v2_tiled beside v2_keys_outside" in (tmp_path / "page.html").read_text("utf-8")
    assert minikernels("trace", "flash", "v1_three_pass", "--launch", 1, *SMALL)[1].startswith("softmax_kernel")


KERNEL = """
import numpy as np
from minikernels.launch import cuda, kernel

@kernel
def shift_left(x, out):
    i = cuda.grid(1)
    {line}
    out[i] = x[i + 1]

if __name__ == "__main__":
    x = np.arange(64, dtype=np.float32)
    shift_left[2, 32](x, {out})
"""


def test_trace_plays_the_kernel_of_a_file(minikernels, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(KERNEL.format(line="if i >= 63: return", out="np.zeros(64, np.float32)"), "utf-8")
    code, out, _ = minikernels("trace", f"{file}:shift_left", "--registers", "i")
    assert code == 0
    assert (tmp_path / "minikernels-shift_left.html").exists()
    code, _, err = minikernels("trace", f"{file}:shift_right")
    assert code == 2
    assert "launched no shift_right" in err
    assert "shift_left" in err


def test_trace_runs_a_file_as_python_does(minikernels, tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "import argparse, sys\nimport numpy as np\nfrom minikernels import simt\n"
        "argparse.ArgumentParser().parse_args()\ndef one_thread(x):\n    x[0] = 1\n"
        "simt.run(one_thread, 3, 1, np.zeros(1, np.int32))\nsys.exit(0)\n", "utf-8")
    code, out, err = minikernels("trace", file)
    assert (code, err) == (0, "")
    assert "one_thread" in out
    file.write_text("import sys\nsys.exit(3)\n", "utf-8")
    code, _, err = minikernels("trace", file)
    assert (code, err.strip()) == (2, f"minikernels: {file} ended with exit code 3")


def test_trace_says_what_is_wrong_with_the_kernel_of_a_file(minikernels, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(KERNEL.format(line="pass", out="np.zeros(64, np.float32)"), "utf-8")
    code, _, err = minikernels("trace", f"{file}:shift_left")
    assert code == 1
    assert "out_of_bounds" in err
    file.write_text(KERNEL.format(line="if i >= 63: return", out="x"), "utf-8")
    code, out, _ = minikernels("trace", f"{file}:shift_left")
    assert code == 1
    assert "race" in out


MISTAKES = {
    "climb flahs": "unknown technique 'flahs'; did you mean 'flash'?",
    "climb": "required: technique",
    "clim flash": "unknown command 'clim'; did you mean 'climb'?",
    "climb flash --rnadom 1,1,1,1,1,1": "unrecognized arguments: --rnadom",
    "climb flash --dtype float8": "invalid choice: 'float8'",
    "climb flash --random 1,4,3,8,8,8": "G=3 must divide H=4",
    "climb flash --random 1,4,2,8,8": "--random takes 6 whole numbers B,H,G,T,S,D, each 1 or more; got '1,4,2,8,8'",
    "climb flash --random 1,4,2,0,8,8": "each 1 or more",
    "climb flash --random 1,4,2,8,8,-8": "--random takes 6 whole numbers",
    "climb flash --random 1,1,1,99999,99999,64": "B*H*T*S*D",
    "climb flash --random 1,1,1,8,8,8 --layer 1": "leave out --layer",
    "climb flash --text nowhere.txt": "cannot read nowhere.txt: no such file",
    "climb flash --text .": "cannot read .: is a directory",
    "climb flash --text empty.txt": "empty.txt is empty",
    "climb flash --layer 99": "layer is 99; mha has layers 0 to",
    "climb flash --length 0": "--length must be in 1..2048",
    "climb flash --out empty.txt/page.html": "cannot make the folder empty.txt",
    "climb flash --out folder.html": "cannot write folder.html: it is a folder",
    "trace flash v2_tile": "flash has no rung 'v2_tile'; did you mean 'v2_tiled'?",
    "trace flash": "which rung of flash?",
    "trace flash tiled": "tiled is NumPy and launches no kernel",
    "trace flash v1_three_pass --launch 3 --random 1,1,1,8,8,8": "it launches 0 scores_kernel, 1 softmax_kernel",
    "trace nowhere.py:f": "cannot read nowhere.py: no such file",
    "trace broken.py:f": "broken.py:2: ZeroDivisionError",
    "trace broken.py:f --layer 1": "broken.py makes its own input; leave out --layer",
    "lab 99": "no notebook '99'",
    "lab --port 0": "--port must be in 1..65535",
}


@pytest.mark.parametrize("words", MISTAKES, ids=lambda words: words.replace(" ", "_"))
def test_a_mistake_is_one_line_and_exit_code_2(minikernels, tmp_path, words):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "broken.py").write_text("x = 0\n1 / x\n", "utf-8")
    code, out, err = minikernels(*words.split())
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert MISTAKES[words] in err


def test_a_rung_that_needs_a_gpu_cannot_be_traced(minikernels):
    raw = next(rung.name for rung in catalog.technique("flash").rungs if rung.kind == "raw")
    code, _, err = minikernels("trace", "flash", raw)
    assert code == 1
    assert "runs on a GPU alone" in err


def test_list_prints_the_catalog(minikernels):
    code, out, _ = minikernels("list", "--json")
    assert code == 0
    listed = {technique["name"]: technique for technique in json.loads(out)["techniques"]}
    assert tuple(listed) == catalog.names()
    assert [row["name"] for row in listed["flash"]["rungs"]] == [rung.name for rung in catalog.technique("flash").rungs]
    assert "v2_tiled" in minikernels("list")[1]


def test_doctor_says_what_runs_here_and_what_to_install(minikernels):
    code, out, _ = minikernels("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert code == 0
    assert all(checks[name]["found"] for name in ("Python", "NumPy", "numba", "jupyterlab"))
    assert all(check["install"] for check in checks.values())
    assert "NumPy rungs" in minikernels("doctor")[1]


def test_doctor_fails_where_something_needed_is_missing(minikernels, monkeypatch):
    monkeypatch.setattr(machine, "package_version", lambda *names: None)
    code, out, _ = minikernels("doctor")
    assert code == 1
    assert "pip install 'numba>=0.65'" in out


@pytest.mark.parametrize("what", [[], ["--counters"], ["--roofs"]], ids=["time", "counters", "roofs"])
def test_bench_needs_a_gpu_and_says_so_in_one_line(minikernels, monkeypatch, what):
    def missing(*_, **__):
        raise DeviceError("measuring needs a GPU")
    monkeypatch.setattr(launch, "require_gpu", missing)
    assert minikernels("bench", "flash", *what) == (1, "", "minikernels: measuring needs a GPU\n")


def test_bench_measures_what_is_named_and_says_where_the_results_are(minikernels, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(record, "run",
                        lambda names, out, say, rungs: (asked.append((names, out, rungs)), say("one line"), out)[-1])
    code, out, _ = minikernels("bench", "gqa", "--out", "results/new", "--rung", "v4_wide_loads")
    assert (code, asked) == (0, [(["gqa"], Path("results/new"), ["v4_wide_loads"])])
    assert out.splitlines() == ["one line", "written: results/new"]
    assert (tmp_path / "results/new").is_dir()
    assert minikernels("bench", "flahs")[2] == "minikernels: unknown technique 'flahs'; did you mean 'flash'?\n"


def test_lab_opens_the_notebook_of_a_technique(minikernels, monkeypatch):
    called = []
    monkeypatch.setattr(lab.subprocess, "call", lambda command, cwd: called.append((command, cwd)) or 0)
    assert minikernels("lab", "flash", "--no-browser", "--port", 8899)[0] == 0
    command, folder = called[0]
    assert command[1:3] == ["-m", "jupyterlab"]
    assert command[3].endswith("02_flash.ipynb")
    assert command[4:] == ["--no-browser", "--port=8899"]
    assert (folder / "notebooks").is_dir()


def test_lab_without_a_clone_says_so(minikernels, monkeypatch, tmp_path):
    monkeypatch.setattr(lab.minikernels, "__file__", str(tmp_path / "site-packages" / "minikernels" / "__init__.py"))
    code, _, err = minikernels("lab")
    assert code == 1
    assert "clone of the repository" in err


def test_help_and_version_exit_with_0(minikernels):
    assert minikernels("--version")[1].startswith("minikernels ")
    assert "climb" in minikernels("--help")[1]
    assert "climb" in minikernels()[1]
    assert minikernels("climb", "--help")[0] == 0


def test_python_m_runs_the_command(root):
    command = [sys.executable, "-m", "minikernels", "climb", "flsh"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "minikernels: unknown technique 'flsh'; did you mean 'flash'?\n"


def test_a_name_that_the_terminal_cannot_spell_is_no_traceback(root, tmp_path):
    text = tmp_path / "\u00e9\u4e2d.txt"
    text.write_text("x = 1\n" * 3, "utf-8")
    command = [sys.executable, "-m", "minikernels", "climb", "flash", "--text", str(text), "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"the 18 bytes of" in done.stdout


def test_a_closed_pipe_is_no_traceback(root):
    command = f'"{sys.executable}" -m minikernels list --json | head -c 1'
    done = subprocess.run(command, shell=True, cwd=root, capture_output=True, text=True)
    assert done.stderr == ""
