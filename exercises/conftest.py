"""Lets pytest grade what stands here: ``pytest exercises [--subject FOLDER] [--seed N]``."""

from minikernels.grading.plugin import (
    pytest_addoption,
    pytest_configure,
    pytest_runtest_makereport,
    pytest_runtest_setup,
    pytest_terminal_summary,
    rng,
    submission,
)

__all__ = ["pytest_addoption", "pytest_configure", "pytest_runtest_makereport", "pytest_runtest_setup",
           "pytest_terminal_summary", "rng", "submission"]
