"""``python -m minikernels.bench [TECHNIQUE ...] [--out FOLDER]``: measure this machine's GPU and write the results."""

import argparse

from minikernels.bench.record import run

parser = argparse.ArgumentParser(prog="python -m minikernels.bench", description="Time every rung beside its peers.")
parser.add_argument("techniques", nargs="*", metavar="TECHNIQUE", help="all by default")
parser.add_argument("--out", metavar="FOLDER|FILE.json", help="where to write (the package's recorded/)")

if __name__ == "__main__":
    chosen = parser.parse_args()
    print(run(chosen.techniques or None, out=chosen.out))
