"""What regional chains cannot see: mass of a region that only its neighbours' proposals reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from pymc_multimodal._compat import pareto_k
from pymc_multimodal.proposals import RegionalFamilies
from pymc_multimodal.status import LimitReached, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymc_multimodal.evidence.weights import BridgeSamples, Weights
    from pymc_multimodal.proposals.base import RegionDensity
    from pymc_multimodal.regions.chains import LocalSampler
    from pymc_multimodal.regions.draws import RegionDraws
    from pymc_multimodal.regions.partition import Partition
    from pymc_multimodal.target.protocol import LogDensity

__all__ = ["CrossCheck", "connect_pieces", "cross_check", "foreign_shares", "light_regions"]

# Proposals of all regions together, and of each at least.
PROPOSALS, MIN_PROPOSALS = 20_000, 200
# Share of the precision asked for that all light regions together may hold.
LIGHT = 0.1
# Part of a region's mass that has a neighbour's shape from which on its chains jump there.
MIN_FOREIGN = 1e-3
# Posterior mass by which the two estimates of a region have to differ to be spoken of.
MIN_GAP = 1e-3


def foreign_shares(
    density: LogDensity,
    partition: Partition,
    densities: Sequence[RegionDensity],
    local: RegionDraws,
    rng: np.random.Generator,
) -> np.ndarray:
    r"""Estimate how much of each region belongs to the shapes of the others.

    A border that is a little off cuts a sliver from a mode. The sliver belongs to the
    neighbour, whose chains are confined and cannot cross the valley between: they never go
    there, or are stuck there. Proposals of the mode that lost it land there.

    Parameters
    ----------
    density : LogDensity
    partition : Partition
    densities : sequence of RegionDensity
        Fitted to each region.
    local : RegionDraws
    rng : numpy.random.Generator

    Returns
    -------
    array of shape (K, K)
        Entry (k, j) is the part of region k's mass that proposals of region j brought in,
        heavy regions proposing more often: those in the denominator of the ratio too.

    Notes
    -----
    Only proposals that leave their own region are evaluated, which are few. A sliver that is
    a tenth of a light region may be a hundred-thousandth of the heavy mode that lost it, so
    that few proposals of the latter are enough only where the regions weigh alike.
    """
    k = len(densities)
    share = np.zeros((k, k))
    if k == 1:
        return share
    log_evidence = np.array([_reciprocal(_ratios(local, i, q)) for i, q in enumerate(densities)])
    weight = np.exp(log_evidence - logsumexp(log_evidence))
    made = (max(MIN_PROPOSALS, PROPOSALS // k) + PROPOSALS * weight).astype(int)
    parts, labels, makers = [], [], []
    for j, q in enumerate(densities):
        x = q.sample(int(made[j]), rng)
        x = x[np.isfinite(x).all(axis=1)]
        label = partition.label(x)
        away = label != j
        parts.append(x[away])
        labels.append(label[away])
        makers.append(np.full(int(away.sum()), j))
    x, label, maker = (np.concatenate(part) for part in (parts, labels, makers))
    if not len(x):
        return share
    log_q = np.stack([q.log_density(x) for q in densities], axis=1)
    log_mass = density.logp(x) - logsumexp(log_q + np.log(made), axis=1)
    for here in np.unique(label):
        there = label == here
        with np.errstate(over="ignore"):
            mass = np.exp(np.minimum(log_mass[there] - log_evidence[here], 50.0))
        share[here] = np.bincount(maker[there], mass, minlength=k)
    return share / (1.0 + share.sum(axis=1, keepdims=True))


def _reciprocal(ratio: np.ndarray) -> float:
    """Log evidence of a region by its draws' log ratios alone, shape (chains, n).

    Good enough to share proposals out. The median of the chains' own estimates: one that is
    stuck far out would rule their mean.
    """
    return float(np.median(np.log(ratio.shape[1]) - logsumexp(-ratio, axis=1)))


def _ratios(local: RegionDraws, k: int, q: RegionDensity) -> np.ndarray:
    """Log ratios of the target to q at the draws of region k, shape (chains, n)."""
    x = local.x[k]
    return local.logp[k] - q.log_density(x.reshape(-1, x.shape[2])).reshape(x.shape[:2])


def light_regions(
    local: RegionDraws, densities: Sequence[RegionDensity], target_se: float
) -> np.ndarray:
    """Regions that do not matter by anything that any of their chains has seen; bool, shape (K,).

    The mass of each is taken to be what that chain says which speaks for most: one of many that
    has reached a heavy piece is enough to keep the region. The lightest are let go until
    together they may hold a part of the precision asked for.
    """
    ratios = [_ratios(local, k, q) for k, q in enumerate(densities)]
    log_evidence = np.array([_reciprocal(ratio) for ratio in ratios])
    most = np.array([np.median(ratio, axis=1).max() for ratio in ratios])
    order = np.argsort(most)
    sums = np.logaddexp.accumulate(most[order]) - logsumexp(log_evidence)
    light = np.zeros(len(most), dtype=bool)
    light[order] = sums < np.log(LIGHT * target_se)
    return light


def connect_pieces(
    density: LogDensity,
    partition: Partition,
    sampler: LocalSampler,
    target_se: float,
    rng: np.random.Generator,
) -> bool:
    """Connect regions that hold slivers of their neighbours; tell if any was not before.

    Regions too light to matter are left alone from now on.
    """
    if partition.n_regions == 1:
        return False
    local = sampler.result()
    families = RegionalFamilies(families=("gaussian", "mixture"))
    quick = families.fit_regions(local, density.period, rng).densities
    light = light_regions(local, quick, target_se)
    sampler.spare(light)
    try:
        with density.limited():
            share = foreign_shares(density, partition, quick, local, rng)
    except LimitReached:
        return False
    pieces = {}
    for k in np.flatnonzero(~light):
        neighbours = [quick[j] for j in np.flatnonzero(share[k] > MIN_FOREIGN)]
        if neighbours:
            pieces[int(k)] = (quick[k], neighbours)
    return sampler.connect(pieces)


@dataclass(frozen=True)
class CrossCheck:
    """Regional masses by importance sampling from all regions' proposals, beside the bridge's.

    Attributes
    ----------
    log_mass, log_mass_se : arrays of shape (K,)
        NaN where the ratios are too heavy-tailed to judge by.
    gap : array of shape (K,)
        By how much the two differ (nats), 0 where that is within 2.5 joint standard errors.
    statuses : tuple of Status
    """

    log_mass: np.ndarray
    log_mass_se: np.ndarray
    gap: np.ndarray
    statuses: tuple[Status, ...]

    def wanted(self, weighing: BridgeSamples, weights: Weights) -> np.ndarray:
        """Further proposals of each region that make this check as precise as the bridge.

        Half as many again as that takes, and none beyond what a check may cost; shape (K,).
        """
        made = np.array([len(r) for r in weighing.ratios])
        with np.errstate(invalid="ignore", divide="ignore"):
            wanted = 1.5 * made * (self.log_mass_se / weights.log_evidence_se) ** 2
        wanted = np.minimum(np.where(np.isfinite(wanted), wanted, 0.0), PROPOSALS / len(made))
        return np.maximum(wanted - made, 0.0).astype(int)


def cross_check(weighing: BridgeSamples, weights: Weights) -> CrossCheck:
    r"""Compare each region's evidence with what proposals of all regions say of it.

    .. math:: \hat Z_k = \frac1N \sum_i 1[x_i \in \Omega_k] \gamma(x_i) / \bar q(x_i)

    with the mixture of all regional densities in the denominator (Veach and Guibas 1995). It
    sees pieces of a region that its own chains miss or visit too often, as long as some
    region's density reaches them.

    Parameters
    ----------
    weighing : BridgeSamples
        Its proposals are used again; those that left their region are evaluated now.
    weights : Weights
        The bridge's estimates.
    """
    densities, k = weighing.fitted.densities, len(weighing.fitted.densities)
    nothing = np.full(k, np.nan)
    if k == 1:
        return CrossCheck(nothing, nothing, np.zeros(k), ())
    cap = max(MIN_PROPOSALS, 2 * PROPOSALS // k)
    xs, logps, made = [], [], np.empty(k)
    for j, ((own_x, own_logp), ratios) in enumerate(
        zip(weighing.points, weighing.ratios, strict=True)
    ):
        stride = max(1, len(own_x) // cap)
        xs.append(own_x[::stride])
        logps.append(own_logp[::stride])
        made[j] = len(ratios) / stride
    x, logp = np.concatenate(xs), np.concatenate(logps)
    away = np.isnan(logp)
    if away.any():
        try:
            with weighing.density.limited():
                logp[away] = weighing.density.logp(x[away])
        except LimitReached:
            return CrossCheck(nothing, nothing, np.zeros(k), ())
        # A second check looks at many of the same points: these are views of the weighing's.
        first = 0
        for part in logps:
            part[:] = logp[first : first + len(part)]
            first += len(part)
    log_q = np.stack([q.log_density(x) for q in densities], axis=1)
    ratio = logp - logsumexp(log_q + np.log(made), axis=1) + np.log(made.sum())
    label = weighing.partition.label(x)
    stratum = np.repeat(np.arange(k), [len(part) for part in xs])
    log_mass, log_mass_se = nothing.copy(), nothing.copy()
    heavy = np.zeros(k, dtype=bool)
    for j in range(k):
        own = ratio[label == j]
        if len(own) < 50:
            continue
        # A piece at another level looks like a heavy tail to k-hat: what makes a mean
        # worthless is that a few of its terms are most of it.
        tail, few = pareto_k(own), np.exp(own.max() - logsumexp(own))
        if few > 0.02 and tail > 0.7:
            continue
        heavy[j] = tail > 0.5
        share = np.exp(own - own.max())
        of = stratum[label == j]
        total = share.sum()
        log_mass[j] = own.max() + np.log(total / made.sum())
        # Each region proposed a fixed number; proposals outside of this one count zero.
        sums = np.bincount(of, share, minlength=k)
        spread = np.bincount(of, share**2, minlength=k) - sums**2 / made
        log_mass_se[j] = np.sqrt(np.maximum(spread, 0.0).sum()) / total
    return _judge(weights, log_mass, log_mass_se, heavy)


def _judge(
    weights: Weights, log_mass: np.ndarray, log_mass_se: np.ndarray, heavy: np.ndarray
) -> CrossCheck:
    difference = log_mass - weights.log_evidence
    # Heavy-tailed ratios fall short of a mean that few of them make up: no news of the chains.
    difference = np.where(heavy & (difference < 0), 0.0, difference)
    joint = np.hypot(log_mass_se, weights.log_evidence_se)
    # A comparison with NaN is False: what could not be judged has no gap.
    gap = np.where(np.abs(difference) > 2.5 * joint, np.abs(difference), 0.0)
    statuses = [
        Status("border", "weights",
               f"proposals of all regions put its evidence {difference[j]:+.1%} off what its own "
               "chains say: they miss, or are stuck in, a piece of it.",
               "Its weight and evidence are off by about as much; more "
               "LocalSampling.explore_moves shape the regions better.", mode=int(j))
        for j in np.flatnonzero((gap > 4.0 * joint) & (gap * weights.weight > MIN_GAP))
    ]  # fmt: skip
    return CrossCheck(log_mass, log_mass_se, gap, tuple(statuses))
