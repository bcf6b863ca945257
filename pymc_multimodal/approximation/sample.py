"""Weighted draws: a stratified sample of a mixture, with the density's values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymc_multimodal.approximation.mixture import ModeMixture
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["WeightedSample", "draw_sample", "log_density_at", "mode_of_draws"]


@dataclass(frozen=True, eq=False)
class WeightedSample:
    r"""Draws :math:`x_i` of a mixture q with log importance ratios :math:`\log(\gamma(x)/q(x))`.

    The numbers of draws of the mixture's members (strata) are fixed, and q has the shares
    ``counts / n``: so the mean ratio estimates the evidence without bias (the balance heuristic of
    Veach and Guibas 1995), and its variance is that within the strata.

    Attributes
    ----------
    x : array of shape (n, d)
        Rows that stand for no point (outside of a circular window) are NaN.
    logp : array of shape (n,)
        Log density; -inf outside of the support.
    log_q : array of shape (n,)
    stratum : array of int, shape (n,)
    counts : array of int, shape (J,)
        Draws of each stratum.
    """

    x: np.ndarray
    logp: np.ndarray
    log_q: np.ndarray
    stratum: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.logp)

    @cached_property
    def log_ratio(self) -> np.ndarray:
        """Log importance ratios, shape (n,); -inf where the density is zero."""
        out = np.full(len(self), -np.inf)
        inside = np.isfinite(self.logp)
        out[inside] = self.logp[inside] - self.log_q[inside]
        return out

    @cached_property
    def shift(self) -> float:
        """Largest log ratio."""
        return float(self.log_ratio.max())

    @cached_property
    def ratio(self) -> np.ndarray:
        """Importance ratios divided by the largest, shape (n,); zero if none is positive."""
        if not np.isfinite(self.shift):
            return np.zeros(len(self))
        out: np.ndarray = np.exp(self.log_ratio - self.shift)
        return out

    @property
    def log_evidence(self) -> float:
        """Log of the mean ratio; -inf if none is positive."""
        mean = float(self.ratio.mean())
        return float(np.log(mean)) + self.shift if mean > 0 else float("-inf")

    def standard_error(self, values: np.ndarray) -> np.ndarray:
        """Return the standard error of the mean of values, shape (n,) or (n, m), by strata."""
        values = values.reshape(len(self), -1)
        variance, first = np.zeros(values.shape[1]), 0
        for count in self.counts:
            own = values[first : first + count]
            if count > 1:
                variance += count * own.var(axis=0, ddof=1)
            elif count == 1:
                # The spread of one draw is not known: the square of its value bounds it in the
                # mean.
                variance += own[0] ** 2
            first += count
        out: np.ndarray = np.sqrt(variance) / len(self)
        return out

    def joined(self, other: WeightedSample, q: ModeMixture) -> WeightedSample:
        """Join two samples of members of the same mixture; q has the joint shares."""
        both = np.concatenate([self.stratum, other.stratum])
        order = np.argsort(both, kind="stable")
        x = np.concatenate([self.x, other.x])[order]
        logp = np.concatenate([self.logp, other.logp])[order]
        return WeightedSample(
            x, logp, log_density_at(q, x), both[order], self.counts + other.counts
        )


def draw_sample(
    target: LogDensity, q: ModeMixture, counts: np.ndarray, rng: np.random.Generator
) -> WeightedSample:
    """Draw given numbers of points of the members of a mixture, and evaluate them.

    Parameters
    ----------
    target : LogDensity
    q : ModeMixture
        With shares ``counts / counts.sum()``.
    counts : array of int, shape (K + 1,)
    rng : numpy.random.Generator

    Returns
    -------
    WeightedSample
    """
    x, stratum = q.stratified(counts, rng)
    inside = np.isfinite(x).all(axis=1)
    logp = np.full(len(x), -np.inf)
    logp[inside] = target.logp(x[inside])
    return WeightedSample(x, logp, log_density_at(q, x), stratum, counts)


def mode_of_draws(q: ModeMixture, sample: WeightedSample) -> np.ndarray:
    """Mode whose density is largest at each draw, shape (n,).

    It is -1 where the target is zero, and in modes that are left out.
    """
    mode = np.full(len(sample), -1)
    rows = np.flatnonzero(np.isfinite(sample.log_ratio))
    if len(rows):
        mode[rows] = q.label(sample.x[rows])
    return mode


def log_density_at(q: ModeMixture, x: np.ndarray) -> np.ndarray:
    """Log density at the rows that are points, -inf at rows of NaN; shape (n,)."""
    inside = np.isfinite(x).all(axis=1)
    log_q = np.full(len(x), -np.inf)
    log_q[inside] = q.log_density(x[inside])
    return log_q
