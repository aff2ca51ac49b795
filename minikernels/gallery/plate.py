"""A published figure: how it is drawn, what stands under it, and what it says to a reader who cannot see it."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Plate", "joined", "percent", "times"]


@dataclass(frozen=True)
class Plate:
    """One figure with its words.

    Attributes
    ----------
    title : str
        What it shows, in a few words.
    draw : callable
        ``draw()`` returns a new matplotlib figure from data that was gathered before.
    caption : str
        What to see, with the numbers of this very data.
    alt : str
        What the picture holds, for those who cannot see it.
    provenance : str
        Where the data comes from: hardware, date and shape; a closed form; a trace; the tiny model.
    """

    title: str
    draw: Callable
    caption: str
    alt: str
    provenance: str


def percent(share):
    """Return a share in words.

    >>> percent(0.5), percent(0.034), percent(17.4)
    ('50 %', '3.4 %', '1,740 %')
    """
    return f"{100 * share:,.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def times(factor):
    """Return a factor in words.

    >>> times(3.271), times(41.2)
    ('3.3 times', '41 times')
    """
    return f"{factor:,.0f} times" if factor >= 10 else f"{factor:.2g} times"


def joined(words):
    """Return a list in words: ``a, b and c``."""
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
