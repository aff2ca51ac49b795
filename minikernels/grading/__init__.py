"""The exercises' grader: value, hazards and traffic, from a submission that is never trusted."""

from minikernels.grading.course import Exercise, UnknownExercise, find
from minikernels.grading.failure import Failure
from minikernels.grading.runner import Report, check, grade

__all__ = ["Exercise", "Failure", "Report", "UnknownExercise", "check", "find", "grade"]
