"""Fits of the modes' densities to weighted draws; held-out halves choose among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import gammaln

from pymc_multimodal.approximation.mixture import STARTS_SHARE, ModeMixture, heavy_tailed
from pymc_multimodal.proposals import (
    EllipticalMixture,
    GaussianMixture,
    MixtureError,
    factor,
    fit_em,
    joined,
)
from pymc_multimodal.target.circle import unroll

if TYPE_CHECKING:
    from pymc_multimodal.approximation.sample import WeightedSample

__all__ = ["refitted", "with_draws"]

# Effective draws of a mode below which its density stays as it is. Conventional.
MIN_EFFECTIVE = 10.0
# Parts of the draws' covariance in place of the one before, of which held-out draws choose.
# Conventional.
BLENDS = (0.0, 0.3, 0.6, 0.9)
# Standard errors that the gain in held-out log density exceeds where the draws' moments are used:
# two for one mode. Of K normal variables the largest grows as sqrt(2 log K): of hundreds of modes
# some have draws whose halves agree by chance. Conventional.
MIN_GAIN_ERRORS = 2.0
# Degrees of freedom, of which held-out draws choose: from the Cauchy to the normal distribution.
# Conventional.
DFS = (1.0, 2.0, 3.0, 5.0, 8.0, 16.0, 64.0, np.inf)
# Largest numbers of parts of a mode's density; effective draws per part and dimension, and the
# floor of a part's variances relative to the mode's, as for densities of the regions
# (`proposals.elliptical_fit`). Conventional.
PARTS, DRAWS_PER_PART, FLOOR = (2, 4, 8, 16, 32), 4.0, 1e-4
# Parts of all modes' densities at most, of which each mode has an equal number or one by its mass,
# whichever is larger: with more, the time of the fits exceeds that of chains.
# Measured: examples/benchmarks/exits.py
MAX_PARTS = 128
# Part of a draw's weight that is not given to the modes to which it hardly belongs. Conventional:
# far below the errors of moments.
LEFT_OUT = 1e-3
# Gain in mean log density of held-out draws (nats) from which on parts are used.
# Conventional: as `RegionalFamilies.min_gain`.
MIN_GAIN = 0.02
# Draws that expectation maximisation works on at most; conventional.
MAX_EM_DRAWS = 4000
# Iterations of expectation maximisation; held-out draws judge what it came to. Conventional.
ITERATIONS = 50
# Iterations for the weights of parts alone, the part of the weights before that is kept, since a
# part of which a sample has no draw may have mass, and the least weight of a part. Conventional.
WEIGHT_ITERATIONS, KEPT_WEIGHT, LEAST_WEIGHT = 30, 0.02, 1e-6
# Part of the shares that is the same for all modes, so that the mass of each stays known.
# Conventional.
EQUAL_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class _Draws:
    """Weighted draws of one mode, unrolled; the weights' sum is one."""

    x: np.ndarray
    weight: np.ndarray

    @property
    def effective(self) -> float:
        return float(1.0 / np.sum(self.weight**2)) if len(self.weight) else 0.0

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        mean = self.weight @ self.x
        step = (self.x - mean) * np.sqrt(self.weight)[:, None]
        return mean, step.T @ step

    def take(self, rows: np.ndarray) -> _Draws:
        weight = self.weight[rows]
        return _Draws(self.x[rows], weight / weight.sum())

    def halves(self) -> tuple[_Draws, _Draws]:
        rows = np.arange(len(self.x))
        return self.take(rows[: len(rows) // 2]), self.take(rows[len(rows) // 2 :])

    def score(self, q: EllipticalMixture) -> float:
        """Weighted mean log density."""
        return float(self.weight @ q.log_density(self.x))


def refitted(
    q: ModeMixture, sample: WeightedSample, rng: np.random.Generator, *, parts: bool
) -> ModeMixture:
    """Fit the density of each mode to a weighted sample of the mixture.

    A draw belongs to the modes by their shares of the mixture's density at it. Ratios are cut off
    at the square root of n times their mean, which bounds the effect of one draw (Ionides 2008,
    doi:10.1198/106186008X320456).

    Parameters
    ----------
    q : ModeMixture
    sample : WeightedSample
    rng : numpy.random.Generator
    parts : bool
        Whether the density of a mode may be a mixture.

    Returns
    -------
    ModeMixture
    """
    ratio = sample.ratio
    ratio = np.minimum(ratio, np.sqrt(len(ratio)) * ratio.mean())
    rows = np.flatnonzero(ratio > 0)
    x, terms = sample.x[rows], q.terms(sample.x[rows], LEFT_OUT)
    belonging = terms.share * ratio[rows][terms.row]
    mass = np.bincount(terms.member, belonging, minlength=q.n_modes + 1)
    # The terms of each member, one member after the other.
    order = np.argsort(terms.member, kind="stable")
    ends = np.cumsum(np.bincount(terms.member, minlength=q.n_modes + 1))
    streams = rng.spawn(q.n_modes)
    most = np.ones(q.n_modes, dtype=int)
    if parts:
        share = mass[:-1] / max(mass[:-1].sum(), 1e-300)
        most = np.maximum(MAX_PARTS // q.n_modes, (MAX_PARTS * share).astype(int))
    densities = []
    for k in range(q.n_modes):
        own = order[ends[k - 1] if k else 0 : ends[k]]
        # Weights that are far below the largest change no moment.
        own = own[belonging[own] > 1e-12 * belonging[own].max(initial=0.0)]
        weight = belonging[own]
        if not weight.sum() > 0 or weight.sum() ** 2 < MIN_EFFECTIVE * np.sum(weight**2):
            densities.append(q.densities[k])
            continue
        there = unroll(x[terms.row[own]], q.densities[k].centre, q.densities[k].period)
        # Rows are in the order of the strata: in random order, halves are alike.
        draws = _Draws(there, weight / weight.sum()).take(streams[k].permutation(len(own)))
        densities.append(
            _refit_mode(q.densities[k], draws, streams[k], most=int(most[k]), n_modes=q.n_modes)
        )
    weight = mass[:-1] / max(mass[:-1].sum(), 1e-300)
    shares = (1.0 - EQUAL_SHARE) * weight + EQUAL_SHARE / q.n_modes
    shares = np.append((1.0 - STARTS_SHARE) * shares, STARTS_SHARE)
    return ModeMixture((*densities, q.densities[-1]), shares)


def with_draws(q: ModeMixture, draws: np.ndarray, rng: np.random.Generator) -> ModeMixture:
    """Add densities that are fitted to draws of chains: half of the density of each mode.

    Parameters
    ----------
    q : ModeMixture
    draws : array of shape (K, n, d)
        Of chains from each mode, one chain after the other: halves are of different chains.
    rng : numpy.random.Generator

    Returns
    -------
    ModeMixture
    """
    densities = []
    for old, x, stream in zip(q.densities[:-1], draws, rng.spawn(q.n_modes), strict=True):
        there = unroll(x, old.centre, old.period)
        own = _Draws(there, np.full(len(there), 1.0 / len(there)))
        most = MAX_PARTS // q.n_modes
        new = _refit_mode(old, own, stream, most=most, n_modes=q.n_modes)
        both = joined([old.undefended, new.undefended], [0.5, 0.5])
        densities.append(heavy_tailed(both, new.means[-2], new.scales[-2]))
    return ModeMixture((*densities, q.densities[-1]), q.shares)


def _refit_mode(
    old: EllipticalMixture, draws: _Draws, rng: np.random.Generator, *, most: int, n_modes: int
) -> EllipticalMixture:
    """Fit the density of one of K modes.

    It may be a mixture of at most so many parts where held-out draws gain by it.
    """
    split = draws.halves()
    if min(s.effective for s in split) < MIN_EFFECTIVE / 2:
        return old
    blend, df = _choose(old, split, np.hypot(MIN_GAIN_ERRORS, np.sqrt(2 * np.log(n_modes))))
    mean, scale = _blended(old, draws, blend)
    period, centre = old.period, old.centre
    best = EllipticalMixture.single(mean, scale * _shrinkage(df), df, period, centre)
    if most > 1:
        former = old.undefended
        base = max(best, former, _reweighted(former, split[0], rng), key=split[1].score)
        best = _with_parts(base, (mean, scale), draws, rng, most)
    return heavy_tailed(best, mean, scale)


def _reweighted(
    old: EllipticalMixture, draws: _Draws, rng: np.random.Generator
) -> EllipticalMixture:
    """Give the parts of a mixture the weights that the draws have them have; shapes stay.

    Parts of next to no weight are left out.
    """
    if len(old.df) == 1:
        return old
    size = int(min(MAX_EM_DRAWS, 2 * draws.effective))
    logs = old.log_parts(draws.x[rng.choice(len(draws.x), size=size, p=draws.weight)])
    parts = np.exp(logs - logs.max(axis=0)) / old.weights[:, None]
    weight = old.weights
    for _ in range(WEIGHT_ITERATIONS):
        weight = weight * (parts @ (1.0 / (weight @ parts))) / size
        weight = (1.0 - KEPT_WEIGHT) * weight / weight.sum() + KEPT_WEIGHT * old.weights
    rows = np.flatnonzero(weight > LEAST_WEIGHT)
    inner = GaussianMixture(weight[rows] / weight[rows].sum(), old.means[rows], old.scales[rows])
    margins = tuple(old.margins[j] for j in rows) if old.margins else ()
    return EllipticalMixture(inner, old.df[rows], old.period, old.centre, margins=margins)


def _choose(
    old: EllipticalMixture, split: tuple[_Draws, _Draws], errors: float
) -> tuple[float, float]:
    """Choose how much of the draws' moments, and how heavy tails, each half finds for the other.

    The moments are used only where that gains more than so many of its own errors.
    """
    d, n = len(old.centre), len(split[0].x) + len(split[1].x)
    # Log density of each draw by the fit to the other half; -inf where a half is too small.
    score = np.full((len(BLENDS), len(DFS), n), -np.inf)
    least = min(part.effective for part in split)
    for i, blend in enumerate(BLENDS):
        if blend and least * blend < np.sqrt(d):
            continue
        first = 0
        for held_out, fitted in (split, split[::-1]):
            mean, scale = _blended(old, fitted, blend)
            z = solve_triangular(scale, (held_out.x - mean).T, lower=True)
            squared = np.einsum("in,in->n", z, z)
            last = first + len(squared)
            for j, df in enumerate(DFS):
                score[i, j, first:last] = _log_student(squared, df, d)
            score[i, :, first:last] -= np.log(np.diagonal(scale)).sum()
            first = last
    weight = 0.5 * np.concatenate([part.weight for part in split])
    total = score @ weight
    best = total.argmax(axis=1)
    i = int(total.max(axis=1).argmax())
    if i:
        gain = score[i, best[i]] - score[0, best[0]]
        error = np.sqrt(np.sum((weight * (gain - weight @ gain)) ** 2))
        i = i if weight @ gain > errors * error else 0
    return BLENDS[i], DFS[best[i]]


def _blended(old: EllipticalMixture, draws: _Draws, blend: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and factor of a covariance between the old one and that of the draws.

    The old one is scaled to the draws' variance where it is blended.
    """
    base = old.gaussian.factors[-2]
    if not blend:
        return old.gaussian.means[-2], base
    mean, covariance = draws.moments()
    before = base @ base.T
    root = solve_triangular(base, covariance, lower=True)
    ratio = np.trace(solve_triangular(base, root.T, lower=True)) / len(mean)
    return mean, factor((1.0 - blend) * ratio * before + blend * covariance)


def _shrinkage(df: float) -> float:
    """Ratio of scale to standard deviation: that of the t density where it has a variance."""
    if not np.isfinite(df):
        return 1.0
    return float(np.sqrt((df - 2.0) / df)) if df > 2.0 else 0.5


def _log_student(squared: np.ndarray, df: float, d: int) -> np.ndarray:
    """Log density of a Student-t whose covariance is that of the squared radii, up to its factor.

    Parameters
    ----------
    squared : array of shape (n,)
        Squared radii by the covariance.
    df : float
    d : int
    """
    if not np.isfinite(df):
        return -0.5 * squared - 0.5 * d * np.log(2 * np.pi)
    s = _shrinkage(df)
    constant = gammaln(0.5 * (df + d)) - gammaln(0.5 * df) - 0.5 * d * np.log(df * np.pi)
    out: np.ndarray = constant - d * np.log(s) - 0.5 * (df + d) * np.log1p(squared / (df * s * s))
    return out


def _with_parts(
    old: EllipticalMixture,
    moments: tuple[np.ndarray, np.ndarray],
    draws: _Draws,
    rng: np.random.Generator,
    most: int,
) -> EllipticalMixture:
    """Fit mixtures of more and more parts while held-out draws gain; keep the old one if better."""
    mean, scale = moments
    n, d = draws.effective, draws.x.shape[1]
    fit, held_out = draws.halves()
    rows = rng.choice(len(fit.x), size=int(min(MAX_EM_DRAWS, 2 * n)), p=fit.weight)
    z = solve_triangular(scale, (fit.x[rows] - mean).T, lower=True).T
    best, score, before = old, held_out.score(old), -np.inf
    for j in PARTS:
        if j > most or n < DRAWS_PER_PART * j * (d + 1):
            break
        try:
            fitted = fit_em(z, j, floor=FLOOR, init="k-means++", iterations=ITERATIONS, rng=rng)
        except MixtureError:
            break
        trial = EllipticalMixture(
            fitted.affine_image(mean, scale), np.full(j, np.inf), old.period, old.centre
        )
        gained = held_out.score(trial)
        if gained < before + MIN_GAIN:
            break
        before = gained
        if gained > score + MIN_GAIN:
            best, score = trial, gained
    return best
