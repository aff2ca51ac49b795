"""``minikernels grade``: mistakes are one line, and what the instructors' page says of it is so."""

import re

import pytest
import yaml

from minikernels import cli
from tests import attacks
from tests.attacks import only


@pytest.mark.parametrize("held", ["[]", "{}", "3", "{", '{"seed": []}', '{"seed": null}'])
def test_a_run_without_a_seed_is_told_in_one_line(tmp_path, run_grade, held):
    (tmp_path / "handed in/ann").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    (tmp_path / "results/run.json").write_text(held)
    code, out, err = run_grade(tmp_path / "handed in", "--out", tmp_path / "results", *only("02.2"))
    assert code == 2 and "run.json holds no seed" in err and err.count("\n") == 1 and not out


def test_a_gradescope_file_that_cannot_be_written_is_told_in_one_line(tmp_path, run_grade):
    (tmp_path / "file").write_text("")
    code, out, err = run_grade(tmp_path, "--gradescope", tmp_path / "file/results.json", *only("02.2"))
    assert code == 2 and "cannot write" in err and err.count("\n") == 1 and not out


@pytest.mark.parametrize("words, said", [
    ([], "which folder of submissions"),
    (["nowhere"], "there is no folder of submissions at nowhere"),
    ([".", "--only", "99"], "there is no exercise '99'"),
    ([".", "--hidden", "nowhere"], "there is no folder of hidden tests at nowhere"),
    ([".", "--jobs", "0"], "'0' is no whole number of 1 or more"),
    (["empty"], "neither a folder nor a zip"),
    ([".", "--out", "empty", "--only", "02.2"], "the results would go into a submission"),
])
def test_mistakes_are_one_line(tmp_path, monkeypatch, run_grade, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code, out, err = run_grade(*words)
    assert code == 2 and said in err and err.count("\n") == 1 and not out


PAGE = (attacks.ROOT / "exercises/INSTRUCTORS.md").read_text("utf-8")


@pytest.mark.parametrize("line", re.findall(r"^    (minikernels .*?)(?: +#.*)?$", PAGE, re.MULTILINE))
def test_commands_of_the_instructors_page_are_commands(line):
    assert cli.parser().parse_args(line.split()[1:]).command in cli.COMMANDS


def test_workflow_of_the_instructors_page_is_one():
    text = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1]
    steps = yaml.safe_load(text)["jobs"]["grade"]["steps"]
    (line,) = re.findall(r"minikernels (grade .*)", "\n".join(step.get("run", "") for step in steps))
    args = cli.parser().parse_args(line.split())
    assert (args.folder, args.out, args.only) == ("../handed-in", "../results", ["02"])


def test_files_that_the_instructors_page_names_exist():
    for name in re.findall(r"`((?:minikernels|exercises|tests)/[\w./]+)`", PAGE):
        assert (attacks.ROOT / name).exists() or "NN_chapter" in name, name
