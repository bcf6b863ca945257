"""Emulation of a log density of which nothing but values is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.spatial import cKDTree

from pymc_multimodal.approximation import first_mixture
from pymc_multimodal.emulation.features import LOGISTIC_SPREAD, Bounded, Features
from pymc_multimodal.emulation.outputs import OutputUncertainty
from pymc_multimodal.emulation.process import Process, fit_process
from pymc_multimodal.emulation.rounds import posterior_sd
from pymc_multimodal.target import Density

if TYPE_CHECKING:
    from pymc_multimodal.approximation import ModeMixture
    from pymc_multimodal.search import Modes, StartDistribution

__all__ = ["PriorShape", "SurfaceEmulator", "emulate_surface"]

# Nats below the highest point within which points count, and for each dimension: 8 + 3 d, which
# holds all of a normal distribution but 1e-4. And the most points, for the time of a process.
# Measured on seven kinds of simulators; conventional otherwise.
BAND, BAND_PER_DIMENSION, MAX_POINTS = 8.0, 3.0, 1200
# The same of a process relative to the shape of the prior. Measured with
# examples/benchmarks/simulators.py --hidden: 2,400 points in place of 1,200 lowered the error of
# the log density of slow_plume from 1.1 to 0.2 nats.
MAX_POINTS_OF_SHAPE = 2400
# Least distance of two points, in spreads and in units of sqrt(2 d), as long as others are left:
# climbs end in crowds. Conventional.
LEAST_DISTANCE = 0.05
# Draws of the mixture whose spread is the unit of the coordinates. Conventional.
SPREAD_DRAWS = 512
# Largest variance that is added to the log density. Conventional: where nothing is known, the
# emulated density is e times what its mean would make it.
MAX_VARIANCE = 2.0
# Nats above the largest known value to which a process relative to the prior's shape may rise: far
# from all points a steep function is continued upwards, and the prior falls too slowly to hold it
# down. Conventional.
MAX_RISE = 2.0
# Points from which the density that the process is relative to, and its coordinates, are chosen: at
# most so many, and that part of all; the others judge. Conventional: a process of so many takes a
# tenth of a second.
CHOICE_POINTS, CHOICE_PART = 400, 0.6
# What the log predictive density of those others is (nats a point): of errors with this standard
# deviation beside the stated one, and no less than this. Conventional: a tenth of a nat does not
# matter to a weight, and a few points shall not decide.
LEAST_ERROR, LEAST_PREDICTIVE = 0.1, -20.0
# Gain in that from which on the shape of the prior is taken: the mixture has the right tails where
# modes are normal. Measured with examples/benchmarks/simulators.py --hidden: 0.4 to 1.0 for curved
# posteriors, at most 0.02 for normals and Student-t modes. And the gain from which on the
# parameters are coordinates in place of their logits, all of them: 0.2 to 0.4 for pk_edge, which
# has mass at edges of its prior, 0.02 for elliptic, and negative for others. Single parameters,
# taken one after the other, gained as much on the known points and less at the edges.
MIN_GAIN, BOUND_GAIN = 0.25, 0.05
# By how much (nats) the shape of the prior may be the more uncertain of the two where its own
# emulated posterior lies: far from all points that posterior may hold nearly all mass. Measured as
# above: 0.06 to 0.13 for 0.22 to 1.4 of the mixture, 2.3 to 2.7 for 2.3 to 2.8 (slow_plume); and
# 3.0 for 0.73 with four normals in six dimensions, where known points preferred it.
MAX_DOUBT = 0.5
# Points that do not count are told to such a process, too, if the others would put them into the
# band, by more than so many nats too high: those below the band as points of its floor and up to
# this much lower (nats), so many in all, and looked for so often. Conventional.
TOO_HIGH, LOWERED, MAX_LOW, LOOKS = 1.0, 10.0, 240, 3


class Base(Protocol):
    """A density that the process is relative to."""

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density at points (n, d), shape (n,)."""
        ...


