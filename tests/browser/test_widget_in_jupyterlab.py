"""JupyterLab with kernels behind it: what happens in the browser reaches Python and the other way, in every notebook.

One server, one page. A notebook is opened and run until its first widget is drawn; all its cells run in
``tests/test_notebooks.py``.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests import traces

pytestmark = pytest.mark.slow
NOTEBOOKS = sorted(path.name for path in (Path(__file__).parents[2] / "notebooks").glob("[0-9]*.ipynb"))
CELLS = ["""import numpy as np
from minikernels.simt.trace import Trace
from minikernels.widgets import MaskPainter, PoolView, TilePlayer
player = TilePlayer(Trace.load("trace.npz"), step=3)
player""", "player.linked_slider('step', max=player.last)", """painter = MaskPainter(np.ones((2, 4, 4)), causal=False)
painter""", "pool = PoolView(8, 4, [('allocate', 6)])\npool"]
WHOLE = {"@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"}}  # draw cells that are out of sight too

# Run code in the notebook's kernel and hand back what it printed.
ASK_KERNEL = """async (code) => {
  const future = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code });
  let said = "";
  future.onIOPub = ({ content }) => { said += content.text ?? content.evalue ?? ""; };
  await future.done;
  return said.trim();
}"""

# Open a notebook and set all its cells to run.
RUN_ALL = """async (path) => {
  const app = window.jupyterapp;
  await app.restored;
  const panel = window.panel = await app.commands.execute("docmanager:open", { path });
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  app.commands.execute("notebook:run-all-cells");
}"""

# What a notebook shows by now: widgets that have drawn something, and cells that failed.
SEEN = """() => ({
  drawn: [...window.panel.node.querySelectorAll(".mk")].filter((e) => e.querySelector("canvas, svg, li")).length,
  failed: [...window.panel.node.querySelectorAll("[data-mime-type$='jupyter.error']")].map((e) => e.innerText),
})"""
CLOSE = "async () => { await window.panel.sessionContext.shutdown(); window.panel.dispose(); }"


@pytest.fixture(scope="module")
def lab(tmp_path_factory, root):
    """Serve a folder that holds the notebooks, one of this test's own, and one trace; returns the address."""
    folder, home = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("home")
    traces.attention(T=64, S=64, D=8).save(folder / "trace.npz")
    for name in NOTEBOOKS:
        shutil.copy(root / "notebooks" / name, folder)
    empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [{**empty, "id": f"c{i}", "source": source} for i, source in enumerate(CELLS)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (folder / "own.ipynb").write_text(json.dumps(notebook), "utf-8")
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR")
    own = {name: str(home / name) for name in names}
    for plugin, settings in WHOLE.items():
        path = home / "JUPYTERLAB_SETTINGS_DIR" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(settings), "utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, **own, "HOME": str(home), "PYTHONPATH": str(root)}
    settings = ["--no-browser", "--allow-root", f"--port={port}", f"--notebook-dir={folder}",
                "--LabApp.news_url=None", "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True",
                "--ServerApp.port_retries=0"]
    with open(home / "log.txt", "wb") as log:
        command = [sys.executable, "-m", "jupyterlab", *settings]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_until_up(f"http://127.0.0.1:{port}/api", server, home / "log.txt")
        yield f"http://127.0.0.1:{port}/lab"
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:  # now and then it hangs while it stops its extensions
            server.kill()
            server.wait()


def wait_until_up(address, server, log):
    """Return once the server answers; fail with its log if it ends or takes a minute."""
    for _ in range(240):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            assert server.poll() is None, log.read_text("utf-8")
            time.sleep(0.25)
    pytest.fail(log.read_text("utf-8"))


@pytest.fixture(scope="module")
def lab_page(browser, lab):
    """Open JupyterLab once for all of these tests."""
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    page = context.new_page()
    page.goto(lab)
    page.wait_for_function("window.jupyterapp !== undefined")
    yield page
    context.close()


@pytest.fixture
def run(lab_page):
    """Open notebooks and run their cells; they are closed again."""

    def run_notebook(name):
        lab_page.evaluate(RUN_ALL, name)
        return lab_page

    yield run_notebook
    lab_page.evaluate(CLOSE)


def until(page, code, said):
    """Return whether the kernel comes to say this within some seconds; a message is on its way for a moment."""
    for _ in range(40):
        if page.evaluate(ASK_KERNEL, code) == said:
            return True
        page.wait_for_timeout(200)
    return False


def drag(page, element, start, end):
    """Drag the mouse over an element, from one share of its width to another."""
    element.scroll_into_view_if_needed()
    box = element.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], middle, steps=4)
    page.mouse.up()


def test_values_go_from_the_browser_to_python_and_back(run):
    page = run("own.ipynb")
    clock = page.locator(".mk-clock")
    clock.filter(has_text="step 3 of").wait_for(timeout=60_000)
    assert page.locator(".mk-player .mk-says").inner_text().startswith("line ")
    assert page.locator(".jp-RenderedSVG").count() == 0  # the live view stands in for the still picture
    drag(page, page.get_by_role("slider", name="Step").first, 0.01, 0.5)
    here = int(clock.inner_text().split()[1].replace(",", ""))
    assert here > 100
    assert until(page, "print(player.step)", str(here))
    page.locator(".widget-readout", has_text=str(here)).wait_for()  # the ipywidgets slider moved along
    page.evaluate(ASK_KERNEL, "player.step = 7")
    clock.filter(has_text="step 7 of").wait_for()
    page.locator(".mk-player").focus()
    page.keyboard.press("End")  # JupyterLab's own shortcuts must not take it
    assert until(page, "print(player.step == player.last)", "True")
    assert "block 9 was not recorded" in page.evaluate(ASK_KERNEL, "player.block = 9")

    drag(page, page.locator(".mk-painter canvas"), 0.1, 0.6)  # the third row of blocks, three of them
    assert until(page, "print(painter.mask.shape, (~painter.mask).nonzero()[2:])",
                 "(1, 2, 4, 4) (array([2, 2, 2, 2, 2, 2]), array([0, 1, 2, 0, 1, 2]))")
    assert page.evaluate(ASK_KERNEL, "painter.mask = np.eye(4, dtype=bool)") == ""
    page.locator(".mk-painter .mk-says", has_text="25.0 % of the blocks").wait_for()
    assert page.evaluate(ASK_KERNEL, "painter.mask = np.eye(5, dtype=bool)").startswith("mask has shape (5, 5)")

    page.get_by_role("button", name="Fork the chosen sequence").click()
    assert until(page, "print(pool.events, pool.step, pool.selected, pool.page_table.tolist())",
                 "[['allocate', 6], ['fork', 0]] 2 1 [[0, 1], [0, 1]]")
    page.evaluate(ASK_KERNEL, "pool.events = [*pool.events, ['append', 1, 1]]; pool.step = 3")
    page.locator(".mk-pool .mk-says", has_text="page 1 was shared, so it is copied to page 2").wait_for()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_opens_and_draws_its_first_widget(run, name):
    page = run(name)
    for _ in range(600):
        seen = page.evaluate(SEEN)
        if seen["drawn"] or seen["failed"]:
            break
        page.wait_for_timeout(200)
    assert seen["drawn"] and not seen["failed"], seen
