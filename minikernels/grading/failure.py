"""What a submission loses points by."""

__all__ = ["Failure"]


class Failure(AssertionError):
    """A submission is wrong, wasteful or not allowed; the message is written for the learner."""
