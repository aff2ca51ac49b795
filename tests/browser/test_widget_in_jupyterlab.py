"""TilePlayer in JupyterLab, with a kernel behind it: what happens in the browser reaches Python, and the other way."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests import traces

CELLS = ["""from minikernels.simt.trace import Trace
from minikernels.widgets import TilePlayer
player = TilePlayer(Trace.load("trace.npz"), step=3)
player""", "player.linked_slider('step', max=player.last)"]

# Run code in the notebook's kernel and hand back what it printed.
ASK_KERNEL = """async (code) => {
  const future = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code });
  let said = "";
  future.onIOPub = ({ content }) => { said += content.text ?? content.evalue ?? ""; };
  await future.done;
  return said.trim();
}"""

RUN_ALL = """async () => {
  const app = window.jupyterapp;
  await app.restored;
  const panel = await app.commands.execute("docmanager:open", { path: "player.ipynb" });
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  await app.commands.execute("notebook:run-all-cells");
}"""


@pytest.fixture
def lab(tmp_path, root):
    """Serve a folder that holds one notebook and one trace; returns the address."""
    traces.attention(T=64, S=64, D=8).save(tmp_path / "trace.npz")
    empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [{**empty, "id": f"c{i}", "source": source} for i, source in enumerate(CELLS)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "player.ipynb").write_text(json.dumps(notebook), "utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path / "home"
    own = {name: str(home / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    environment = {**os.environ, **own, "HOME": str(home), "PYTHONPATH": str(root)}
    settings = ["--no-browser", "--allow-root", f"--port={port}", f"--notebook-dir={tmp_path}",
                "--LabApp.news_url=None", "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True",
                "--ServerApp.port_retries=0"]
    with open(tmp_path / "log.txt", "wb") as log:
        command = [sys.executable, "-m", "jupyterlab", *settings]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_until_up(f"http://127.0.0.1:{port}/api", server, tmp_path / "log.txt")
        yield f"http://127.0.0.1:{port}/lab"
    finally:
        server.terminate()
        server.wait(20)


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


def until(page, code, said):
    """Return whether the kernel comes to say this within some seconds; a message is on its way for a moment."""
    for _ in range(40):
        if page.evaluate(ASK_KERNEL, code) == said:
            return True
        page.wait_for_timeout(200)
    return False


@pytest.mark.slow
def test_player_round_trip(browser, lab):
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    page = context.new_page()
    page.goto(lab)
    page.wait_for_function("window.jupyterapp !== undefined")
    page.evaluate(RUN_ALL)
    clock = page.locator(".mk-clock")
    clock.filter(has_text="step 3 of").wait_for(timeout=60_000)
    assert page.locator(".mk-says").inner_text().startswith("line ")
    assert page.locator(".jp-RenderedSVG").count() == 0  # the live view stands in for the still picture

    slider = page.get_by_role("slider", name="Step").first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 5, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=4)
    page.mouse.up()
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
    context.close()
