r"""Mixture importance sampling of the regions: what proposals of all regions say of each.

The points :math:`x_i` are proposals, :math:`n_j` of them from the density :math:`q_j` of region j.
The evidence of region k is estimated by

.. math:: \hat Z_k = \sum_i \frac{1[x_i \in \Omega_k] \, \gamma(x_i)}{\sum_j n_j q_j(x_i)},

the balance heuristic of Veach and Guibas (1995). A region's own chains may never reach a piece of
it. The sum sees such a piece if any region's density reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from pymc_multimodal._compat import pareto_k
from pymc_multimodal.evidence.samples import BridgeSamples, draw_ratios
from pymc_multimodal.evidence.statuses import HEAVY_TAIL, MAX_TERM, border_status
from pymc_multimodal.proposals import WeightedDensities
from pymc_multimodal.regions import expected_labels
from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.evidence.masses import Weights
    from pymc_multimodal.proposals.base import RegionDensity
    from pymc_multimodal.regions import Partition, RegionDraws
    from pymc_multimodal.status import Status
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["CrossCheck", "cross_check", "leaked_mass", "negligible_regions", "quick_weights"]

# Proposals of all regions together, and the fewest of each. Measured:
# examples/benchmarks/constants.py
PROPOSALS, MIN_PER_REGION = 20_000, 200
# Share of `target_se` that all negligible regions together may hold. Conventional: a tenth of the
# error asked for is no error that matters.
NEGLIGIBLE_SHARE = 0.1
# Fewest points of a region that its evidence is estimated from. Measured:
# examples/benchmarks/constants.py
MIN_POINTS = 50
# Tail index from which on ratios have no finite variance; sample means then tend to be too small.
INFINITE_VARIANCE = 0.5
# Difference of two estimates, in joint standard errors, from which on it is counted as an error,
# and from which on it is reported (one in 16,000 by chance). With 1.5, 95 % intervals cover the
# truth in 98 % of the cases without a leak and in 89 % with a leak of two joint errors; with 2.5 it
# was 58 %.
# Tested: test_errors_cover_a_leak_of_two_errors.
COUNTED_SE, REPORTED_SE = 1.5, 4.0
# Posterior mass below which a difference is not reported. Measured:
# examples/benchmarks/constants.py
MIN_REPORTED_MASS = 1e-3
# Proposals that are asked for, beyond those that make the check as precise as the bridge: half as
# many again, because that number is itself an estimate. Measured: examples/benchmarks/constants.py
SAFETY_FACTOR = 1.5
# Coordinates of proposals that are held at a time: 16 MB of float64, or the proposals of one
# density. Conventional.
MAX_NUMBERS = 2_000_000
# Log of the largest term of a sum, in units of its reference: against overflow alone.
MAX_LOG_TERM = 50.0


@dataclass(frozen=True)
class CrossCheck:
    """The regions' evidences by mixture importance sampling, beside those by the bridge.

    Attributes
    ----------
    log_mass, log_mass_se : arrays of shape (K,)
        Log evidence of each region (nats) and its standard error; NaN where the ratios are too
        heavy-tailed for an estimate.
    gap : array of shape (K,)
        What the difference of the two estimates adds to the error of each region (nats), see
        `counted_gap`.
    statuses : tuple of Status
    """

    log_mass: np.ndarray
    log_mass_se: np.ndarray
    gap: np.ndarray
    statuses: tuple[Status, ...]

    def wanted(self, samples: BridgeSamples, weights: Weights) -> np.ndarray:
        """Return how many more proposals make this check as precise as the bridge.

        Parameters
        ----------
        samples : BridgeSamples
        weights : Weights

        Returns
        -------
        array of int, shape (K,)
            None beyond ``20,000 / K`` in all for a region.
        """
        made = samples.n_proposals
        with np.errstate(invalid="ignore", divide="ignore"):
            wanted = SAFETY_FACTOR * made * (self.log_mass_se / weights.log_evidence_se) ** 2
        wanted = np.minimum(np.where(np.isfinite(wanted), wanted, 0.0), PROPOSALS / len(made))
        return np.maximum(wanted - made, 0.0).astype(int)


def cross_check(
    samples: BridgeSamples, target: LogDensity, partition: Partition, weights: Weights
) -> tuple[BridgeSamples, CrossCheck]:
    """Compare each region's evidence by the bridge with that by proposals of all regions.

    Parameters
    ----------
    samples : BridgeSamples
        The proposals of the bridge; those outside of their own region are evaluated now.
    target : LogDensity
    partition : Partition
    weights : Weights
        The estimates of the bridge.

    Returns
    -------
    samples : BridgeSamples
        With the log densities of the points that were evaluated now.
    check : CrossCheck
        Without estimates if a limit of the fit is reached.
    """
    k = len(samples)
    unknown = CrossCheck(np.full(k, np.nan), np.full(k, np.nan), np.zeros(k), ())
    most = max(MIN_PER_REGION, 2 * PROPOSALS // k)
    strides = [max(1, len(x) // most) for x in samples.points]
    try:
        with target.limited():
            samples = _evaluate_points(samples, target, strides)
    except LimitReached:
        return samples, unknown
    return samples, _compare(weights, *_log_masses(samples, partition, strides))


def counted_gap(difference: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """Return what the difference of two estimates adds to the error of one of them.

    Parameters
    ----------
    difference, joint : arrays of shape (K,)
        The difference and its standard error by chance alone.

    Returns
    -------
    array of shape (K,)
        The part of the difference, by its square, that chance does not explain; 0 within 1.5
        standard errors, and where a value is NaN.
    """
    beyond = np.sqrt(np.maximum(difference**2 - joint**2, 0.0))
    # Comparisons with NaN are False: a region without an estimate has no gap.
    return np.where(np.abs(difference) > COUNTED_SE * joint, beyond, 0.0)


def leaked_mass(
    target: LogDensity,
    partition: Partition,
    densities: Sequence[RegionDensity],
    draws: RegionDraws,
    rng: np.random.Generator,
) -> np.ndarray:
    """Estimate which part of each region belongs to the modes of the others.

    A border that is slightly off cuts a sliver from a mode. The sliver then belongs to a
    neighbouring region, whose chains are confined to it, but cannot cross the valley between: they
    never reach the sliver, or never leave it. Proposals of the mode that lost the sliver reach it.

    Parameters
    ----------
    target : LogDensity
    partition : Partition
    densities : sequence of RegionDensity
        Fitted to each region.
    draws : RegionDraws
    rng : numpy.random.Generator

    Returns
    -------
    array of shape (K, K)
        Entry (k, j) is the part of region k's mass that proposals of region j brought in.

    Raises
    ------
    LimitReached
        If the target refuses evaluations and a limit of the fit is reached.

    Notes
    -----
    Only proposals that leave their own region are evaluated; these are few. Regions with a large
    weight propose more often: a sliver may be a tenth of a region with a small weight, and a
    hundred-thousandth of the mode that lost it.
    """
    k = len(densities)
    share = np.zeros((k, k))
    if k == 1:
        return share
    log_evidence = np.array(
        [_harmonic_evidence(draw_ratios(draws, i, q)) for i, q in enumerate(densities)]
    )
    weight = np.exp(log_evidence - logsumexp(log_evidence))
    counts = (max(MIN_PER_REGION, PROPOSALS // k) + PROPOSALS * weight).astype(int)
    x, region, proposer = _leaving(partition, densities, counts, rng)
    if not len(x):
        return share
    log_terms = _log_terms(x, target.logp(x), densities, counts)
    for i in np.unique(region):
        own = region == i
        terms = _terms(log_terms[own], log_evidence[i])
        share[i] = np.bincount(proposer[own], terms, minlength=k)
    return share / (1.0 + share.sum(axis=1, keepdims=True))


def quick_weights(
    draws: RegionDraws, densities: Sequence[RegionDensity]
) -> tuple[np.ndarray, np.ndarray]:
    """Guess the weight of each region from chains that need not have mixed.

    Parameters
    ----------
    draws : RegionDraws
    densities : sequence of RegionDensity
        Fitted to each region.

    Returns
    -------
    weight : array of shape (K,)
        By the median ratio of all draws. Their sum is one.
    largest : array of shape (K,)
        By the chain that gives the region the largest mass: one chain of many that has reached a
        piece with much mass is enough.
    """
    ratios = [draw_ratios(draws, k, q) for k, q in enumerate(densities)]
    log_evidence = np.array([_harmonic_evidence(ratio) for ratio in ratios])
    typical = np.array([np.median(ratio) for ratio in ratios])
    largest = np.array([np.median(ratio, axis=1).max() for ratio in ratios])
    bound = np.exp(np.minimum(largest - logsumexp(log_evidence), 0.0))
    return np.exp(typical - logsumexp(typical)), bound


def negligible_regions(weight: np.ndarray, target_se: float) -> np.ndarray:
    """Tell which regions hold too little mass to matter.

    The regions with the smallest weights are negligible as long as these add up to less than a
    tenth of `target_se`.

    Parameters
    ----------
    weight : array of shape (K,)
        The largest that are possible; see `quick_weights`.
    target_se : float
        Standard error asked for of every weight.

    Returns
    -------
    array of bool, shape (K,)
    """
    order = np.argsort(weight)
    negligible = np.zeros(len(weight), dtype=bool)
    negligible[order] = np.cumsum(weight[order]) < NEGLIGIBLE_SHARE * target_se
    return negligible


# ------------------------------------------------------------------ the estimator


def _log_terms(
    x: np.ndarray, logp: np.ndarray, densities: Sequence[RegionDensity], counts: np.ndarray
) -> np.ndarray:
    """Log terms of the sum at the top of this file, shape (n,)."""
    return logp - WeightedDensities(densities, np.log(counts)).log_density(x)


def _terms(log_terms: np.ndarray, reference: float) -> np.ndarray:
    """Terms in units of ``exp(reference)``, shape (n,)."""
    with np.errstate(over="ignore"):
        return np.exp(np.minimum(log_terms - reference, MAX_LOG_TERM))


def _leaving(
    partition: Partition,
    densities: Sequence[RegionDensity],
    counts: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw ``counts[j]`` proposals of each density, and keep those that leave their own region.

    Returns the points, shape (n, d), their regions and their proposers, shape (n,).
    """
    d = len(densities[0].period)
    # One call of the labels serves many densities: they compare points with all regions. In many
    # dimensions the draws of few densities are held at a time.
    group = np.cumsum(counts * d) // MAX_NUMBERS
    parts = []
    for g in np.unique(group):
        which = np.flatnonzero(group == g)
        x = np.concatenate([densities[j].sample(int(counts[j]), rng) for j in which.tolist()])
        proposer = np.repeat(which, counts[which])
        is_point = np.isfinite(x).all(axis=1)
        if not is_point.all():
            x, proposer = x[is_point], proposer[is_point]
        region = expected_labels(partition, x, proposer)
        left = region != proposer
        parts.append((x[left], region[left], proposer[left]))
    xs, regions, proposers = zip(*parts, strict=True)
    return np.concatenate(xs), np.concatenate(regions), np.concatenate(proposers)