@dataclass(frozen=True, eq=False)
class PriorShape:
    """A product of logistic densities with the centre and the spread of the prior.

    It falls everywhere, so that an emulated density has a finite integral. A log density less this
    one is nearly the log likelihood.

    Attributes
    ----------
    centre, spread, period : arrays of shape (d,)
        Circular coordinates have a uniform density.
    """

    centre: np.ndarray
    spread: np.ndarray
    period: np.ndarray

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density at points (n, d) but for a constant, shape (n,)."""
        scale = self.spread / LOGISTIC_SPREAD
        z = np.abs((x - self.centre) / scale)[:, ~np.isfinite(self.period)]
        out: np.ndarray = -(z + 2.0 * np.log1p(np.exp(-z))).sum(axis=1)
        return out


@dataclass(frozen=True, eq=False)
class SurfaceEmulator:
    """A log density as that of a simple density plus a Gaussian process.

    Attributes
    ----------
    mixture : ModeMixture or PriorShape
        The simple density: the mixture over the modes, or the shape of the prior.
    features : Features
    process : Process
        Of the log density less that of the simple one.
    """

    mixture: ModeMixture | PriorShape
    features: Features
    process: Process

    @property
    def described(self) -> str:
        """What is emulated, in words."""
        return "log density"

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the log of the mean density at points (n, d), and its error; shapes (n,), (n,)."""
        mean, variance = (part[:, 0] for part in self.process.predict(self.features(x)))
        if isinstance(self.mixture, PriorShape):
            mean = np.minimum(mean, self.process.y.max() + MAX_RISE)
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

    def without_gradient(self, x: np.ndarray) -> tuple[np.ndarray, None]:
        """Log of the mean density at points (n, d), shape (n,), and no gradient."""
        return self.log_density(x), None

    def predictive(self, x: np.ndarray, logp: np.ndarray) -> float:
        """Mean log density of the prediction of values at other points (n, d), but a constant."""
        value, error = self.predict(x)
        variance = error**2 + LEAST_ERROR**2
        score = -0.5 * (np.log(variance) + (value - logp) ** 2 / variance)
        return float(np.maximum(score, LEAST_PREDICTIVE).mean())

    def updated(
        self, x: np.ndarray, y: np.ndarray, logp: np.ndarray, *, refit: bool
    ) -> SurfaceEmulator:
        """Return the emulator of more points; without a refit lengths are the same."""
        z, rest = _residuals(self.mixture, self.features, x, logp)
        process = fit_process(z, rest, self.process) if refit else self.process.with_data(z, rest)
        return replace(self, process=process).lowered(x, logp)

    def fitted(self, x: np.ndarray, logp: np.ndarray) -> SurfaceEmulator:
        """Return the emulator of all points that count, with lengths of its own."""
        z, rest = _residuals(self.mixture, self.features, x, logp)
        return replace(self, process=fit_process(z, rest)).lowered(x, logp)

    def lowered(self, x: np.ndarray, logp: np.ndarray) -> SurfaceEmulator:
        """Tell the process of points, left out so far, where the emulated density is too high.

        Not of a process relative to a mixture: that falls by itself.
        """
        if not isinstance(self.mixture, PriorShape):
            return self
        out, floor = self, _floor(x, logp)
        known = np.maximum(np.where(np.isnan(logp), -np.inf, logp), floor - LOWERED)
        told = {row.tobytes() for row in self.process.x}
        left = [i for i, row in enumerate(self.features(x)) if row.tobytes() not in told]
        rows = np.array(left, dtype=int)
        for _ in range(LOOKS):
            value = out.log_density(x[rows])
            wrong = np.flatnonzero((value > floor) & (value > known[rows] + TOO_HIGH))
            wrong = wrong[np.argsort(-value[wrong], kind="stable")][: MAX_LOW // LOOKS]
            if not len(wrong):
                break
            own = rows[wrong]
            rest = (known[own] - self.mixture.log_density(x[own]))[:, None]
            process = out.process.with_data(
                np.concatenate([out.process.x, self.features(x[own])]),
                np.concatenate([out.process.y, rest]),
            )
            out, rows = replace(out, process=process), np.delete(rows, wrong)
        return out


def emulate_surface(
    modes: Modes,
    starts: StartDistribution,
    period: np.ndarray,
    x: np.ndarray,
    logp: np.ndarray,
    rng: np.random.Generator,
) -> SurfaceEmulator | None:
    """Fit a process to the log density relative to a simple one.

    That is a mixture over the modes, or the shape of the prior where a process on some of the
    points then predicts the others far better, and is not much less certain of its own posterior.
    Modes that are nearly normal are described by the first, curved ridges by a process of the log
    likelihood.

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
    draws = mixture.sample(SPREAD_DRAWS, rng)
    rows = np.flatnonzero(logp > _floor(x, logp))
    if len(rows) < 2 * x.shape[1]:
        return None
    # From all stages of the search alike.
    n = min(CHOICE_POINTS, int(CHOICE_PART * len(rows)))
    some = rows[np.linspace(0, len(rows), n, endpoint=False).astype(int)]
    judges = np.setdiff1d(rows, some)

    def tried(base: ModeMixture | PriorShape, which: list[int]) -> tuple[float, SurfaceEmulator]:
        bounded = Bounded(np.array(which, dtype=int), starts.centre, starts.spread)
        features = _in_units_of(draws, period, bounded if which else None)
        rest = (logp[some] - base.log_density(x[some]))[:, None]
        one = SurfaceEmulator(base, features, fit_process(features(x[some]), rest))
        return one.predictive(x[judges], logp[judges]), one

    shape = PriorShape(starts.centre, starts.spread, period)
    score, chosen = tried(mixture, [])
    best, by_shape = tried(shape, [])
    value, by_parameters = tried(shape, np.flatnonzero(~np.isfinite(period)).tolist())
    if value > best + BOUND_GAIN:
        best, by_shape = value, by_parameters
    # Lengths of few points may be those of another maximum of the likelihood.
    chosen = chosen.fitted(x, logp)
    if best > score + MIN_GAIN:
        # The draws of a mixture's emulator do not depend on what was tried.
        [own] = rng.spawn(1)
        there = Density(chosen.without_gradient, x.shape[1], has_gradient=False, period=period)
        by_shape = by_shape.fitted(x, logp)
        doubts = [posterior_sd(there, one, starts, own) for one in (chosen, by_shape)]
        if doubts[1] < doubts[0] + MAX_DOUBT:
            chosen = by_shape
    return chosen


def _in_units_of(draws: np.ndarray, period: np.ndarray, bounded: Bounded | None) -> Features:
    """Coordinates in units of the spread of draws (n, d)."""
    draws = draws if bounded is None else bounded(draws)
    low, middle, high = np.percentile(draws, [16, 50, 84], axis=0)
    spread = np.maximum(0.5 * (high - low), 1e-12 * (1.0 + np.abs(middle)))
    return Features(np.arange(draws.shape[1]), middle, spread, period, bounded)


def _floor(x: np.ndarray, logp: np.ndarray) -> float:
    """Log density from which on points (n, d) count."""
    high = float(logp[np.isfinite(logp)].max(initial=-np.inf))
    return high - BAND - BAND_PER_DIMENSION * x.shape[1]


def _residuals(
    base: Base, features: Features, x: np.ndarray, logp: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Features of the points that count, and log densities, shape (n, 1), less those of a base."""
    rows = np.flatnonzero(logp > _floor(x, logp))
    z = features(x[rows])
    most = MAX_POINTS_OF_SHAPE if isinstance(base, PriorShape) else MAX_POINTS
    if len(rows) > most:
        own = _spread_out(z, logp[rows], most)
        rows, z = rows[own], z[own]
    return z, (logp[rows] - base.log_density(x[rows]))[:, None]


def _spread_out(z: np.ndarray, logp: np.ndarray, most: int) -> np.ndarray:
    """Rows of the highest points (n, f) that are no crowd, so many of them."""
    order = np.argsort(-logp, kind="stable")
    pairs = cKDTree(z[order]).query_pairs(LEAST_DISTANCE * np.sqrt(2.0 * z.shape[1]))
    near: dict[int, list[int]] = {}
    for i, j in pairs:
        near.setdefault(max(i, j), []).append(min(i, j))
    crowded = np.zeros(len(order), dtype=bool)
    for i in sorted(near):
        crowded[i] = any(not crowded[j] for j in near[i])
    by_rank = np.concatenate([order[~crowded], order[crowded]])
    return by_rank[:most]
