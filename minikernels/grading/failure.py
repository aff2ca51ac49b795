"""What a submission loses points by."""

__all__ = ["Failure", "Overtime"]


class Failure(AssertionError):
    """A submission is wrong, wasteful or not allowed; the message is written for the learner."""


class Overtime(Failure):
    """A submission had to be stopped."""
