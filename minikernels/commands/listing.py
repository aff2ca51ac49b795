"""Show the catalog: every technique and its rungs."""

import json

from minikernels import catalog
from minikernels.commands import console


def arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print the catalog as JSON")


def run(args):
    """Print the catalog as a tree of techniques and rungs, or as JSON."""
    if args.json:
        print(json.dumps({"techniques": [described(name) for name in catalog.names()]}, indent=2))
        return 0
    from rich.table import Table

    out = console.out()
    for name in catalog.names():
        technique = catalog.technique(name)
        out.print(f"[bold]{name}[/bold]  {technique.title}")
        table = Table(box=None, show_header=False, pad_edge=True)
        for rung in technique.rungs:
            table.add_row(f"  {rung.name}", f"[dim]{rung.kind}[/dim]", rung.idea)
        out.print(table)
    out.print(f"\nClimb one: [bold]minikernels climb {catalog.names()[0]}[/bold]")
    return 0


def described(name):
    """Return one technique as plain data."""
    technique = catalog.technique(name)
    return {
        "name": technique.name, "title": technique.title, "letters": list(technique.letters),
        "papers": [{"title": paper.title, "arxiv": paper.arxiv} for paper in technique.papers],
        "notebook": technique.notebook, "exercises": technique.exercises,
        "rungs": [{"name": rung.name, "kind": rung.kind, "idea": rung.idea, "dtypes": list(rung.dtypes)}
                  for rung in technique.rungs],
    }
