"""Climb a ladder: every rung checked, counted and timed on one input, and a page that plays it."""

import json
import math

from rich.markup import escape

from minikernels import catalog
from minikernels.bench import ladder
from minikernels.bench.climb import climb
from minikernels.bench.recorded import recordings, spelled, spoken_share
from minikernels.commands import arguments as read
from minikernels.commands import console, pages


def arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("technique", help=f"one of: {', '.join(catalog.names())}")
    read.add_input(parser)
    parser.add_argument("--out", default=".", metavar="DIR|PAGE.html", help="where to write the page (here)")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def run(args):
    """Climb, print what each rung did and write the page; the exit code is 1 if a rung is wrong."""
    technique = read.technique(args.technique)
    path = read.writable_page(args.out, f"minikernels-{technique.name}.html")
    with console.progress() as working:
        working("reading the input")
        made = read.made_input(technique, args)
        steps = list(climb(technique, made.inputs, lambda rung: working(f"{rung.name}: {rung.idea}")))
        working("recording the page")
        path = pages.write(played(technique, made), f"{technique.name}: {' beside '.join(technique.shown)}", path)
    if args.json:
        print(json.dumps(report(technique, made, steps, path), indent=2))
    else:
        show(technique, made, steps, path)
    wrong = [step for step in steps if step.where and not (step.right and step.agrees is not False)]
    return 1 if wrong else 0


def played(technique, made):
    """Return the launches that the page plays, on a slice of the input that is small enough to watch."""
    inputs = technique.cut(made.inputs)
    return [pages.record(technique, technique.rung(name), inputs) for name in technique.shown]


def report(technique, made, steps, path):
    """Return the climb as plain data."""
    dtype = made.dtype
    return {
        "technique": technique.name, "origin": made.origin, "dtype": dtype, "causal": made.causal,
        "sizes": technique.sizes(made.inputs), "page": str(path),
        "rungs": [described(technique, step, dtype) for step in steps],
    }


def described(technique, step, dtype):
    """Return one rung's row as plain data."""
    data = {"name": step.rung.name, "kind": step.rung.kind, "idea": step.rung.idea, "where": step.where,
            "reason": step.reason, "right": step.right if step.where else None, "seconds": step.seconds}
    data["outputs"] = {name: {"passed": v.passed, "error": finite(v.error), "budget": v.budget, "message": v.message}
                       for name, v in step.verdicts.items()}
    data["findings"] = [{"kind": f.kind, "message": f.message} for f in step.findings]
    for name, traffic in (("predicted", step.predicted), ("counted", step.counted)):
        data[name] = traffic and {**traffic.as_dict(), "hbm_bytes": traffic.hbm_bytes}
    data["predicted_equals_counted"] = step.agrees
    data["recorded"] = [
        {"gpu": recording.gpu, "case": spelled(result.case), "ms": result.ms, "speed": result.speed,
         "production": peer and peer.name, "of_production": peer and peer.ms / result.ms}
        for recording, result, peer in recorded(technique, step.rung, dtype)]
    return data


def finite(number):
    """Return a number, or None where JSON has no word for it."""
    return number if math.isfinite(number) else None


def recorded(technique, rung, dtype):
    """Yield (recording, result, production kernel) of one rung on each GPU, in this dtype or else in one it takes."""
    for recording in recordings():
        for kind in (dtype, *rung.dtypes):
            result = recording.of(technique.name, rung.name, recording.case(technique.name, kind))
            if result:
                yield recording, result, recording.production(technique.name, result.case)
                break


def show(technique, made, steps, path):
    """Print the ladder as a table, then what is wrong, and where the page is."""
    out = console.out()
    sizes = " ".join(f"{letter}{size}" for letter, size in technique.sizes(made.inputs).items())
    out.print(f"[bold]{technique.name}[/bold]: {technique.title}")
    out.print(f"{escape(made.origin)}; {sizes} {made.dtype}{' causal' if made.causal else ''}\n")
    header, *rows = console.lines(table(technique, steps, made.dtype))
    print(header)
    for step, row in zip(steps, rows, strict=True):
        print(row)
        out.print(f"  [dim]{step.rung.idea}[/dim]")
    for line in complaints(steps):
        out.print(f"[red]{escape(line)}[/red]")
    out.print()
    for note in notes(technique, steps, made.dtype):
        out.print(f"[dim]{note}[/dim]")
    link = f"[link={path.resolve().as_uri()}]{escape(str(path))}[/link]"
    out.print(f"Watch {' and '.join(technique.shown)} move tiles: {link}", soft_wrap=True)


def notes(technique, steps, dtype):
    """Return a line for every case whose recorded times are shown: what was measured, on what and when."""
    found = [row for step in steps for row in recorded(technique, step.rung, dtype)]
    shown = dict.fromkeys((recording, result.case) for recording, result, _ in found)
    return [ladder.note(technique, recording, case).strip() for recording, case in shown]


def table(technique, steps, dtype):
    """Return the table of what was measured, a line a rung."""
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="dim")
    columns = ["rung", "", "error / budget", "bytes predicted", "counted", "time here"]
    columns += [title for recording in recordings() for title in (recording.gpu, "of production")]
    for number, title in enumerate(columns):
        grid.add_column(title, justify="left" if number < 3 else "right", no_wrap=True)
    for step in steps:
        grid.add_row(step.rung.name, *cells(step), *on_gpus(technique, step.rung, dtype))
    return grid


def cells(step):
    """Return the words for verdict, error, bytes and time of one rung."""
    predicted = console.byte_count(step.predicted) if step.predicted else ""
    if step.where is None:
        return "", f"[yellow]{step.reason}[/yellow]", predicted, "", ""
    verdict = "[green]right[/green]" if step.right else "[red]WRONG[/red]"
    error = f"{step.worst.error:.1e} / {step.worst.budget:.1e}"
    counted = ""
    if step.counted:
        sign = "[green]=[/green]" if step.agrees else "[red]![/red]"
        counted = f"{sign} {console.byte_count(step.counted)}"
    return verdict, error, predicted, counted, f"{console.duration(step.seconds)} {step.where}"


def on_gpus(technique, rung, dtype):
    """Yield two cells for each recording: time, and share of the production kernel."""
    found = {recording: (result, peer) for recording, result, peer in recorded(technique, rung, dtype)}
    for recording in recordings():
        if recording not in found:
            yield from ("", "")
            continue
        result, peer = found[recording]
        other = "" if result.case[1] == dtype else f" ({result.case[1]})"
        yield console.duration(result.ms / 1000) + other
        yield spoken_share(peer, result)


def complaints(steps):
    """Yield a line for everything that is wrong."""
    for step in steps:
        for name, verdict in step.verdicts.items():
            if not verdict.passed:
                yield f"{step.rung.name}, {name}: {verdict.message}"
        for finding in step.findings:
            yield f"{step.rung.name}: {finding.message}"
        if step.agrees is False:
            for name, (predicted, counted) in step.disagreements.items():
                yield f"{step.rung.name}: {name} predicted {predicted:,}, counted {counted:,}"
