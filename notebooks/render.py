"""Write each notebook's .ipynb from its .py: run in a real kernel, with still pictures that GitHub shows.

Usage: python notebooks/render.py [NAME ...]. The .py is the source that is reviewed; never edit the .ipynb.
"""

import asyncio
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent

# A widget's live view needs a running kernel. What is committed is its picture: SVG, or PNG where pixels are in it.
STILL = """
import base64 as _base64, io as _io
from minikernels.widgets.page import Widget as _Widget

def _still(self, **kwargs):
    picture = self.to_svg()
    if "<image" not in picture:
        return {"text/plain": self.title, "image/svg+xml": picture}
    data = _io.BytesIO()
    self.picture().savefig(data, format="png", dpi=110, metadata={"Software": None})
    return {"text/plain": self.title, "image/png": _base64.b64encode(data.getvalue()).decode()}

_Widget._repr_mimebundle_ = _still
"""


def executed(path, before=""):
    """Return the notebook of a .py source with the outputs of a real kernel; `before` runs first and is not kept."""
    notebook = source(path)
    if before:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(before))
    NotebookClient(notebook, timeout=300, kernel_name="python3", store_widget_state=False, coalesce_streams=True,
                   resources={"metadata": {"path": str(FOLDER.parent)}}).execute()
    if before:
        del notebook.cells[0]
    return notebook


def source(path):
    """Return the notebook of a .py source, with metadata and cell ids that are the same on every machine."""
    notebook = jupytext.read(path)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "language_info": {"name": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
    return notebook


def tidy(notebook):
    """Number the cells from 1 and drop what differs from run to run."""
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        cell.execution_count, cell.metadata = number, {}
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def main(names):
    """Render the named notebooks, or all."""
    if sys.platform == "win32":
        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
    for path in sorted(FOLDER.glob("[0-9]*.py")):
        if not names or path.stem in names:
            nbformat.write(tidy(executed(path, STILL)), path.with_suffix(".ipynb"))
            print(path.with_suffix(".ipynb").name)


if __name__ == "__main__":
    main(sys.argv[1:])
