"""Points: what each test of an exercise gave, and how that is told."""

from dataclasses import dataclass, field

__all__ = ["Graded", "Report", "Reports", "Task", "points_table", "reports_of"]


@dataclass(frozen=True)
class Graded:
    """One case of one test, as pytest ran it."""

    exercise: str
    test: str
    title: str
    points: int
    passed: bool
    begun: bool
    message: str
    case: str


@dataclass(frozen=True)
class Task:
    """One test of an exercise: its points are given if every case passes, and not otherwise."""

    test: str
    title: str
    points: int
    passed: bool
    begun: bool
    message: str

    @property
    def earned(self):
        """The points given."""
        return self.points if self.passed else 0


@dataclass(frozen=True)
class Report:
    """What one submission of one exercise earned.

    Attributes
    ----------
    exercise : str
        ``02.3``.
    name, title : str
    tasks : list of Task
    """

    exercise: str
    name: str
    title: str
    tasks: list = field(repr=False)

    @property
    def earned(self):
        """The points given."""
        return sum(t.earned for t in self.tasks)

    @property
    def points(self):
        """The points to be had."""
        return sum(t.points for t in self.tasks)

    @property
    def begun(self):
        """Whether anybody has written anything."""
        return any(t.begun for t in self.tasks)

    @property
    def full(self):
        """Whether every point is given."""
        return self.earned == self.points

    def lost(self):
        """Return the names of the tests that gave nothing."""
        return {t.test for t in self.tasks if not t.passed}

    def __str__(self):
        head = f"{self.exercise} {self.name}: {self.earned} of {self.points} points. {self.title}"
        if not self.begun:
            return f"{head}\n" + indented(self.tasks[0].message)
        lines, told = [head], set()
        for task in self.tasks:
            lines.append(f"  {'ok  ' if task.passed else 'lost'}  {task.points}  {task.title}")
            if not task.passed:
                lines.append(indented("as above" if task.message in told else task.message))
                told.add(task.message)
        return "\n".join(lines)

    __repr__ = __str__  # a notebook cell that ends in check("02.3") shows the report


class Reports(list):
    """Reports of several exercises, shown one below the other."""

    def __str__(self):
        return "\n\n".join(map(str, self))

    __repr__ = __str__


def indented(message):
    """Return a message set in below its task."""
    return "\n".join(f"           {line}" for line in message.splitlines())


def tasks_of(graded):
    """Return the tasks of one exercise's cases, in the order of the tests; the first case that failed speaks."""
    tasks = {}
    for g in graded:
        before = tasks.get(g.test)
        if before is None or (before.passed and not g.passed):
            message = f"[{g.case}] {g.message}" if g.case and g.begun and g.message else g.message
            tasks[g.test] = Task(g.test, g.title, g.points, g.passed, g.begun, message)
    return list(tasks.values())


def reports_of(graded, exercises):
    """Return a Report of every exercise that any case belongs to."""
    reports = Reports()
    for key, e in exercises.items():
        mine = [g for g in graded if g.exercise == key]
        if mine:
            reports.append(Report(key, e.name, e.title, tasks_of(mine)))
    return reports


def points_table(graded):
    """Return one line an exercise and the sum."""
    rows = []
    for key in sorted({g.exercise for g in graded}):
        tasks = tasks_of([g for g in graded if g.exercise == key])
        rows.append((key, sum(t.earned for t in tasks), sum(t.points for t in tasks)))
    rows.append(("all", sum(r[1] for r in rows), sum(r[2] for r in rows)))
    return "\n".join(f"{key:>6}  {earned:>3} of {points:>3} points" for key, earned, points in rows)
