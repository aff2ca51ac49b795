"""Lets ``python -m minikernels`` stand for the ``minikernels`` command."""

from minikernels.cli import main

if __name__ == "__main__":
    main()
