"""Sizes that a test leaves to the seed, so that no submission can know them beforehand."""

from dataclasses import dataclass

__all__ = ["Drawn", "drawn", "settled"]


@dataclass(frozen=True)
class Drawn:
    """A whole number between two others, both included, that the run's seed chooses."""

    least: int
    most: int

    def __str__(self):
        return f"{self.least}to{self.most}"


def drawn(least, most):
    """Return a size for a row of a test's sizes: ``{"T": drawn(1, 90), "S": drawn(1, 90), "BLOCK_T": 32}``."""
    return Drawn(least, most)


def settled(value, rng):
    """Return a case's value with every drawn size settled."""
    if isinstance(value, Drawn):
        return int(rng.integers(value.least, value.most + 1))
    if isinstance(value, dict):
        return {name: settled(x, rng) for name, x in value.items()}
    if type(value) in (list, tuple):
        return type(value)(settled(x, rng) for x in value)
    return value
