"""Where the exercises stand, what they are called, and their hints.

``exercises/02_flash/ex3_tile_loop.py`` is exercise ``02.3``; ``test_ex3_tile_loop.py`` beside it grades it, and
``hints.toml`` holds its title and three levels of hints.
"""

import difflib
import functools
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import minikernels

__all__ = ["LEVELS", "Exercise", "UnknownExercise", "exercises", "find", "folder"]

LEVELS = 3  # a nudge, the idea, and all but the line itself
NAME = re.compile(r"ex(\d+)_\w+")


class UnknownExercise(ValueError):
    """No exercise has that name, or the exercises are not here."""


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes
    ----------
    key : str
        ``02.3``: chapter and number.
    name : str
        ``ex3_tile_loop``: the stub's file without its ending.
    title : str
        One line on what is to be written.
    hints : tuple of str
        From a nudge to all but the line itself.
    stub, tests : Path
        The file to be solved, and the file that grades it.
    """

    key: str
    name: str
    title: str
    hints: tuple
    stub: Path
    tests: Path

    @property
    def place(self):
        """The stub's path below ``exercises``, and a submission's below its own folder."""
        return Path(self.stub.parent.name) / self.stub.name

    def handed_in(self, subject=None):
        """Return where a submission has its file; without a `subject` the stub.

        The `subject` is a folder of chapters, a chapter's own folder, or the file.
        """
        path = self.stub.parent.parent if subject is None else Path(subject)
        if not path.is_dir():
            return path
        beside = path.resolve().name == self.place.parent.name and not (path / self.place).exists()
        return path / (self.place.name if beside else self.place)


def folder():
    """Return the exercises' folder; they stand in the repository and not in the installed package."""
    path = Path(minikernels.__file__).resolve().parent.parent / "exercises"
    if not path.is_dir():
        raise UnknownExercise("there are no exercises beside the package: run this in a clone of the repository")
    return path


@functools.cache
def exercises():
    """Return every exercise by its key, in the order of the course."""
    found = []
    for chapter in sorted(p for p in folder().iterdir() if (p / "hints.toml").is_file()):
        table = tomllib.loads((chapter / "hints.toml").read_text("utf-8"))
        for name, entry in table.items():
            number = int(NAME.fullmatch(name)[1])
            key = f"{chapter.name.partition('_')[0]}.{number}"
            found.append(Exercise(key, name, entry["title"], tuple(entry["hints"]), chapter / f"{name}.py",
                                  chapter / f"test_{name}.py"))
    return {e.key: e for e in sorted(found, key=lambda e: (e.stub.parent.name, int(NAME.fullmatch(e.name)[1])))}


def find(word):
    """Return the exercises that a word names: ``02`` or ``flash`` a chapter's, ``02.3`` or ``ex3_tile_loop`` one.

    Raises
    ------
    UnknownExercise
        If it names none, with what is close to it.
    """
    known = exercises()
    chosen = [e for e in known.values() if word in names(e)]
    if not chosen:
        every = list(dict.fromkeys(name for e in known.values() for name in names(e)))
        close = difflib.get_close_matches(str(word), every, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
        raise UnknownExercise(f"there is no exercise {str(word)!r}{hint}")
    return chosen


def names(exercise):
    """Return every word that names an exercise, its chapter's included."""
    chapter = exercise.stub.parent.name
    number, _, title = chapter.partition("_")
    return exercise.key, exercise.name, chapter, number, title
