"""Folders and zips that are not what a student should hand in: functions that make each, and what each loses."""

import os
import stat
import zipfile
from pathlib import Path

from minikernels.grading import course
from tests.attacks import ROOT, SOLUTION, numpy_attack

__all__ = ["FILES", "solved"]


def solved(folder, chapter="02_flash"):
    """Write every solution of a chapter into a student's folder."""
    (folder / chapter).mkdir(parents=True)
    for exercise in course.find(chapter):
        (folder / exercise.place).write_bytes((ROOT / "solutions" / exercise.place).read_bytes())
    return folder / chapter


def zipped(path, entries):
    """Write a zip of (name, data) or (ZipInfo, data)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)


def solutions(chapter="02_flash"):
    """Return the solutions of a chapter as entries of a zip."""
    return [(e.place.as_posix(), (ROOT / "solutions" / e.place).read_bytes()) for e in course.find(chapter)]


def linked_file(path):
    """One file is a link to its solution."""
    chapter = solved(path)
    (chapter / "ex2_merge.py").unlink()
    (chapter / "ex2_merge.py").symlink_to(SOLUTION)


def linked_folder(path):
    """The chapter is a link to the solutions."""
    path.mkdir()
    (path / "02_flash").symlink_to(SOLUTION.parent)


def looped_folder(path):
    """A folder holds a link to itself."""
    (solved(path) / "again").symlink_to(path)


def pipe(path):
    """One file is a pipe, which nobody ever writes to."""
    chapter = solved(path)
    (chapter / "ex2_merge.py").unlink()
    os.mkfifo(chapter / "ex2_merge.py")


def folder_for_a_file(path):
    """One file is a folder."""
    chapter = solved(path)
    (chapter / "ex2_merge.py").unlink()
    (chapter / "ex2_merge.py").mkdir()


def not_utf8(path):
    """One file is not UTF-8."""
    (solved(path) / "ex2_merge.py").write_bytes(b"# \xff\xfe\n" * 9)


def names_not_utf8(path):
    """Beside the files stands one whose name is not UTF-8."""
    solved(path)
    Path(os.fsdecode(os.fsencode(path) + b"/\xff\xfe.py")).write_text("x = 1\n")


def extra_files(path):
    """Beside the files stand those that Python or pytest would read if they ran here."""
    chapter = solved(path)
    for name in ("conftest.py", "sitecustomize.py", "numpy.py", "minikernels.py", "test_ex2_merge.py", "json.py"):
        (chapter / name).write_text("raise SystemExit('read')\n")
        (path / name).write_text("raise SystemExit('read')\n")
    (path / "pytest.ini").write_text("[pytest]\naddopts = --collect-only\n")
    (chapter / "ex2_merge.py").write_text(numpy_attack("returns its input"))


def many_files(path):
    """A folder of more files than anybody hands in."""
    chapter = solved(path)
    for number in range(300):
        (chapter / f"copy{number}.py").write_text("x = 1\n")


def huge_file(path):
    """One file is gigabytes of nothing."""
    with open(solved(path) / "ex2_merge.py", "wb") as file:
        file.truncate(4 * 2**30)


def traversing_zip(path):
    """Names in a zip that lead out of it."""
    names = ("../../evil.py", "/tmp/evil.py", "..\\..\\evil.py", "../02_flash/ex2_merge.py", "C:\\evil.py")
    entries = [e for e in solutions() if not e[0].endswith("ex2_merge.py")]
    zipped(path.with_suffix(".zip"), [*entries, *((name, SOLUTION.read_bytes()) for name in names)])


def zip_bomb(path):
    """A zip in which one file is a gigabyte of spaces."""
    entries = [e for e in solutions() if not e[0].endswith("ex2_merge.py")]
    zipped(path.with_suffix(".zip"), [*entries, ("02_flash/ex2_merge.py", b" " * 2**28)])


def linked_zip(path):
    """A zip that holds a link to the solution."""
    link = zipfile.ZipInfo("02_flash/ex2_merge.py")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    entries = [e for e in solutions() if not e[0].endswith("ex2_merge.py")]
    zipped(path.with_suffix(".zip"), [*entries, (link, str(SOLUTION))])


def crowded_zip(path):
    """A zip of more entries than anybody hands in."""
    zipped(path.with_suffix(".zip"), [(f"x{i}.py", b"") for i in range(20_001)])


def damaged_zip(path):
    """A zip of which a file is damaged."""
    zipped(path.with_suffix(".zip"), solutions())
    data = bytearray(path.with_suffix(".zip").read_bytes())
    place = data.index(b"02_flash/ex2_merge.py") + len(b"02_flash/ex2_merge.py")
    data[place : place + 200] = bytes(200)
    path.with_suffix(".zip").write_bytes(data)


def no_zip(path):
    """A zip that is none."""
    path.with_suffix(".zip").write_bytes(b"PK\x03\x04 and nothing else")


def empty_zip(path):
    """A zip of nothing."""
    path.with_suffix(".zip").write_bytes(b"")


def wrapped_zip(path):
    """A zip of a folder in a folder, as file managers make them: nothing is wrong with it."""
    zipped(path.with_suffix(".zip"), [(f"my homework (2)/exercises/{name}", data) for name, data in solutions()])


def flat_folder(path):
    """The files without their chapter's folder: nothing is wrong with it."""
    path.mkdir()
    for exercise in course.find("02_flash"):
        (path / exercise.stub.name).write_bytes((ROOT / "solutions" / exercise.place).read_bytes())


def another_chapter(path):
    """The right file in another chapter's folder, which is another exercise's place."""
    chapter = solved(path)
    (path / "01_gqa").mkdir()
    (chapter / "ex2_merge.py").rename(path / "01_gqa/ex2_merge.py")


# What each may lose: the exercises that give nothing.
FILES = {
    linked_file: {"02.2"}, linked_folder: "all", looped_folder: set(), pipe: {"02.2"}, folder_for_a_file: {"02.2"},
    not_utf8: {"02.2"}, names_not_utf8: set(), extra_files: {"02.2"}, many_files: set(), huge_file: {"02.2"},
    traversing_zip: {"02.2"}, zip_bomb: {"02.2"}, linked_zip: {"02.2"}, crowded_zip: "all", damaged_zip: {"02.2"},
    no_zip: "all", empty_zip: "all", wrapped_zip: set(), flat_folder: set(), another_chapter: {"02.2"},
}
