"""Faults of a density: errors, NaN, infinity, and two values at one point.

Points with an error, NaN or +inf count as outside of the support. That is a wrong answer where they
hold mass, so that they are counted and reported.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from pymc_multimodal.status import Status, first_line

__all__ = ["EvaluationErrors", "equal_logp", "rounding", "same_density", "unstable"]

# Share of the evaluations above which NaN, +inf or a gradient that is not finite is a warning.
# Below, line searches of the optimiser that overshoot explain them. The value is conventional.
MAX_FAULTY_SHARE = 0.01
# Two log densities are equal if they differ by less than this (nats), or by rounding. Solvers
# inside of a model need a tolerance. A density that is wrong by this much changes a weight by a
# ten-thousandth of it, far less than any error that is asked for. Conventional.
EQUAL_NATS = 1e-4
# Rounding error of a log density, in units of its last place. Naive sums of 10^6 terms of one sign
# err by about a thousand: rounding errors add up like a random walk. Conventional.
ROUNDING_ULPS = 1024


@dataclass
class EvaluationErrors:
    """Numbers of points at which a density raised, or gave a value that cannot be sampled.

    Attributes
    ----------
    raised : int
        Points at which the function raised.
    nan, infinite : int
        Points at which the log density was NaN, and +inf.
    gradients : int
        Points with a finite log density whose gradient was not finite.
    """

    raised: int = 0
    nan: int = 0
    infinite: int = 0
    gradients: int = 0

    def count(self, raised: int, logp: np.ndarray, grad: np.ndarray) -> None:
        """Count the faults of a batch.

        Parameters
        ----------
        raised : int
            Points at which the function raised.
        logp : array of shape (n,)
            Log densities as the function gave them.
        grad : array of shape (n, d), or (n, 0) where there is no gradient
        """
        finite = np.isfinite(logp)
        self.raised += raised
        if not finite.all():
            self.nan += int(np.isnan(logp).sum())
            self.infinite += int(np.isposinf(logp).sum())
        self.gradients += int((finite & ~np.isfinite(grad).all(axis=1)).sum())

    def since(self, before: EvaluationErrors) -> EvaluationErrors:
        """Return the numbers that were added after the record `before`."""
        return EvaluationErrors(
            *(getattr(self, f.name) - getattr(before, f.name) for f in fields(self))
        )

    def plus(self, more: EvaluationErrors) -> EvaluationErrors:
        """Return the sums of two records."""
        return EvaluationErrors(
            *(getattr(self, f.name) + getattr(more, f.name) for f in fields(self))
        )

    def statuses(self, n: int, last_error: Exception | None) -> list[Status]:
        """Report the faults.

        Parameters
        ----------
        n : int
            Evaluations among which they were counted.
        last_error : Exception or None
            The last error that the function raised.
        """
        allowed = MAX_FAULTY_SHARE * n
        outside = "points, which were taken as outside its support"
        loss = "Where the posterior has mass there, that mass is missing: mend the model."
        found = []
        if self.raised:
            # Pages about a graph may follow the first line of an error.
            text = f"{type(last_error).__name__}: {first_line(last_error)}" if last_error else ""
            found.append(
                Status("raised", "density",
                       f"the model raised at {self.raised} of {n} {outside}; the last error was "
                       f"{text}.", loss)
            )  # fmt: skip
        if self.nan:
            found.append(
                Status("nan", "density", f"the log density was NaN at {self.nan} of {n} {outside}.",
                       loss, level="warning" if self.nan > allowed else "info")
            )  # fmt: skip
        if self.infinite:
            found.append(
                Status("infinite", "density",
                       f"the log density was +inf at {self.infinite} of {n} {outside}.",
                       "The posterior may have no finite integral: give proper priors, and "
                       "bound scales away from zero.",
                       level="warning" if self.infinite > allowed else "info")
            )  # fmt: skip
        if self.gradients:
            found.append(
                Status("gradient", "density",
                       f"the gradient was not finite at {self.gradients} of {n} points where the "
                       "log density was finite. It was taken as zero.",
                       "Draws stay exact, but modes may be missed and chains may be slow: mend the "
                       "gradient.", level="warning" if self.gradients > allowed else "info")
            )  # fmt: skip
        return found


def rounding(logp: np.ndarray, resolution: float) -> np.ndarray:
    """Return the error of log densities by rounding (nats).

    Parameters
    ----------
    logp : array
    resolution : float
        Relative rounding error of the type that the density computes in (`Density.resolution`).
    """
    return ROUNDING_ULPS * resolution * np.abs(logp)


def equal_logp(
    there: np.ndarray, here: np.ndarray, resolution: float, nats: float = EQUAL_NATS
) -> np.ndarray:
    """Tell which log densities are equal but for rounding, whatever their size.

    Parameters
    ----------
    there, here : arrays that broadcast to one shape
        Two log densities of each point. Points where `here` is -inf count as equal.
    resolution : float
        Relative rounding error of the type that the density computes in (`Density.resolution`).
    nats : float
        Smallest difference that counts, where rounding is less than that.

    Returns
    -------
    array of bool
    """
    finite = np.isfinite(here)
    with np.errstate(invalid="ignore"):
        gap = np.abs(there - here)
    return ~finite | (gap <= np.maximum(nats, rounding(np.where(finite, here, 0.0), resolution)))


def same_density(there: np.ndarray, here: np.ndarray, resolution: float) -> bool:
    """Tell whether log densities of points and of their images are equal but for rounding.

    Parameters
    ----------
    there, here : arrays of shape (n,)
        Log densities of the images, and of the points. Points with density zero are left out.
    resolution : float
        As in `equal_logp`.
    """
    return bool(equal_logp(there, here, resolution).all())


def unstable(again: np.ndarray, logp: np.ndarray, resolution: float) -> list[Status]:
    """Report draws whose log density was another one when they were evaluated again.

    Parameters
    ----------
    again, logp : arrays of shape (n,)
        Log densities of the second and of the first evaluation.
    resolution : float
        As in `equal_logp`.
    """
    differ = int(np.sum(~equal_logp(again, logp, resolution)))
    if not differ:
        return []
    return [
        Status("unstable", "density",
               f"the log density is not a function of the point: of {len(logp)} draws that were "
               f"evaluated again, {differ} had another value.",
               "Weights and draws belong to no defined posterior: take the randomness out of the "
               "model.")
    ]  # fmt: skip
