"""Kernels and oracles for the tests of the SIMT machine."""
