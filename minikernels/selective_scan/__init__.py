"""The selective scan of a Mamba layer: a linear recurrence whose decay and input depend on the token."""

from minikernels.selective_scan.api import scan

__all__ = ["scan"]
