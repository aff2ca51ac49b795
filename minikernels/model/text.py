"""The standard library's own source, split by module into training, validation and held-out text.

The split is by name, so that it is the same for every interpreter, and by whole module or package, so that no
held-out text has a neighbour from its own package in the training text.
"""

import hashlib
import sysconfig
from pathlib import Path

__all__ = ["EXCLUDED", "HELD_OUT", "SEPARATOR", "VALIDATION", "corpus", "held_out", "modules", "provenance"]

# Stands before every document, and before any text whose loss is asked for. Python source holds no zero byte.
SEPARATOR = b"\x00"

HELD_OUT = (
    "argparse",
    "calendar",
    "dataclasses",
    "difflib",
    "fractions",
    "heapq",
    "ipaddress",
    "json",
    "statistics",
    "tarfile",
    "textwrap",
)
SPLITS = ("train", "tests", "validation", "held_out")
VALIDATION = ("ast", "configparser", "csv", "pprint", "selectors", "shutil")

# Not the library's code: generated tables, installed packages, and tests that stand beside the code they test.
EXCLUDED = ("encodings", "ensurepip", "site-packages", "dist-packages", "__pycache__", "tests")


def modules(root=None):
    """Return the library's files: a dict from top-level module or package to its sorted list of paths."""
    root = Path(root or sysconfig.get_paths()["stdlib"])
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        name = parts[0].removesuffix(".py")
        # _sysconfigdata_* and config-3.x-* hold the paths of the machine that built the interpreter.
        generated = name.startswith(("_sysconfigdata", "config-"))
        if not generated and not set(parts) & set(EXCLUDED) and not _tests_set_aside(parts):
            found.setdefault(name, []).append(path)
    return found


def _tests_set_aside(parts):
    """Return whether a file is a test of a held-out or validation module (test/test_json/..., test/test_heapq.py)."""
    names = {part.removesuffix(".py") for part in parts}
    return parts[0] == "test" and any(f"test_{name}" in names for name in (*HELD_OUT, *VALIDATION))


def corpus(split, root=None):
    """Return one split of the library as bytes, each file after a ``SEPARATOR``.

    Parameters
    ----------
    split : {"train", "tests", "validation", "held_out"}
        Which part; "tests" is the package ``test``, which some distributions leave out, without the tests of the
        modules that are set aside.
    root : path, optional
        The folder of the library; that of the running interpreter by default.

    Returns
    -------
    bytes
        The files in sorted order.
    """
    return b"".join(SEPARATOR + path.read_bytes().replace(SEPARATOR, b"") for path in _paths(split, root))


def held_out(limit=None, root=None):
    """Return text that no model here was trained on, as bytes without separators, at most `limit` of them.

    The limit is spread evenly over the held-out modules: the beginning of each is taken.
    """
    paths = _paths("held_out", root)
    texts = [path.read_bytes() for path in paths]
    if limit is not None:
        share = limit // len(texts)
        texts = [text[:share] for text in texts]
    return b"".join(texts)


def provenance(root=None):
    """Return what identifies a corpus: bytes and files of each split and a hash over every file's name and content."""
    root = Path(root or sysconfig.get_paths()["stdlib"])
    record = {"held_out_modules": list(HELD_OUT), "validation_modules": list(VALIDATION), "excluded": list(EXCLUDED)}
    for split in SPLITS:
        paths, total = _paths(split, root), hashlib.sha256()
        for path in paths:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f"{path.relative_to(root).as_posix()} {digest}\n".encode())
        size = sum(path.stat().st_size for path in paths)
        record[split] = {"files": len(paths), "bytes": size, "sha256": total.hexdigest()}
    return record


def _paths(split, root):
    """Return the files of one split, sorted."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; it is one of {', '.join(SPLITS)}")
    return [path for name, paths in sorted(modules(root).items()) for path in paths if _split_of(name) == split]


def _split_of(name):
    """Return the split that a top-level module belongs to."""
    if name in HELD_OUT:
        return "held_out"
    if name in VALIDATION:
        return "validation"
    return "tests" if name == "test" else "train"
