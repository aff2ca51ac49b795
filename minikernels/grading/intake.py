"""What was handed in: folders and zips, of which only the exercises' own files are ever taken, and those as text.

Nothing is unpacked. A file is looked for by its name, read up to a bound, and written to a clean folder under a path
that the grader chooses; a path in a zip decides nothing, and a link is no file.
"""

import hashlib
import os
import re
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from minikernels.grading.submission import LONGEST

__all__ = ["HandedIn", "fingerprint", "handed_in", "take"]

MOST_FILES = 20_000  # entries of a zip or files below a folder that are looked at
LARGEST_ZIP = 100 * 2**20
MOST_BYTES = 200  # of a student's name in UTF-8: a file's name has 255 at most, its ending and marks included
READ = 4 * LONGEST + 1  # bytes: a character of UTF-8 takes at most four
CHAPTER = re.compile(r"\d\d_\w+")  # a file in another chapter's folder is another exercise
BROKEN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError,
          OverflowError, MemoryError, struct.error)


@dataclass(frozen=True)
class HandedIn:
    """One submission.

    Attributes
    ----------
    student : str
        The folder's or zip's name, spelled so that it can be printed and used as a file name.
    path : Path
    """

    student: str
    path: Path


def handed_in(folder):
    """Return every submission of a folder: its folders and its zips, in the order of their names."""
    found, taken = [], set()
    for path in sorted(Path(folder).iterdir(), key=lambda p: os.fsencode(p.name)):
        if path.name.startswith(".") or path.is_symlink() or not (path.is_dir() or path.suffix.lower() == ".zip"):
            continue
        student = spelled(path.stem if path.suffix.lower() == ".zip" and not path.is_dir() else path.name)
        while student.casefold() in taken:  # ann/ beside ann.zip; Ann on a disk that knows no capitals
            student += "~"
        taken.add(student.casefold())
        found.append(HandedIn(student, path))
    return found


def spelled(name):
    r"""Return a name without what a terminal, a spreadsheet or a file system would trip over.

    >>> spelled("Zo\u00eb Smith_123"), spelled("=cmd|x"), spelled("a/../b\n")
    ('Zoë Smith_123', 'cmd-x', 'a-..-b')
    """
    name = os.fsencode(name).decode("utf-8", "replace")
    name = re.sub(r"[^\w .@()+,~-]+", "-", name).strip(" -=+@.")
    name = name[:100].encode()[:MOST_BYTES].decode("utf-8", "ignore").rstrip(" .")
    return name or "unnamed"


def take(source, exercises, target):
    """Copy the exercises' files out of a submission into a clean folder.

    Parameters
    ----------
    source : Path
        A folder or a zip.
    exercises : list of Exercise
    target : Path
        Gets ``02_flash/ex3_tile_loop.py`` and so on.

    Returns
    -------
    dict
        What to say about exercises whose file could not be taken, by key.
    """
    said, files = {}, ()
    try:
        files = list(in_zip(source) if not source.is_dir() else in_folder(source))
    except BROKEN as error:
        said = {e.key: f"{source.name} cannot be read: {str(error)[:200] or type(error).__name__}" for e in exercises}
    for exercise in exercises:
        text = None
        for read in chosen(files, exercise.place):
            try:
                text = read()
            except BROKEN as error:
                said[exercise.key] = f"{exercise.place.name} cannot be read: {str(error)[:200] or type(error).__name__}"
            break
        if text is not None:
            path = target / exercise.place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
    return said


def chosen(files, place):
    """Return the readers of the files of an exercise's name, the best placed first."""
    same = [(parts, read) for parts, read in files if parts[-1] == place.name
            and (parts[-2:] == place.parts or not CHAPTER.fullmatch("/".join(parts[-2:-1])))]
    return [read for _, read in sorted(same, key=lambda f: (f[0][-2:] != place.parts, len(f[0]), f[0]))]


def fingerprint(folder, ending=""):
    """Return a digest of the files below a folder, or of those of an ending: their paths and contents."""
    digest = hashlib.sha256()
    for path in sorted(p for p in Path(folder).rglob(f"*{ending}") if p.is_file()):
        digest.update(repr((path.relative_to(folder).as_posix(), path.read_bytes())).encode())
    return digest.hexdigest()


def in_folder(folder):
    """Yield (path below the folder, reader) of the regular files; no link is followed."""
    count = 0
    for place, folders, names in os.walk(folder, onerror=None, followlinks=False):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n != "__pycache__")
        for name in sorted(names):
            count += 1
            if count > MOST_FILES:
                raise ValueError(f"it holds more than {MOST_FILES:,} files")
            path = Path(place, name)
            if name.endswith(".py") and stat.S_ISREG(path.lstat().st_mode):
                yield path.relative_to(folder).parts, lambda path=path: read_file(path)


def read_file(path):
    """Read as much of a regular file as a submission may have."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:
        return file.read(READ)


def in_zip(path):
    """Yield (path in the zip, reader) of the regular files."""
    if path.stat().st_size > LARGEST_ZIP:
        raise ValueError(f"it is larger than {LARGEST_ZIP // 2**20} MiB")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if len(entries) > MOST_FILES:
        raise ValueError(f"it holds more than {MOST_FILES:,} files")
    for entry in entries:
        parts = tuple(p for p in re.split(r"[\\/]", entry.filename) if p not in ("", "."))
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if entry.is_dir() or kind not in (0, stat.S_IFREG) or not entry.filename.endswith(".py"):
            continue
        if "__MACOSX" in parts or ".." in parts or any(p.startswith(".") for p in parts):
            continue
        yield parts, lambda entry=entry: read_entry(path, entry)


def read_entry(path, entry):
    """Read as much of a file in a zip as a submission may have, whatever the zip says of its size."""
    with zipfile.ZipFile(path) as archive, archive.open(entry) as file:
        return file.read(READ)