def _harmonic_evidence(ratio: np.ndarray) -> float:
    """Log evidence of a region by its draws' log ratios alone, shape (chains, n).

    It serves to divide proposals among regions. The median of the chains' estimates is taken,
    because a chain that is stuck far out would dominate their mean.
    """
    return float(np.median(np.log(ratio.shape[1]) - np.logaddexp.reduce(-ratio, axis=1)))


def _evaluate_points(
    samples: BridgeSamples, target: LogDensity, strides: Sequence[int]
) -> BridgeSamples:
    """Evaluate what was not yet evaluated of every ``strides[k]``-th point of region k."""
    logps = [logp.copy() for logp in samples.logp]
    rows = [np.flatnonzero(np.isnan(logp[::s])) * s for logp, s in zip(logps, strides, strict=True)]
    sizes = [len(own) for own in rows]
    if not sum(sizes):
        return samples
    x = np.concatenate([x[own] for x, own in zip(samples.points, rows, strict=True)])
    parts = np.split(target.logp(x), np.cumsum(sizes)[:-1])
    for logp, own, part in zip(logps, rows, parts, strict=True):
        logp[own] = part
    return BridgeSamples(samples.fitted, samples.ratios, samples.points, tuple(logps))


def _log_masses(
    samples: BridgeSamples, partition: Partition, strides: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log evidence of each region, its standard error, and whether its ratios are heavy-tailed."""
    k = len(samples)
    xs = [x[::s] for x, s in zip(samples.points, strides, strict=True)]
    logps = [logp[::s] for logp, s in zip(samples.logp, strides, strict=True)]
    x, logp = np.concatenate(xs), np.concatenate(logps)
    counts = samples.n_proposals / np.array(strides)
    ratio = _log_terms(x, logp, samples.fitted.densities, counts) + np.log(counts.sum())
    proposer = np.repeat(np.arange(k), [len(part) for part in xs])
    region = expected_labels(partition, x, proposer)
    log_mass, log_mass_se = np.full(k, np.nan), np.full(k, np.nan)
    heavy = np.zeros(k, dtype=bool)
    for i in range(k):
        own = ratio[region == i]
        if len(own) < MIN_POINTS or np.isneginf(own.max()):
            continue
        # A piece of the region with larger ratios also has a large k-hat, though the mean is good.
        # A mean is bad where single terms are a large share of it.
        tail, largest_term = pareto_k(own), np.exp(own.max() - logsumexp(own))
        if largest_term > MAX_TERM and tail > HEAVY_TAIL:
            continue
        heavy[i] = tail > INFINITE_VARIANCE
        terms = _terms(own, own.max())
        total = terms.sum()
        log_mass[i] = own.max() + np.log(total / counts.sum())
        # Each region proposed a fixed number (stratified sampling); terms outside of region i are
        # 0.
        of = proposer[region == i]
        sums = np.bincount(of, terms, minlength=k)
        variance = np.bincount(of, terms**2, minlength=k) - sums**2 / counts
        log_mass_se[i] = np.sqrt(np.maximum(variance, 0.0).sum()) / total
    return log_mass, log_mass_se, heavy


def _compare(
    weights: Weights, log_mass: np.ndarray, log_mass_se: np.ndarray, heavy: np.ndarray
) -> CrossCheck:
    difference = log_mass - weights.log_evidence
    # A sample mean of heavy-tailed ratios tends to be too small, which says nothing of the chains.
    difference = np.where(heavy & (difference < 0), 0.0, difference)
    joint = np.hypot(log_mass_se, weights.log_evidence_se)
    gap, size = counted_gap(difference, joint), np.abs(difference)
    reported = (size > REPORTED_SE * joint) & (size * weights.weight > MIN_REPORTED_MASS)
    statuses = tuple(border_status(int(k), difference[k]) for k in np.flatnonzero(reported))
    return CrossCheck(log_mass, log_mass_se, gap, statuses)
