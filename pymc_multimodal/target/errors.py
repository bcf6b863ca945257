"""What a density gives that no density should: errors, NaN, infinity, and two values at one point.

Such points count as outside of the support, which is a wrong answer wherever they are not.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from pymc_multimodal.status import Status

__all__ = ["EvaluationErrors", "same_density", "unstable"]

# Share of the evaluations from which on NaN is a warning: climbs overshoot now and then.
MANY = 0.01


@dataclass
class EvaluationErrors:
    """Numbers of points at which the model raised, or gave what cannot be sampled.

    Attributes
    ----------
    raised, nan, infinite : int
        Errors, NaN and +inf in place of the log density.
    gradients : int
        Gradients that were not finite where the log density was.
    """

    raised: int = 0
    nan: int = 0
    infinite: int = 0
    gradients: int = 0

    def count(self, raised: int, logp: np.ndarray, grad: np.ndarray) -> None:
        """Count a batch: errors, log densities (n,) and gradients (n, d or 0) as they came."""
        finite = np.isfinite(logp)
        self.raised += raised
        if not finite.all():
            self.nan += int(np.isnan(logp).sum())
            self.infinite += int(np.isposinf(logp).sum())
        self.gradients += int((finite & ~np.isfinite(grad).all(axis=1)).sum())

    def since(self, before: EvaluationErrors) -> EvaluationErrors:
        """Return what was counted after `before` was."""
        return EvaluationErrors(
            *(getattr(self, f.name) - getattr(before, f.name) for f in fields(self))
        )

    def statuses(self, n: int, last_error: Exception | None) -> list[Status]:
        """Say what was met among n evaluations."""
        found = []
        outside = "points, which were taken as outside its support"
        loss = "Where the posterior has mass there, that mass is missing: mend the model."
        if self.raised:
            found.append(
                Status("raised", "density",
                       f"the model raised at {self.raised} of {n} {outside}; the last error was "
                       f"{last_error!r}.", loss)
            )  # fmt: skip
        if self.nan:
            found.append(
                Status("nan", "density", f"the log density was NaN at {self.nan} of {n} {outside}.",
                       loss, level="warning" if self.nan > MANY * n else "info")
            )  # fmt: skip
        if self.infinite:
            found.append(
                Status("infinite", "density",
                       f"the log density was +inf at {self.infinite} of {n} {outside}.",
                       "The posterior may have no finite integral: give proper priors, and "
                       "bound scales away from zero.",
                       level="warning" if self.infinite > MANY * n else "info")
            )  # fmt: skip
        if self.gradients:
            found.append(
                Status("gradient", "density",
                       f"the gradient was not finite at {self.gradients} of {n} points where the "
                       "log density was, and was taken as zero.",
                       "Draws stay exact, but modes may be missed and chains be slow: mend the "
                       "gradient.", level="warning" if self.gradients > MANY * n else "info")
            )  # fmt: skip
        return found


def same_density(there: np.ndarray, here: np.ndarray) -> bool:
    """Tell whether log densities of points and of their images are the same but for rounding."""
    return not _differ(there, here).any()


def _differ(there: np.ndarray, here: np.ndarray) -> np.ndarray:
    finite = np.isfinite(here)
    gap = np.abs(there[finite] - here[finite])
    return ~(gap <= 1e-6 * (1.0 + np.abs(here[finite])))


def unstable(again: np.ndarray, logp: np.ndarray) -> list[Status]:
    """Say so where the log densities of draws, shape (n,), are others the second time."""
    differ = int(_differ(again, logp).sum())
    if not differ:
        return []
    return [
        Status("unstable", "density",
               f"the log density is not a function: of {len(logp)} draws that were evaluated a "
               f"second time {differ} had another value.",
               "Weights and draws are of no known posterior; take the randomness out of the model.")
    ]  # fmt: skip
