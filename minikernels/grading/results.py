"""Results in the forms that people and programs read: text, JSON, CSV, JUnit's XML and Gradescope's results.json."""

import csv
import io
import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree

from minikernels.grading.report import Report, Reports, Task

__all__ = ["COLUMNS", "Result", "blank", "gradescope", "junit", "load", "table", "write"]

COLUMNS = ("student", "exercise", "name", "task", "title", "points", "earned", "passed", "hidden", "bytes_moved")
UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # no character of XML 1.0


@dataclass(frozen=True)
class Result:
    """What one student earned.

    Attributes
    ----------
    student : str
    reports : Reports
    problem : str
        What went wrong with grading, or nothing. The first line is for everybody, a traceback below it for instructors.
    said : dict
        What was wrong with a file, by exercise.
    fingerprint : str
        Of the submission, the tests and the seed: equal ones need no second run.
    seconds : float
    memory : int
        Bytes.
    """

    student: str
    reports: Reports
    problem: str = ""
    said: dict = field(default_factory=dict)
    fingerprint: str = ""
    seconds: float = 0.0
    memory: int = 0

    @property
    def earned(self):
        """The points given."""
        return sum(r.earned for r in self.reports)

    @property
    def points(self):
        """The points to be had."""
        return sum(r.points for r in self.reports)

    def text(self, hidden=False):
        """Return the result for people; for learners without what hidden tests said."""
        parts = [f"{self.student}: {self.earned:g} of {self.points:g} points"]
        parts += self.problem.splitlines()[:1]
        for report in self.reports:
            parts.append("\n".join(filter(None, (report.text(hidden), self.said.get(report.exercise)))))
        return "\n\n".join(parts) + "\n"

    def as_dict(self):
        """Return the result as plain data."""
        return {"student": self.student, "earned": self.earned, "points": self.points, "problem": self.problem,
                "said": self.said, "fingerprint": self.fingerprint, "seconds": round(self.seconds, 3),
                "memory": self.memory,
                "reports": [{**asdict(r), "earned": r.earned, "points": r.points, "leaderboard": r.rank}
                            for r in self.reports]}


def load(path):
    """Return the result that a file holds, or None where it holds none."""
    try:
        data = json.loads(Path(path).read_text("utf-8"))
        reports = [Report(r["exercise"], r["name"], r["title"], [Task(**t) for t in r["tasks"]], r["bytes_moved"])
                   for r in data["reports"]]
        return Result(data["student"], Reports(reports), data["problem"], data["said"], data["fingerprint"],
                      data["seconds"], data["memory"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def blank(reports, why):
    """Return reports in which every task is lost, for a reason."""
    return Reports(replace(r, bytes_moved=0, tasks=[replace(t, earned=0, passed=False, begun=True, message=why)
                                                    for t in r.tasks]) for r in reports)


def write(path, text):
    """Write a file as a whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".partial")
    try:
        with open(handle, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def table(results):
    """Return CSV, one row a student and task."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for result in results:
        for r in result.reports:
            rows.writerows((result.student, r.exercise, r.name, t.test, t.title, t.points, t.earned, int(t.passed),
                            int(t.hidden), r.bytes_moved or "") for t in r.tasks)
    return text.getvalue()


def junit(results):
    """Return JUnit's XML: a suite a student and exercise, a case a task."""
    root = ElementTree.Element("testsuites")
    for result in results:
        for r in result.reports:
            suite = ElementTree.SubElement(
                root, "testsuite", name=f"{result.student} {r.exercise}", tests=str(len(r.tasks)),
                failures=str(len(r.lost())), errors="0", skipped="0")
            for t in r.tasks:
                case = ElementTree.SubElement(suite, "testcase", classname=f"{result.student}.{r.name}", name=t.title)
                if not t.passed:
                    said = UNPRINTABLE.sub("?", t.message)
                    lost = f"{t.points - t.earned:g} of {t.points:g} points lost"
                    ElementTree.SubElement(case, "failure", message=lost).text = said
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def gradescope(result):
    """Return what Gradescope reads as results.json."""
    tests, board = [], []
    for r in result.reports:
        for number, t in enumerate(r.tasks, 1):
            said = "" if t.passed else "\n".join(filter(None, (t.message, result.said.get(r.exercise))))
            tests.append({
                "name": f"{r.exercise} {t.title}", "number": f"{r.exercise}.{number}", "score": t.earned,
                "max_score": t.points, "status": "passed" if t.passed else "failed", "output": said,
                "output_format": "text", "visibility": "after_published" if t.hidden else "visible"})
        if r.rank:
            board.append({"name": f"{r.exercise} bytes moved", "value": r.rank, "order": "asc"})
    return {"score": result.earned, "output": result.problem.partition("\n")[0], "output_format": "text",
            "visibility": "visible", "stdout_visibility": "hidden", "execution_time": round(result.seconds),
            "tests": tests, "leaderboard": board}
