"""Sizes that a test leaves to the seed, so that no submission can know them beforehand."""

from dataclasses import dataclass

__all__ = ["Drawn", "drawn", "settled"]


@dataclass(frozen=True)
class Drawn:
    """A whole number between two others, both included and `step` apart, that the run's seed chooses."""

    least: int
    most: int
    step: int = 1

    def __str__(self):
        return f"{self.least}to{self.most}"


def drawn(least, most, step=1):
    """Return a size for a row of a test's sizes: ``{"T": drawn(1, 90), "S": drawn(1, 90), "BLOCK_T": 32}``."""
    return Drawn(least, most, step)


def settled(value, rng):
    """Return a case's value with every drawn size settled."""
    if isinstance(value, Drawn):
        return int(value.least + value.step * rng.integers((value.most - value.least) // value.step + 1))
    if isinstance(value, dict):
        return {name: settled(x, rng) for name, x in value.items()}
    if type(value) in (list, tuple):
        return type(value)(settled(x, rng) for x in value)
    return value
