"""What a fit has spent, and whether it may go on."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pymc_multimodal.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymc_multimodal.target.density import Density

__all__ = ["Clock"]

_log = logging.getLogger("pymc.multimodal")


class Clock:
    """Counts evaluations and seconds, knows their limits, and whether the user interrupted.

    Parameters
    ----------
    density : Density
    max_evals, max_seconds : float or None
        Limits; None for none.
    """

    def __init__(
        self, density: Density, max_evals: float | None = None, max_seconds: float | None = None
    ) -> None:
        self.density, self.max_evals, self.max_seconds = density, max_evals, max_seconds
        self.first_tally = replace(density.tally)
        self.first_logp, self.first_grad = density.n_logp_evals, density.n_grad_evals
        self.began = self.last = time.monotonic()
        self.seconds: dict[str, float] = {}
        self.stopped = ""
        self.interrupted = False

    @property
    def spent(self) -> int:
        """Evaluations of the log density so far."""
        return self.density.n_logp_evals - self.first_logp

    def lap(self, stage: str) -> None:
        """Book the time since the last call on a stage."""
        now = time.monotonic()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.last
        self.last = now

    def proceed(self) -> bool:
        """Tell whether no limit has been reached; remember which one was."""
        if self.max_evals is not None and self.spent >= self.max_evals:
            self.stopped = f"max_evals={self.max_evals}"
        elif self.max_seconds is not None and time.monotonic() - self.began >= self.max_seconds:
            self.stopped = f"max_seconds={self.max_seconds}"
        return not self.stopped

    def early(self, share: float = 0.25) -> bool:
        """Tell whether less than a share of every limit is used up."""
        seconds = time.monotonic() - self.began
        return (
            self.proceed()
            and (self.max_evals is None or self.spent < share * self.max_evals)
            and (self.max_seconds is None or seconds < share * self.max_seconds)
        )

    def reached(self) -> bool:
        """Tell whether a limit has been reached."""
        return not self.proceed()

    @contextmanager
    def keeping_limits(self) -> Iterator[None]:
        """Let the density know the limits for as long as the fit lasts."""
        self.density.limit = self.reached
        try:
            yield
        finally:
            self.density.limit = None

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Leave what a fit can do without when the user interrupts (Ctrl-C) for the first time.

        Raises
        ------
        KeyboardInterrupt
            The second time.
        """
        try:
            yield
        except KeyboardInterrupt:
            if self.interrupted:
                raise
            self.interrupted, self.stopped = True, "an interruption by the user"
            _log.warning("Interrupted: going on with what has been found so far.")

    def unsound(self) -> list[Status]:
        """Say at how many points the model gave what cannot be sampled."""
        tally = self.density.tally.since(self.first_tally)
        return tally.statuses(self.spent, self.density.last_error)

    def unfinished(self, target_se: float, error: float) -> list[Status]:
        """Say so where a limit, or those of the stages, came before the asked precision.

        Parameters
        ----------
        target_se, error : float
            Largest standard error of a weight, as it was asked for and as it is.
        """
        if error <= 1.1 * target_se and not self.stopped:
            return []
        short = f"the largest standard error of a weight is {error:.2g}, target_se={target_se}"
        if self.interrupted:
            return [
                Status("interrupted", "pipeline",
                       f"the fit was interrupted before its last stage; {short}.",
                       "Later stages were left out, the challenge among them: fit again to have "
                       "them.")
            ]  # fmt: skip
        if self.stopped:
            cause = f"the fit stopped at {self.stopped}; {short}."
            return [Status("budget", "pipeline", cause, "Raise the limit, or target_se.")]
        return [
            Status("precision", "pipeline",
                   f"the asked precision was not reached: {short}.",
                   "Raise LocalSampling.max_draws, or target_se.")
        ]  # fmt: skip
