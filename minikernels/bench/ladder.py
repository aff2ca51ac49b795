"""The ladder tables of the READMEs, made from the catalog and the recorded measurements.

``python -m minikernels.bench.ladder`` writes them; a test holds them in step.
"""

from pathlib import Path

from minikernels import catalog
from minikernels.bench import sparsity
from minikernels.bench.recorded import recordings, spelled, spoken_share

__all__ = ["BEGIN", "END", "readmes", "replaced", "summary", "table"]

BEGIN, END = "<!-- ladder:begin -->", "<!-- ladder:end -->"
PACKAGE = Path(__file__).resolve().parent.parent
UNTIMED = "No time on a GPU is recorded yet."
RUNS_ON = {"numpy": "NumPy", "numba": "SIMT machine, GPU", "raw": "GPU"}


def table(technique):
    """Return the Markdown table of one technique: a row a rung, and what was measured of it."""
    head, notes = ["rung", "idea", "runs on"], []
    columns = []  # (result of a rung, peer) by rung name
    for recording in recordings():
        for dtype in ("float32", "float16"):
            if case := recording.case(technique.name, dtype):
                columns.append(measured(technique, recording, case))
                head += [f"{recording.gpu}, {dtype}", "of production"]
                notes.append(note(technique, recording, case))
    lines = [row(head), row(["---"] * 3 + ["---:"] * (len(head) - 3))]
    for rung in technique.rungs:
        cells = [f"`{rung.name}`", rung.idea, RUNS_ON[rung.kind]]
        lines.append(row(cells + [cell for column in columns for cell in column[rung.name]]))
    return "\n".join([*lines, "", *(notes or [UNTIMED])])


def measured(technique, recording, case):
    """Return {rung: (speed, share of the production kernel)} of one case, as words."""
    peer = recording.production(technique.name, case)
    words = {}
    for rung in technique.rungs:
        result = recording.of(technique.name, rung.name, case)
        speed = result.speed if result else ""
        words[rung.name] = speed, spoken_share(peer, result) if result else ""
    return words


def note(technique, recording, case):
    """Return the sentence under the table that says what was measured, on what, when and beside what."""
    peer = recording.production(technique.name, case)
    beside = f"; production: {peer.name}, {peer.speed}" if peer else ""
    timed = [r for r in recording.results if (r.technique, r.case) == (technique.name, case)]
    where = f"{recording.gpu}, driver {recording.driver}, {recording.dates(timed)}"
    return f"{where}: {spelled(case)}, median of CUDA events{beside}.  "


def row(cells):
    """Return one line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def summary():
    """Return the table of the repository's README: every technique, every rung."""
    return "\n\n".join(f"**{name}**: {catalog.technique(name).title}\n\n{table(catalog.technique(name))}"
                       for name in catalog.names())


def readmes(root=PACKAGE.parent):
    """Return {path: text} of every README with a generated table, as it should be."""
    wanted = {root / "README.md": summary()}
    wanted |= {root / "minikernels" / name / "README.md": table(catalog.technique(name)) for name in catalog.names()}
    tables = {path: replaced(path.read_text("utf-8"), text) for path, text in wanted.items() if path.exists()}
    return {path: sparsity.with_speedups(text) for path, text in tables.items()}


def replaced(readme, table):
    """Return a README with what stands between the two marks replaced by a table."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"a README lacks {BEGIN} and {END}, between which the ladder table stands")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


if __name__ == "__main__":
    for path, text in readmes().items():
        path.write_text(text, "utf-8", newline="\n")
        print(path)
