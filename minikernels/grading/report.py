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
    hidden: bool = False
    partial: bool = False
    bytes_moved: int = 0


@dataclass(frozen=True)
class Task:
    """One test of an exercise: its points are given if every case passes, and otherwise not, unless they are shared.

    Attributes
    ----------
    test, title : str
    points, earned : int or float
        To be had, and given.
    passed, begun : bool
    message : str
        What is wrong, for the learner.
    hidden : bool
        Whether learners are kept from the message.
    """

    test: str
    title: str
    points: int
    earned: float
    passed: bool
    begun: bool
    message: str
    hidden: bool = False


@dataclass(frozen=True)
class Report:
    """What one submission of one exercise earned.

    Attributes
    ----------
    exercise : str
        ``02.3``.
    name, title : str
    tasks : list of Task
    bytes_moved : int
        What the launches of all its tests moved between the chip and HBM; 0 for a NumPy exercise.
    """

    exercise: str
    name: str
    title: str
    tasks: list = field(repr=False)
    bytes_moved: int = 0

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

    @property
    def rank(self):
        """What a leaderboard compares, the less the better: bytes moved by a kernel that has every point, or None."""
        return self.bytes_moved if self.full and self.bytes_moved else None

    def lost(self):
        """Return the names of the tests that gave nothing."""
        return {t.test for t in self.tasks if not t.passed}

    def text(self, hidden=True):
        """Return the report for people, with or without what hidden tests said."""
        head = f"{self.exercise} {self.name}: {self.earned:g} of {self.points:g} points. {self.title}"
        if not self.begun:
            return f"{head}\n" + indented(self.tasks[0].message)
        lines, told = [head], set()
        for task in self.tasks:
            mark = "ok  " if task.passed else "part" if task.earned else "lost"
            lines.append(f"  {mark}  {task.points:g}  {'(hidden) ' if task.hidden else ''}{task.title}")
            if not task.passed and (hidden or not task.hidden):
                lines.append(indented("as above" if task.message in told else task.message))
                told.add(task.message)
        if self.rank:
            lines.append(f"  {self.rank:,} bytes moved in all launches")
        return "\n".join(lines)

    def __str__(self):
        return self.text()

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
    cases = {}
    for g in graded:
        cases.setdefault(g.test, []).append(g)
    return [task_of(mine) for mine in cases.values()]


def task_of(cases):
    """Return the task of one test's cases."""
    first, wrong = cases[0], [g for g in cases if not g.passed]
    speaks = wrong[0] if wrong else first
    message = f"[{speaks.case}] {speaks.message}" if speaks.case and speaks.begun and wrong else speaks.message
    share = 1 - len(wrong) / len(cases) if first.partial else not wrong
    earned = int(first.points * 100 * share) / 100  # hundredths, never rounded up
    return Task(first.test, first.title, first.points, int(earned) if earned == int(earned) else earned, not wrong,
                speaks.begun, message, first.hidden)


def reports_of(graded, exercises):
    """Return a Report of every exercise that any case belongs to."""
    reports = Reports()
    for key, e in exercises.items():
        mine = [g for g in graded if g.exercise == key]
        if mine:
            reports.append(Report(key, e.name, e.title, tasks_of(mine), sum(g.bytes_moved for g in mine)))
    return reports


def points_table(graded):
    """Return one line an exercise and the sum."""
    rows = []
    for key in sorted({g.exercise for g in graded}):
        tasks = tasks_of([g for g in graded if g.exercise == key])
        rows.append((key, sum(t.earned for t in tasks), sum(t.points for t in tasks)))
    rows.append(("all", sum(r[1] for r in rows), sum(r[2] for r in rows)))
    return "\n".join(f"{key:>6}  {earned:>3g} of {points:>3g} points" for key, earned, points in rows)
