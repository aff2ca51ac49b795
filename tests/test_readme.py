"""The READMEs say what is so: examples run, tables are those of the catalog and the recorded results, links lead on."""

import contextlib
import io
import re

import pytest

from minikernels import catalog, cli
from minikernels.bench import ladder
from minikernels.bench.recorded import recordings

LINK = re.compile(r"\]\((?!https?://|#)([^)\s]+)\)")


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text("utf-8")


def test_example_prints_what_the_readme_shows(readme):
    code, shown = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", readme, re.DOTALL).groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == shown


def test_generated_tables_are_in_step(root):
    wanted = ladder.readmes()
    assert set(wanted) == {root / "README.md"} | {root / "minikernels" / n / "README.md" for n in catalog.names()}
    for path, text in wanted.items():
        assert path.read_text("utf-8") == text, f"{path} is stale: python -m minikernels.bench.ladder writes it"


def test_table_shows_recorded_times_and_no_others(readme):
    table = readme.partition(ladder.BEGIN)[2].partition(ladder.END)[0]
    for name in catalog.names():
        for rung in catalog.technique(name).rungs:
            assert f"| `{rung.name}` | {rung.idea} |" in table
    assert ("TFLOP/s" in table) == bool(recordings())


def test_a_readme_without_the_marks_is_refused():
    with pytest.raises(ValueError, match="ladder:begin"):
        ladder.replaced("# no table here", "| |")


def test_links_and_pictures_lead_to_files_that_exist(root):
    for path in [root / "README.md", *sorted(root.glob("*/*/README.md"))]:
        for target in LINK.findall(path.read_text("utf-8")):
            assert (path.parent / target.split("#")[0]).exists(), f"{path.relative_to(root)} links to {target}"


def test_map_names_what_exists(root, readme):
    tree = readme.partition("## The map")[2].partition("##")[0]
    for name in re.findall(r"^      ([\w.]+/?) ", tree, re.MULTILINE):
        assert (root / "minikernels" / name).exists(), name
    for name in re.findall(r"^    (\w+/) *", tree, re.MULTILINE):
        assert (root / name).is_dir(), name


def test_every_command_stands_in_the_readme(readme):
    assert set(re.findall(r"^\| `minikernels (\w+)", readme, re.MULTILINE)) == set(cli.COMMANDS)


def test_papers_of_the_catalog_stand_in_the_readme(readme):
    for name in catalog.names():
        for paper in catalog.technique(name).papers:
            assert f"[arXiv:{paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})" in readme
