"""What a fit has spent, and whether it may go on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymc_multimodal.density import Density

__all__ = ["Clock"]


class Clock:
    """Counts evaluations and seconds, and knows their limits.

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
        self.first_logp, self.first_grad = density.n_logp_evals, density.n_grad_evals
        self.began = self.last = time.monotonic()
        self.seconds: dict[str, float] = {}
        self.stopped = ""

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
