"""Grading many submissions: several at a time, with a file of results for each, and on from where a run was ended."""

import hashlib
import json
import queue
import secrets
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

from minikernels.grading import course
from minikernels.grading.intake import fingerprint, take
from minikernels.grading.process import Ended, Process
from minikernels.grading.report import Reports
from minikernels.grading.results import Result, blank, junit, load, table, write
from minikernels.grading.runner import grade

__all__ = ["grade_many", "grade_one", "seed_of"]

PATIENCE = 180  # seconds on the clock for one exercise; what a submission runs is bounded far below
RESTART = 40  # submissions after which a process is replaced, so that nothing grows for ever


def grade_many(submissions, out, order, *, jobs, fresh=False, tell=lambda result, kept: None):
    """Grade submissions and write their results; return them in the order of the submissions.

    Parameters
    ----------
    submissions : list of HandedIn
    out : Path
        Gets ``students/NAME.json`` and ``.txt``, ``grades.csv`` and ``junit.xml``.
    order : Order
        What is graded and how; its source is not looked at.
    jobs : int
        How many at a time.
    fresh : bool
        Whether to grade again what has been graded already, unchanged.
    tell : callable
        Called with every result, and whether it was there before.
    """
    waiting, results, failed, lock = queue.SimpleQueue(), {}, [], threading.Lock()
    tests, unbegun = digest(order), stubs(order)
    for number, one in enumerate(submissions):
        waiting.put((number, one))

    def work():
        process, graded = Process("minikernels.grading.session"), 0
        try:
            while not failed:
                number, one = waiting.get_nowait()
                path, fingerprint = out / "students" / f"{one.student}.json", fingerprint_of(one, order, tests)
                result = None if fresh else load(path)
                kept = result is not None and result.fingerprint == fingerprint and not result.problem
                if not kept:
                    result = written(path, grade_one(one, order, process, unbegun, fingerprint))
                    graded += 1
                    if graded % RESTART == 0:
                        process.close()
                with lock:
                    results[number] = result
                    tell(result, kept)
        except queue.Empty:
            pass
        except Exception as error:  # told by the thread that waits for this one
            failed.append(error)
        finally:
            process.close()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(max(1, min(jobs, len(submissions))))]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # an interrupt is heard between two of these
    if failed:
        raise failed[0]
    found = [results[number] for number in range(len(submissions))]
    write(out / "grades.csv", table(found))
    write(out / "junit.xml", junit(found))
    return found


def grade_one(one, order, process, unbegun, fingerprint=""):
    """Grade one submission; whatever it does, there is a result."""
    order, problem = replace(order, source=one.path), ""
    for _ in range(2):  # a second time, in case the machine was at fault and not the submission
        try:
            graded = process.ask(order, PATIENCE * len(order.exercises))
        except Ended as end:
            problem = "could not be graded: the grader was stopped: " + ("too much time" if end.overtime else str(end))
        except RuntimeError as error:
            problem = f"could not be graded: the grader failed: {error}"
            process.close()  # whatever is wrong with it is neither the second try's nor the next submission's
        else:
            return Result(one.student, Reports(graded.reports), "", graded.said, fingerprint, graded.seconds,
                          graded.memory)
    return Result(one.student, blank(unbegun, "This submission could not be graded; ask your instructor."), problem,
                  {}, fingerprint)


def written(path, result):
    """Write a student's results and return them, with what kept them from being written if anything did."""
    try:
        write(path.with_suffix(".txt"), result.text())
        write(path, json.dumps(result.as_dict(), indent=1) + "\n")
    except OSError as error:  # a full disk, or a name that it does not take; the points stand in the table even so
        return replace(result, problem=result.problem or f"has no {path.name}: {error.strerror}")
    return result


def stubs(order):
    """Return the reports of a submission without any file: the tasks that there are, and their points."""
    with tempfile.TemporaryDirectory() as empty:
        return grade([course.exercises()[key] for key in order.exercises], empty, seed=order.seed,
                     hidden=order.hidden)


def digest(order):
    """Return a digest of all that decides a grade beside the submission: seed, limits, the package and the tests."""
    words = [order.exercises, order.seed, order.time_limit]
    for folder in (Path(__file__).resolve().parent.parent, course.folder(), order.hidden):
        words.append(None if folder is None else fingerprint(folder, ".py"))
    return hashlib.sha256(repr(words).encode()).hexdigest()


def fingerprint_of(one, order, tests):
    """Return a digest of the exercises' files in a submission and of what decides their grade."""
    with tempfile.TemporaryDirectory() as clean:
        said = take(one.path, [course.exercises()[key] for key in order.exercises], Path(clean))
        return hashlib.sha256(repr((tests, fingerprint(clean), sorted(said.items()))).encode()).hexdigest()


def seed_of(out, given):
    """Return the seed of a run: the one that is given, the one that the results were begun with, or a secret one."""
    path = out / "run.json"
    known = None
    if path.is_file():
        try:
            known = int(json.loads(path.read_text("utf-8"))["seed"])
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} holds no seed; remove it, and all is graded again") from None
    seed = given if given is not None else known if known is not None else secrets.randbits(62)
    write(path, json.dumps({"seed": seed}) + "\n")
    return seed
