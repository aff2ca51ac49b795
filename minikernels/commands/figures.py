"""Draw the published figures, a page that shows them all, and a blog post to start from for each technique."""

import json
import os
from pathlib import Path

from minikernels import catalog, gallery
from minikernels.commands import console
from minikernels.commands.arguments import ArgumentsError, is_writable, reason

SHOWN = "gallery.html"


def arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures, or techniques for all of theirs (all)")
    parser.add_argument("--out", default="figures", metavar="DIR", help="where the files go (figures)")
    parser.add_argument("--list", action="store_true", help="say which figures there are, and draw none")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(args):
    """Draw, and say what was written; the exit code is 1 if a figure that was asked for by name has no data."""
    if args.list:
        print("\n".join(gallery.NAMES))
        return 0
    names, posts = chosen(args.names)
    out = folder(args.out)
    with console.progress() as working:
        working("reading the recordings")
        drawn, lacking, files, variants = draw(names, out, sources(), working)
        pages = written(posts, drawn, lacking, variants, out, working, whole=not args.names)
    if args.json:
        print(json.dumps(report(drawn, lacking, files, pages), indent=2))
    else:
        show(drawn, lacking, pages, out)
    return 1 if lacking and set(args.names) & set(lacking) else 0


def chosen(words):
    """Return the figures that the words name, and the techniques whose posts are wanted."""
    known = [*catalog.names(), *gallery.NAMES]
    for word in words:
        if word not in known:
            raise ArgumentsError(f"unknown figure {word!r}; there are the techniques {', '.join(catalog.names())} and "
                                 f"the figures {', '.join(gallery.NAMES)}")
    posts = [name for name in catalog.names() if name in words or not words]
    wanted = {figure for name in posts for figure in gallery.about(name)} | set(words)
    return [name for name in gallery.NAMES if name in wanted], posts


def folder(path):
    """Return the folder of that name, made where there is none, and tried before the work begins."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentsError(f"cannot make the folder {path}: {reason(error)}") from None
    if not is_writable(path):
        raise ArgumentsError(f"cannot write into {path}: permission denied")
    return path


def sources():
    """Return everything recorded, as the gallery takes it."""
    from minikernels.bench import compression, counters, gate, generation, roofs
    from minikernels.bench.recorded import recordings
    from minikernels.gallery.sources import Sources

    def read(path):
        return json.loads(path.read_text("utf-8"))

    documents = {"compression": compression.RECORDED, "conversions": generation.CONVERSIONS, "gate": gate.RECORDED}
    return Sources(
        recordings(),
        tuple(read(path) for path in sorted(roofs.FOLDER.glob("*.json"))),
        {path.stem: read(path) for path in sorted(counters.FOLDER.glob("*.json"))},
        {name: read(path) for name, path in documents.items() if path.exists()})


def draw(names, out, given, working):
    """Draw figures; return those that were drawn, why others were not, {name: files} and {name: (light, dark) SVG}."""
    from minikernels.gallery import render
    from minikernels.gallery.sources import Missing

    drawn, lacking, files, variants = {}, {}, {}, {}
    for number, name in enumerate(names, start=1):
        working(f"{number} of {len(names)}: {name}")
        try:
            drawn[name] = gallery.load(name, given)
        except Missing as missing:
            lacking[name] = str(missing)
            continue
        files[name] = render.write(name, drawn[name], out)
        variants[name] = tuple((out / f"{name}{end}.svg").read_text("utf-8") for end in render.VARIANTS)
    return drawn, lacking, files, variants


def written(posts, drawn, lacking, variants, out, working, whole):
    """Write the posts of techniques with the pages that they embed, and the gallery of a whole run; return paths."""
    from minikernels.gallery import page, post, render

    paths = []
    for name in posts:
        working(f"a post on {name}")
        player = folder(out / "players") / f"{name}.html"
        paths.append(played(name, player))
        text = post.post(name, drawn, lacking, f"../players/{player.name}")
        paths.append(render.replace(folder(out / "blog") / f"{name}.md", text.encode()))
    if whole:
        paths.append(render.replace(out / SHOWN, page.page(drawn, lacking, variants).encode()))
    return paths


def played(name, path):
    """Write the page that plays two rungs of a technique side by side, as ``climb`` does, and return its path."""
    from minikernels.bench import inputs
    from minikernels.commands import climb, pages

    technique = catalog.technique(name)
    unfinished = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        launches = climb.played(technique, inputs.from_model(technique))
        pages.write(launches, f"{name}: {' beside '.join(technique.shown)}", unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def report(drawn, lacking, files, pages):
    """Return what was written as plain data."""
    figures = [{"name": name, "title": plate.title, "techniques": list(gallery.script(name).TECHNIQUES),
                "caption": plate.caption, "alt": plate.alt, "provenance": plate.provenance,
                "files": [str(path) for path in files[name]]} for name, plate in drawn.items()]
    return {"figures": figures, "missing": [{"name": name, "reason": why} for name, why in lacking.items()],
            "pages": [str(path) for path in pages]}


def show(drawn, lacking, pages, out):
    """Print what was drawn, what was not and why, and where the pages are."""
    lines = console.out()
    for name, plate in drawn.items():
        lines.print(f"{name:22} {plate.title}", markup=False, soft_wrap=True)
    for name, why in lacking.items():
        lines.print(f"{name:22} not drawn: {why}", markup=False, soft_wrap=True)
    lines.print(f"\n{len(drawn)} figures in {out}, each as SVG and PNG, light and dark", markup=False, soft_wrap=True)
    for path in pages:
        lines.print(f"written: {path}", markup=False, soft_wrap=True)
