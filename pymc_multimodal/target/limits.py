"""Limits of the fit under way, which a density is asked about before it evaluates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pymc_multimodal.status import EvaluationHung, LimitReached
from pymc_multimodal.target.evaluation import CallLimit

__all__ = ["EvaluationLimit"]

# Seconds by which an evaluation may overrun the deadline. Conventional: a limit in seconds is kept
# within two of them.
GRACE_SECONDS = 1.0
# Evaluations as long as the longest so far that a model may take beyond: evaluations of a slow
# model return, and are no hang. Conventional.
SLOWEST_EVALUATIONS = 2.0


@dataclass
class EvaluationLimit:
    """Tells whether a fit has reached one of its limits, and refuses evaluations where asked to.

    Attributes
    ----------
    reached : callable or None
        ``reached()`` is true once a limit is reached; None where there is no limit.
    refusing : bool
        Whether evaluations are refused from then on.
    deadline : float or None
        Time of `time.monotonic` after which an evaluation that does not return is given up.
    slowest : float
        Seconds of the longest evaluation so far.
    hung : EvaluationHung or None
        The last evaluation that was given up.
    """

    reached: Callable[[], bool] | None = None
    refusing: bool = False
    deadline: float | None = None
    slowest: float = 0.0
    hung: EvaluationHung | None = None

    def exhausted(self) -> bool:
        """Tell whether a limit is reached."""
        return self.reached is not None and self.reached()

    def check(self) -> None:
        """Raise `LimitReached` if a limit is reached and evaluations are refused."""
        if self.refusing and self.exhausted():
            raise LimitReached

    def of_next_call(self) -> CallLimit | None:
        """Return the limit of an evaluation that begins now; None where there is no deadline.

        One that begins before the deadline has until then, one that begins later no time; both may
        take `GRACE_SECONDS` more, and the time of `SLOWEST_EVALUATIONS` of the longest so far.
        """
        if self.deadline is None:
            return None
        grace = GRACE_SECONDS + SLOWEST_EVALUATIONS * self.slowest
        return CallLimit(max(self.deadline - time.monotonic(), 0.0) + grace, self.slowest)

    def gave_up(self, error: EvaluationHung) -> EvaluationHung | LimitReached:
        """Record an evaluation that was given up; return what is to be raised.

        That is `LimitReached` where evaluations are refused after a limit: the deadline is one.
        """
        self.hung = error
        return LimitReached() if self.refusing else error

    def took(self, seconds: float) -> None:
        """Let an evaluation count among those so far."""
        self.slowest = max(self.slowest, seconds)

    @contextmanager
    def refused(self, refuse: bool = True) -> Iterator[None]:
        """Refuse evaluations (or, with ``refuse=False``, allow them) inside of the context."""
        before, self.refusing = self.refusing, refuse
        try:
            yield
        finally:
            self.refusing = before
