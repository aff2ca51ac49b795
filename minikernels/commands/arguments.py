"""Reading what the user typed: names, sizes, texts and paths, each with a one-line error."""

import argparse
import difflib
import os
from pathlib import Path

from minikernels import catalog
from minikernels.bench import inputs

__all__ = ["ArgumentsError", "add_input", "closest", "made_input", "reason", "rung", "technique", "writable_page"]


class ArgumentsError(Exception):
    """What the user typed cannot be meant; the message is one line."""


def closest(word, known):
    """Return `; did you mean ...?` or the names there are, ready to end an error message."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; choose from {', '.join(known)}"


def technique(name):
    """Return the catalog's technique of that name."""
    if name not in catalog.names():
        raise ArgumentsError(f"unknown technique {name!r}{closest(name, catalog.names())}")
    return catalog.technique(name)


def rung(of, name):
    """Return a technique's rung of that name."""
    names = [r.name for r in of.rungs]
    if name not in names:
        raise ArgumentsError(f"{of.name} has no rung {name!r}{closest(name, names)}")
    return of.rungs[names.index(name)]


def add_input(parser):
    """Declare what every command that runs a rung takes as its input."""
    parser.add_argument("--text", metavar="FILE", help="the text whose activations are the input")
    parser.add_argument("--length", type=int, metavar="N", help=f"how many bytes of it are read ({inputs.LENGTH})")
    parser.add_argument("--layer", type=int, metavar="N", help="which layer of the tiny model (the last)")
    parser.add_argument("--random", metavar="B,H,G,T,S,D", help="random numbers of these sizes instead of a text")
    causal = argparse.BooleanOptionalAction
    parser.add_argument("--causal", action=causal, default=True, help="mask the future (default)")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="precision of the input")


def made_input(of, args):
    """Return the input that the arguments ask for."""
    if args.random is None:
        text = None if args.text is None else (args.text, read_text(args.text))
        return inputs.from_model(of, text, args.layer, args.length, args.dtype, args.causal)
    given = [f"--{name}" for name in ("text", "layer", "length") if getattr(args, name) is not None]
    if given:
        raise ArgumentsError(f"--random makes an input without a text; leave out {' and '.join(given)}")
    return inputs.from_random(of, sizes(args.random, of.letters), args.dtype, args.causal)


def sizes(text, letters):
    """Return {letter: size} of ``2,4,2,63,65,32``; what the sizes must obey is the technique's own business."""
    words = [word.strip() for word in text.split(",")]
    if len(words) != len(letters) or not all(word.isascii() and word.isdigit() and int(word) for word in words):
        wanted = f"{len(letters)} whole numbers {','.join(letters)}, each 1 or more"
        raise ArgumentsError(f"--random takes {wanted}; got {text!r}")
    return dict(zip(letters, map(int, words), strict=True))


def read_text(path):
    """Return the bytes of a file that the user named; the tiny model reads bytes, so any encoding will do."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ArgumentsError(f"cannot read {path}: {reason(error)}") from None
    if not text:
        raise ArgumentsError(f"{path} is empty: the model needs at least one byte of text")
    return text


def writable_page(out, name):
    """Return the path of the HTML page to write: ``out`` itself if it ends in .html, else ``out/name``.

    Tried before the work starts, so that nobody waits a minute for a page that cannot be written.
    """
    path = Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        path = path / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentsError(f"cannot make the folder {path.parent}: {reason(error)}") from None
    if path.is_dir() or not is_writable(path):
        raise ArgumentsError(f"cannot write {path}: {'it is a folder' if path.is_dir() else 'permission denied'}")
    return path


def reason(error):
    """Return why the system refused a file, in a few words."""
    return (error.strerror or str(error)).lower()


def is_writable(path):
    """Return whether a file can be written here, without touching one that exists."""
    return os.access(path if path.exists() else path.parent, os.W_OK)
