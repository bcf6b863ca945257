"""The emulated posterior: its modes, their weights, and draws, by evaluations that are cheap."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation import (
    FirstAnswer,
    approximate,
    approximate_again,
    region_weights,
)
from pymc_multimodal.challenge import TemperedSettings
from pymc_multimodal.emulation.judged import EmulatedPosterior
from pymc_multimodal.emulation.rounds import emulated_density, tempered_draws
from pymc_multimodal.regions import NearestMode
from pymc_multimodal.search import ModeSearch, begin_search, find_modes, modes_of
from pymc_multimodal.target import Target

if TYPE_CHECKING:
    from pymc_multimodal.approximation import Approximation
    from pymc_multimodal.emulation.rounds import Emulated
    from pymc_multimodal.search import Modes, StartDistribution
    from pymc_multimodal.target import Density

__all__ = ["integrate"]

# Tempered particles, and their moves at each temperature. Conventional: a mode of weight 0.01 has
# ten of them.
PARTICLES, MOVES = 1024, TemperedSettings(moves=3, steps=2, keep=0.5)
# Climbs, from some of these particles. Conventional: a mode of weight 0.05 is found with a
# probability of 96 %.
STARTS = 64
# Climbs, from particles of higher temperatures and from evaluated points that are high and so far
# apart, in spreads of the prior and in units of sqrt(2 d). Measured: of random simulator 46, which
# has two narrow modes in seven dimensions, the particles had lost one.
OTHER_STARTS, LEAST_DISTANCE = 32, 0.5
# What ends the rounds of importance sampling: less than is asked of true evaluations, since large
# samples are cheap and the draws are judged. Conventional.
ANSWER = FirstAnswer(rounds=6, min_ess=0.3, min_mode_ess=0.15, max_pareto_k=0.7, max_ratio=100.0)
# Error that the rounds aim at, in units of that asked for: they fit the mixture, and the last one,
# a fresh sample, has the size that the error asks for. Conventional.
ROUNDS_SE = 5.0
# Effective size below which the mixture is fitted to the tempered particles, too: a second fit
# costs as much as a sample twice as large. Conventional.
GOOD_ESS = 0.5
# Further fits of the mixture to the weighted samples where the effective size is less than that.
# Measured: examples/benchmarks/simulators.py, where one raised it from 2 % to 81 % (random
# simulator 0, with a tail of a uniform parameter that neither curvature nor particles had shown).
RESAMPLED = 3
# The same where the largest sample is not precise enough. Measured: as above, where one lowered the
# error of the log evidence from 0.04 to 0.01 (pk_flip_flop, seed 3).
REFITTED = 2
# Factor by which such a sample is too small, below which it is left as it is: a second fit takes as
# long as the first. Measured: as above; without it slow_plume took up to 103 CPU s, a median of 40.
REFIT_ABOVE = 4.0
# Effective size of the weighted sample from which draws are taken. Conventional: several draws for
# each one that is judged.
MIN_EFFECTIVE = 4000.0
# Fresh samples at most, each of the size that the one before asks for, and the largest of them:
# some seconds. Conventional.
REDRAWN, MAX_DRAWS = 3, 100_000


def integrate(
    density: Density,
    found: Emulated,
    starts: StartDistribution,
    target_se: float,
    rng: np.random.Generator,
) -> EmulatedPosterior | None:
    """Find the modes of the emulated posterior, weigh them, and draw from each.

    Tempered particles tell where its mass is. Importance sampling from a mixture over the modes,
    fitted to these particles too, gives evidences with errors.

    Parameters
    ----------
    density : Density
        The true one, for its coordinates.
    found : Emulated
    starts : StartDistribution
        Centre and spread of the prior.
    target_se : float
        Standard error asked for of the weights.
    rng : numpy.random.Generator

    Returns
    -------
    EmulatedPosterior or None
        None if it has no proper mode, or none of the importance ratios is positive.
    """
    cheap = emulated_density(density, found.emulator)
    tempered = tempered_draws(cheap, starts, PARTICLES, MOVES, rng)
    particles = np.unique(tempered.x, axis=0)
    begun = [
        particles[rng.permutation(len(particles))[:STARTS]],
        tempered.intermediate[rng.permutation(len(tempered.intermediate))[:OTHER_STARTS]],
        _high_and_apart(found, starts),
    ]
    settings = ModeSearch(starts=np.concatenate(begun), optimiser="differences")
    search = find_modes(cheap, begin_search(cheap, settings, False, rng), settings, rng)
    modes = modes_of(cheap, search, settings)
    if modes.runaway:
        return None
    target = Target(cheap)
    loose = ROUNDS_SE * target_se
    sample = approximate(target, modes, search.distribution, ANSWER, loose, rng)
    if sample.verdict.missing > 1.0 or sample.verdict.ess < GOOD_ESS:
        own = _draws_by_mode(modes, particles, cheap.period, rng)
        again = approximate_again(sample, target, own, ANSWER, loose, rng)
        sample = max(sample, again, key=_effective)
    sample = _resampled(sample, target, loose, rng)
    sample = _redrawn(sample, target, target_se, rng)
    for _ in range(REFITTED):
        if sample.verdict.missing <= REFIT_ABOVE:
            break
        # A large sample may meet what smaller ones had missed.
        fitted = _fitted_to_all(sample, target, loose, rng)
        if fitted is not None:
            fitted = _redrawn(fitted, target, target_se, rng)
            sample = min(sample, fitted, key=lambda found: found.verdict.missing)
    if not sample.sample.ratio.any():
        return None
    partition = NearestMode(modes.locations, modes.scale, cheap.period)
    region, weights = region_weights(partition, sample.sample)
    seen = weights.weight > 0
    if not seen.all():
        modes = modes.take(np.flatnonzero(seen))
        partition = NearestMode(modes.locations, modes.scale, cheap.period)
        region, weights = region_weights(partition, sample.sample)
    return EmulatedPosterior(
        found.emulator, modes, partition, weights, sample.sample, region, sample.generator
    )


def _high_and_apart(found: Emulated, starts: StartDistribution) -> np.ndarray:
    """Return the highest evaluated points that lie far apart, shape (n, d)."""
    x, _, logp = found.data
    order = np.argsort(-logp, kind="stable")
    scaled, chosen = x[order] / starts.spread, np.zeros(len(x), dtype=bool)
    distance = LEAST_DISTANCE * np.sqrt(2.0 * x.shape[1])
    for i in range(len(x)):
        gap = np.sqrt(np.square(scaled[chosen] - scaled[i]).sum(axis=1))
        chosen[i] = gap.min(initial=np.inf) >= distance
        if chosen.sum() == OTHER_STARTS:
            break
    out: np.ndarray = x[order[chosen]]
    return out


def _effective(found: Approximation) -> float:
    """Return the effective size of a weighted sample."""
    return found.verdict.ess * len(found.sample)


def _resampled(
    found: Approximation, target: Target, target_se: float, rng: np.random.Generator
) -> Approximation:
    """Fit the mixture to what all samples together weigh, while ratios vary much.

    The rounds of an expensive density end where the first of them is poor: there, chains are next.
    Here, tails that the modes' curvature and a thousand particles do not show are found by the
    weighted samples (population Monte Carlo; Cappé et al. 2004, doi:10.1198/106186004X12803).
    """
    for _ in range(RESAMPLED):
        if found.verdict.ess >= ANSWER.min_ess:
            break
        again = _fitted_to_all(found, target, target_se, rng)
        if again is None:
            break
        found = max(found, again, key=_effective)
    return found


def _fitted_to_all(
    found: Approximation, target: Target, target_se: float, rng: np.random.Generator
) -> Approximation | None:
    """Fit the mixture to what all samples weigh; None if none of them has a positive ratio."""
    joint = found.pool.joint()
    if not joint.ratio.any():
        return None
    rows = rng.choice(len(joint), size=2 * PARTICLES, p=joint.ratio / joint.ratio.sum())
    own = _draws_by_mode(found.modes, joint.x[rows], target.density.period, rng)
    return approximate_again(replace(found, rounds=0), target, own, ANSWER, target_se, rng)


def _draws_by_mode(
    modes: Modes, particles: np.ndarray, period: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Resample the particles nearest to each mode, shape (K, n, d)."""
    label = NearestMode(modes.locations, modes.scale, period).label(particles)
    n, d = len(particles) // len(modes), particles.shape[1]
    parts = []
    for k in range(len(modes)):
        own = particles[label == k]
        if len(own) <= d:
            own = modes.locations[k] + rng.standard_normal((n, d)) @ modes.scale[k].T
        parts.append(own[rng.integers(len(own), size=max(n, 2 * d))])
    return np.stack(parts)


def _redrawn(
    found: Approximation, target: Target, target_se: float, rng: np.random.Generator
) -> Approximation:
    """Draw a fresh sample that is large enough for a small error and enough draws."""
    factor = 1.0
    for _ in range(REDRAWN):
        factor = max(factor, MIN_EFFECTIVE / max(_effective(found), 1.0))
        n = int(min(len(found.sample) * factor, MAX_DRAWS))
        found = found.redrawn(target, n, ANSWER, target_se, rng)
        factor = found.verdict.missing
        if found.verdict.missing <= 1.0 or n == MAX_DRAWS:
            break
    return found
