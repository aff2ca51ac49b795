"""Measuring: what this machine is, every rung checked, counted and timed, and results recorded on GPUs."""

from minikernels.bench.record import run

__all__ = ["run"]
