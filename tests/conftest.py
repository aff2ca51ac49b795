"""What every test may lean on: where GPU and browser tests run, and a browser page without a network."""

import functools
import gc
import os
from pathlib import Path

import pytest

from minikernels import launch
from minikernels.bench.machine import chromium, driver

ROOT = Path(__file__).resolve().parent.parent
BROWSER_FLAGS = [
    "--no-sandbox",  # CI runs as root
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]


MOST_WORKERS = 6  # each collects all tests, and holds a few hundred megabytes

no_gpu_because = functools.cache(launch.no_gpu_because)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run whole folders of tests in several processes, where pytest-xdist is there and nobody says how many.

    Single files are not worth it. Beside a GPU there is one process, for its tests time the GPU.
    """
    options = config.option
    if "PYTEST_XDIST_WORKER" in os.environ:  # this is one of those processes, or was started by a test in one
        return
    if not config.pluginmanager.hasplugin("xdist") or options.numprocesses is not None or options.collectonly:
        return
    if all(Path(word).is_dir() for word in config.args) and not driver()[1]:
        # One more than there are processors: some tests wait for a browser, a notebook's kernel or a graded process.
        options.numprocesses, options.dist = min(processors() + 1, MOST_WORKERS), "worksteal"
        # Threads of the linear algebra would wait for each other, at full speed: products took seven times as long.
        os.environ |= {name: os.environ.get(name, "1") for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}


def processors():
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pytest_collection_modifyitems(items):
    """Mark what stands in tests/gpu and tests/browser, and skip what cannot run here, with the reason."""
    for item in items:
        folder = item.path.parent.name
        if folder in ("gpu", "browser") and not item.get_closest_marker(folder):
            item.add_marker(folder)
        if item.get_closest_marker("gpu") and (reason := no_gpu_because(numba=True)):
            item.add_marker(pytest.mark.skip(reason=reason))
        if item.get_closest_marker("browser") and not chromium():
            item.add_marker(pytest.mark.skip(reason="no Chromium on the PATH"))


def pytest_collection_finish():
    """Take the ten thousand tests out of what the garbage collector looks through: they stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def root():
    """The repository."""
    return ROOT


@pytest.fixture
def run_grade(capsys):
    """Run ``minikernels grade``; returns (exit code, standard output, standard error)."""
    from minikernels import cli  # a GPU machine may have no library of the command line

    def run(*words):
        with pytest.raises(SystemExit) as end:
            cli.main(["grade", *map(str, words)])
        return end.value.code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=chromium(), args=BROWSER_FLAGS)
        yield window
        window.close()


@pytest.fixture
def page(browser):
    """A page without a network that fails the test on any error of a script in it."""
    context = browser.new_context(offline=True)
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert not errors, errors
