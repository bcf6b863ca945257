"""Limits of the fit under way, which a density keeps when it evaluates."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pymc_multimodal.target.evaluation import CallLimit

__all__ = ["CallTimes", "Limits"]

INFINITY = float("inf")
# Seconds by which an evaluation may overrun the last bound. Conventional: a limit in seconds is
# kept within two of them.
GRACE_SECONDS = 1.0
# Evaluations as long as the longest so far that a model may take beyond: evaluations of a slow
# model return, and are no hang. Conventional.
SLOWEST_EVALUATIONS = 2.0


@dataclass(frozen=True)
class Limits:
    """How far evaluations may go.

    Two bounds are kept apart. Beyond the last bound no point is evaluated. Beyond the early bound,
    which is that of the step under way, work that can be left out is refused and other work does
    its least.

    Attributes
    ----------
    last_evals, early_evals : float
        Bounds of the number of points that the density has evaluated in its life.
    last_time, early_time : float
        Bounds of `time.monotonic`, in seconds.
    refusing : bool
        Whether the work under way can be left out.
    """

    last_evals: float = INFINITY
    last_time: float = INFINITY
    early_evals: float = INFINITY
    early_time: float = INFINITY
    refusing: bool = False

    def early(self, evals: int) -> bool:
        """Tell whether the early bound is reached after so many evaluations."""
        return evals >= self.early_evals or time.monotonic() >= min(self.early_time, self.last_time)

    def refuses(self, evals: int, more: int) -> bool:
        """Tell whether `more` evaluations after `evals` ones are refused."""
        if evals + more > self.last_evals or time.monotonic() >= self.last_time:
            return True
        return self.refusing and self.early(evals)

    def room(self, evals: int, seconds_each: float, *, early: bool = True) -> float:
        """Return how many more points can be evaluated before a bound is reached.

        Parameters
        ----------
        evals : int
            Evaluations so far.
        seconds_each : float
            Wall-clock time of one evaluation; 0 if it is not known.
        early : bool
            Whether the early bound or the last one is meant.

        Returns
        -------
        float
            At least 0; ``inf`` without a limit.
        """
        most = min(self.early_evals, self.last_evals) if early else self.last_evals
        until = min(self.early_time, self.last_time) if early else self.last_time
        room = most - evals
        if until < INFINITY:
            seconds = until - time.monotonic()
            if seconds <= 0:
                return 0.0
            room = min(room, seconds / seconds_each) if seconds_each else room
        return max(room, 0.0)

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return min(self.last_evals, self.last_time, self.early_evals, self.early_time) < INFINITY


@dataclass
class CallTimes:
    """How long calls of the function have taken, and how long the next one may take.

    Attributes
    ----------
    deadline : float
        Time of `time.monotonic` after which a call that does not return is given up.
    slowest, last : float
        Seconds of the longest call so far, and of the last one.
    """

    deadline: float = INFINITY
    slowest: float = 0.0
    last: float = 0.0

    def of_next_call(self) -> CallLimit | None:
        """Return the limit of a call that begins now; None where there is no deadline.

        One that begins before the deadline has until then, one that begins later no time; both may
        take `GRACE_SECONDS` more, and the time of `SLOWEST_EVALUATIONS` of the longest so far.
        """
        if self.deadline == INFINITY:
            return None
        grace = GRACE_SECONDS + SLOWEST_EVALUATIONS * self.slowest
        return CallLimit(max(self.deadline - time.monotonic(), 0.0) + grace, self.slowest)

    def took(self, seconds: float) -> None:
        """Let a call count among those so far."""
        self.slowest, self.last = max(self.slowest, seconds), seconds
