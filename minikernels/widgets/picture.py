"""Take a picture of a widget's page, as a reader would see it.

The picture of the player in the README comes from a recorded launch of flash::

    minikernels trace flash v2_tiled -o player.html
    python -m minikernels.widgets.picture player.html notebooks/images/player.png --at step=814
"""

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

__all__ = ["picture"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")


def picture(page, path, *, at="", width=1240, height=930):
    """Write a PNG of a page that `Widget.to_html` wrote.

    Parameters
    ----------
    page, path : str or Path
        The page, and the picture to write.
    at : str
        What to set in the page first: ``step=2000``.
    width, height : int
        Of the window, in CSS pixels.

    Raises
    ------
    RuntimeError
        If there is no Chromium on the PATH (``CHROMIUM`` may name one), or it fails.
    """
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise RuntimeError(f"a picture needs a browser; none of {', '.join(BROWSERS)} is on the PATH")
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}",
                   "--virtual-time-budget=4000", f"--screenshot={path}", f"{Path(page).resolve().as_uri()}#{at}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if not path.exists():
        raise RuntimeError(f"{browser} made no picture: {done.stderr.strip()[-400:]}")
    return path


def main():
    """Read the command line and take the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("path", type=Path)
    parser.add_argument("--at", default="", metavar="step=N", help="what to set in the page first")
    parser.add_argument("--width", type=int, default=1240)
    parser.add_argument("--height", type=int, default=930)
    args = parser.parse_args()
    if not args.page.is_file():
        parser.error(f"no such page: {args.page}")
    print(picture(args.page, args.path, at=args.at, width=args.width, height=args.height))


if __name__ == "__main__":
    main()
