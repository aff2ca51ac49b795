"""The notebooks: source and .ipynb in step, quick to run, in the course's rhythm, and readable without running."""

import ast
import importlib.util
import re
from pathlib import Path

import jupytext
import nbformat
import pytest

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))
LESSONS = [path for path in SOURCES if not path.name.startswith("00")]


def each(paths=None):
    return pytest.mark.parametrize("path", paths or SOURCES, ids=lambda p: p.stem)


def cells(path, kind):
    return [cell.source for cell in jupytext.read(path).cells if cell.cell_type == kind]


def committed(path):
    return nbformat.read(path.with_suffix(".ipynb"), as_version=4)


def render():
    """Return the module that writes the .ipynb files."""
    spec = importlib.util.spec_from_file_location("render", FOLDER / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@each()
def test_source_and_notebook_agree(path):
    source, notebook = jupytext.read(path), committed(path)
    assert [(c.cell_type, c.source) for c in notebook.cells] == [(c.cell_type, c.source) for c in source.cells], (
        f"run: python notebooks/render.py {path.stem}")


@each()
def test_code_cells_are_short_and_plot_nothing(path):
    for source in cells(path, "code"):
        assert len(source.splitlines()) <= 12, source
        assert not re.search(r"matplotlib|pyplot|plt\.", source), source
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                body = [n for n in node.body if not isinstance(n, ast.Expr) or not isinstance(n.value, ast.Constant)]
                assert body[-1].end_lineno - body[0].lineno + 1 <= 5, source


@each()
def test_explanations_are_short(path):
    for text in cells(path, "markdown"):
        for words in re.findall(r"\*\*Explain\*\*:(.*?)(?=\n\*\*|\Z)", text, re.S):
            prose = re.sub(r"\$\$.*?\$\$", "", words, flags=re.S).split()
            assert len(prose) <= 80, f"{len(prose)} words: {words}"


@each()
def test_every_pass_predicts_measures_and_explains(path):
    text = path.read_text("utf-8")
    passes = len(re.findall(r"^# ## \d+\. ", text, re.M)) - path.name.startswith("00")  # 00 ends in reading a ladder
    assert 4 <= passes <= 6
    assert text.count("\nguess = None") == text.count("\ncompare(guess,") == text.count("**Explain**") == passes
    assert text.count("**Predict**") >= passes
    assert "# ## What this left out" in text.split("# %% [markdown]")[-1]


@each(LESSONS)
def test_every_pass_ends_in_an_exercise_and_every_exercise_is_reached(path):
    from minikernels.grading import find

    text = path.read_text("utf-8")
    assert text.count("**Exercise") >= len(re.findall(r"^# ## \d+\. ", text, re.M))
    for exercise in find(path.stem.split("_")[0]):
        assert f"**Exercise {exercise.key}**" in text and f"`minikernels check {exercise.key}`" in text


@each()
def test_committed_notebook_shows_still_pictures_and_nothing_of_a_machine(path):
    notebook = committed(path)
    text = path.with_suffix(".ipynb").read_text("utf-8")
    assert len(text.encode()) < 1_000_000
    assert not re.search(r"/home/|/Users/|/root/|/work/|/tmp/|[A-Z]:\\\\Users|Warning", text)
    pictures = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert output.output_type in ("execute_result", "display_data", "stream"), output
            assert output.get("name", "stdout") == "stdout", output
            kinds = set(output.get("data", ()))
            assert kinds <= {"text/plain", "image/svg+xml", "image/png"}, kinds
            pictures += bool(kinds & {"image/svg+xml", "image/png"})
    assert pictures >= 4


@pytest.mark.slow
@each()
def test_runs_in_a_kernel(path):
    """A real kernel runs every cell, and widgets reach it with a live view and a still picture."""
    notebook = render().executed(path)
    shown = [o.data for c in notebook.cells for o in c.get("outputs", ()) if "data" in o]
    live = [data for data in shown if "application/vnd.jupyter.widget-view+json" in data]
    assert len(live) >= 4 and all("image/svg+xml" in data for data in live)
    if path.stem == "00_how_to_read":  # it shows nothing that depends on Python's version or on the model
        assert printed(notebook) == printed(committed(path)), "run: python notebooks/render.py 00_how_to_read"


def printed(notebook):
    """Return what the cells of a notebook printed."""
    return [o.text for c in notebook.cells for o in c.get("outputs", ()) if o.output_type == "stream"]
