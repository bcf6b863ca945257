"""Emulation of a log density of which nothing but values is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from pymc_multimodal.approximation import first_mixture
from pymc_multimodal.emulation.features import Features
from pymc_multimodal.emulation.outputs import OutputUncertainty
from pymc_multimodal.emulation.process import Process, fit_process

if TYPE_CHECKING:
    from pymc_multimodal.approximation import ModeMixture
    from pymc_multimodal.search import Modes, StartDistribution

__all__ = ["SurfaceEmulator", "emulate_surface"]

# Nats below the highest point within which points count, and for each dimension: 8 + 3 d, which
# holds all of a normal distribution but 1e-4. And the most points, for the time of a process.
# Measured on seven kinds of simulators; conventional otherwise.
BAND, BAND_PER_DIMENSION, MAX_POINTS = 8.0, 3.0, 1200
# Least distance of two points, in spreads and in units of sqrt(2 d), as long as others are left:
# climbs end in crowds. Conventional.
LEAST_DISTANCE = 0.05
# Draws of the mixture whose spread is the unit of the coordinates. Conventional.
SPREAD_DRAWS = 512
# Largest variance that is added to the log density. Conventional: where nothing is known, the
# emulated density is e times what its mean would make it.
MAX_VARIANCE = 2.0


@dataclass(frozen=True, eq=False)
class SurfaceEmulator:
    """A log density as that of a mixture over its modes plus a Gaussian process.

    Attributes
    ----------
    mixture : ModeMixture
    features : Features
    process : Process
        Of the log density less that of the mixture.
    """

    mixture: ModeMixture
    features: Features
    process: Process

    @property
    def described(self) -> str:
        """What is emulated, in words."""
        return "log density"

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the log of the mean density at points (n, d), and its error; shapes (n,), (n,)."""
        mean, variance = (part[:, 0] for part in self.process.predict(self.features(x)))
        added = 0.5 * np.minimum(variance, MAX_VARIANCE)
        return self.mixture.log_density(x) + mean + added, np.sqrt(variance)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log of the mean density at points (n, d), shape (n,)."""
        return self.predict(x)[0]

    def uncertainty(self, x: np.ndarray) -> OutputUncertainty:
        """Return the uncertainty of the log density at candidates (n, d)."""
        one = np.ones((len(x), 1))
        correlation = self.process.correlation(self.features(x))
        return OutputUncertainty([correlation], [self.process.variance], [one], [0.0 * one])

    def updated(
        self, x: np.ndarray, y: np.ndarray, logp: np.ndarray, *, refit: bool
    ) -> SurfaceEmulator:
        """Return the emulator of more points; without a refit lengths are the same."""
        z, rest = _residuals(self.mixture, self.features, x, logp)
        process = fit_process(z, rest, self.process) if refit else self.process.with_data(z, rest)
        return replace(self, process=process)


def emulate_surface(
    modes: Modes,
    starts: StartDistribution,
    period: np.ndarray,
    x: np.ndarray,
    logp: np.ndarray,
    rng: np.random.Generator,
) -> SurfaceEmulator | None:
    """Fit a process to the log density relative to a mixture over its modes.

    Parameters
    ----------
    modes : Modes
    starts : StartDistribution
    period : array of shape (d,)
    x, logp : arrays of shape (n, d) and (n,)
        Points that were evaluated.
    rng : numpy.random.Generator

    Returns
    -------
    SurfaceEmulator or None
        None if fewer points than twice the dimension count.
    """
    mixture = first_mixture(modes, modes.log_mass, starts, period)
    features = _in_units_of(mixture.sample(SPREAD_DRAWS, rng), period)
    z, rest = _residuals(mixture, features, x, logp)
    if len(rest) < 2 * x.shape[1]:
        return None
    return SurfaceEmulator(mixture, features, fit_process(z, rest))


def _in_units_of(draws: np.ndarray, period: np.ndarray) -> Features:
    """Coordinates in units of the spread of draws (n, d)."""
    low, middle, high = np.percentile(draws, [16, 50, 84], axis=0)
    spread = np.maximum(0.5 * (high - low), 1e-12 * (1.0 + np.abs(middle)))
    return Features(np.arange(draws.shape[1]), middle, spread, period)


def _residuals(
    mixture: ModeMixture, features: Features, x: np.ndarray, logp: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Features of the points that count, and log densities, shape (n, 1), less the mixture's."""
    high = float(logp[np.isfinite(logp)].max(initial=-np.inf))
    rows = np.flatnonzero(logp > high - BAND - BAND_PER_DIMENSION * x.shape[1])
    z = features(x[rows])
    if len(rows) > MAX_POINTS:
        own = _spread_out(z, logp[rows])
        rows, z = rows[own], z[own]
    return z, (logp[rows] - mixture.log_density(x[rows]))[:, None]


def _spread_out(z: np.ndarray, logp: np.ndarray) -> np.ndarray:
    """Rows of the highest points (n, f) that are no crowd, `MAX_POINTS` of them."""
    order = np.argsort(-logp, kind="stable")
    pairs = cKDTree(z[order]).query_pairs(LEAST_DISTANCE * np.sqrt(2.0 * z.shape[1]))
    near: dict[int, list[int]] = {}
    for i, j in pairs:
        near.setdefault(max(i, j), []).append(min(i, j))
    crowded = np.zeros(len(order), dtype=bool)
    for i in sorted(near):
        crowded[i] = any(not crowded[j] for j in near[i])
    by_rank = np.concatenate([order[~crowded], order[crowded]])
    return by_rank[:MAX_POINTS]
