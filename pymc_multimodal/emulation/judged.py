"""Draws of the emulated posterior, judged by the true density."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pymc_multimodal.approximation import (
    WeightedSample,
    error_factor,
    evidence_bounds,
    region_of_draws,
    systematic_rows,
    weight_intervals,
    weights_of_sample,
)
from pymc_multimodal.evidence import LOG_EVIDENCE_FACTOR
from pymc_multimodal.status import LimitReached

if TYPE_CHECKING:
    from pymc_multimodal.emulation.rounds import Emulator
    from pymc_multimodal.evidence import Weights
    from pymc_multimodal.proposals import Generator
    from pymc_multimodal.regions import Partition
    from pymc_multimodal.search import Modes
    from pymc_multimodal.target import Density

__all__ = [
    "EmulatedPosterior",
    "joined_draws",
    "judged_draws",
    "judged_weights",
    "missing_draws",
    "region_of",
    "with_emulated_errors",
]

# Share of the judged draws that come from the densities of the regions, which are wider than the
# emulated posterior: they see mass that the emulator has too little of. Measured:
# examples/benchmarks/simulators.py
WIDE_SHARE = 0.15
# Emulated draws in the cell from which one is judged. Conventional.
DRAWS_PER_CELL = 16
# Judged draws that are evaluated between two looks at the limits. Conventional: as the rounds of a
# density that keeps its evaluations.
AT_ONCE = 64
# Singular values of the regression, relative to the largest, that count as zero, and the largest
# leverage of a draw. Conventional.
SINGULAR, MAX_LEVERAGE = 1e-10, 0.99
# Judged draws of each region at least. Conventional: a tail index needs 25 ratios.
LEAST_OF_REGION = 25


@dataclass(frozen=True, eq=False)
class EmulatedPosterior:
    """The emulated posterior, as a fit of it has found it.

    Attributes
    ----------
    emulator : Emulator
    modes : Modes
        Its K modes.
    partition : Partition
    weights : Weights
        Of the regions, with the evidences of the emulated density.
    sample : WeightedSample
        Draws of the mixture with the values of the emulated density.
    region : array of int, shape (n,)
        Region of each of them, -1 where the emulated density is zero.
    generator : Generator
        The density of all regions together.
    """

    emulator: Emulator
    modes: Modes
    partition: Partition
    weights: Weights
    sample: WeightedSample
    region: np.ndarray
    generator: Generator

    def counts(self, n: int) -> np.ndarray:
        """Numbers of judged draws of each region, and of the wide density, shape (K + 1,).

        Their sum is n, about, and at most n.
        """
        share = np.append((1.0 - WIDE_SHARE) * self.weights.weight, WIDE_SHARE)
        least = min(LEAST_OF_REGION, max(1, n // (2 * len(share))))
        out: np.ndarray = np.maximum(np.round(n * share).astype(int), least)
        # A limit may leave no room for more than n: the last of them go without a draw.
        light = np.argsort(self.weights.weight, kind="stable")
        while out.sum() > n and out[:-1].any():
            i = int(np.argmax(out))
            out[i if out[i] > 1 else light[out[light] > 0][0]] -= 1
        return out

    def even_draws(self, k: int, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n points of the emulated posterior in region k, one from each of n cells, (n, d).

        The cells hold equally many draws. Each draw is as likely as any other to be taken, and
        shares of parts of the region vary less than those of independent draws.
        """
        rows = np.flatnonzero((self.region == k) & (self.sample.ratio > 0))
        own = systematic_rows(self.sample.ratio[rows], DRAWS_PER_CELL * n, rng)
        x = self.sample.x[rows[own]]
        # One draw may hold nearly all of a region's mass: then all of these are the same.
        spread = np.ptp(x, axis=0)
        return x[_one_of_each_cell(x / np.where(spread > 0, spread, 1.0), n, rng)]

    def log_q(self, x: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Log density of the mixture that the judged draws come from, shape (n,)."""
        share = counts / counts.sum()
        region = self.partition.label(x)
        within = self.emulator.log_density(x) - self.weights.log_evidence[region]
        with np.errstate(divide="ignore"):
            log_share = np.log(share)
        wide = -self.generator.minus_log_q(x, rng)
        out: np.ndarray = np.logaddexp(log_share[region] + within, log_share[-1] + wide)
        return out


def _one_of_each_cell(x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Divide points (m, d) into n cells of equally many; one row of each, shape (n,)."""
    chosen: list[int] = []
    cells = [(np.arange(len(x)), n)]
    while cells:
        rows, count = cells.pop()
        if count == 1:
            chosen.append(int(rng.choice(rows)))
            continue
        # A coordinate is divided at random, the wider ones more often.
        width = x[rows].std(axis=0) + 1e-12
        j = int(rng.choice(len(width), p=width / width.sum()))
        order, left = rows[np.argsort(x[rows, j], kind="stable")], count // 2
        at = len(rows) * left // count
        cells += [(order[:at], left), (order[at:], count - left)]
    return np.array(chosen, dtype=int)


def judged_draws(
    density: Density, posterior: EmulatedPosterior, counts: np.ndarray, rng: np.random.Generator
) -> WeightedSample:
    """Evaluate draws of the emulated posterior, spread evenly over each of its regions.

    Parameters
    ----------
    density : Density
        The true one.
    posterior : EmulatedPosterior
    counts : array of int, shape (K + 1,)
        Numbers of draws of each region, and of the wide density (`EmulatedPosterior.counts`).
    rng : numpy.random.Generator

    Returns
    -------
    WeightedSample
        Its strata are the regions and the wide density.

    Raises
    ------
    LimitReached
        If a limit of the fit was reached before any was evaluated.
    """
    some = np.flatnonzero(counts[:-1]).tolist()
    parts = [posterior.even_draws(k, int(counts[k]), rng) for k in some]
    if counts[-1]:
        parts.append(posterior.generator.propose(int(counts[-1]), rng).x)
    x, stratum = np.concatenate(parts), np.repeat(np.arange(len(counts)), counts)
    inside = np.isfinite(x).all(axis=1)
    logp, known = np.full(len(x), -np.inf), ~inside
    # In random order: those that a limit leaves are as good a sample.
    order = rng.permutation(np.flatnonzero(inside))
    try:
        for rows in np.split(order, range(AT_ONCE, len(order), AT_ONCE)):
            logp[rows] = density.logp(x[rows])
            known[rows] = True
    except LimitReached:
        if not known[inside].any():
            raise
    x, logp, stratum = x[known], logp[known], stratum[known]
    counts = np.bincount(stratum, minlength=len(counts))
    return _weighted(posterior, (x, logp, stratum), counts, rng)


def joined_draws(
    posterior: EmulatedPosterior,
    first: WeightedSample,
    second: WeightedSample,
    rng: np.random.Generator,
) -> WeightedSample:
    """Join two samples of judged draws, of which the density is that of both together."""
    stratum = np.concatenate([first.stratum, second.stratum])
    order = np.argsort(stratum, kind="stable")
    x = np.concatenate([first.x, second.x])[order]
    logp = np.concatenate([first.logp, second.logp])[order]
    counts = first.counts + second.counts
    return _weighted(posterior, (x, logp, stratum[order]), counts, rng)


def _weighted(
    posterior: EmulatedPosterior,
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
    counts: np.ndarray,
    rng: np.random.Generator,
) -> WeightedSample:
    """Weigh draws, log densities and strata; the density of the draws has the shares of counts."""
    x, logp, stratum = drawn
    log_q, inside = np.full(len(x), -np.inf), np.isfinite(x).all(axis=1)
    log_q[inside] = posterior.log_q(x[inside], counts, rng)
    return WeightedSample(x, logp, log_q, stratum, counts)


def region_of(posterior: EmulatedPosterior, sample: WeightedSample) -> np.ndarray:
    """Region of each judged draw, shape (n,); -1 where the density is zero."""
    return region_of_draws(posterior.partition, sample)


def judged_weights(sample: WeightedSample, posterior: EmulatedPosterior) -> Weights:
    r"""Weights and evidences by the judged draws, without the emulated evidences' own errors.

    The regions' emulated densities and the wide density are known but for the emulated evidences:
    they serve as control variates (Owen and Zhou 2000, doi:10.1080/01621459.2000.10473909). With
    the ratios :math:`r_i` of the density to the mixture q and :math:`c_{ij} = q_j(x_i) / q(x_i) -
    1`, the evidence of region k is the intercept of the regression of :math:`r_i 1[i \in k]` on the
    :math:`c_{ij}`. It is exact where the true density is a combination of the emulated ones.

    Parameters
    ----------
    sample : WeightedSample
    posterior : EmulatedPosterior

    Returns
    -------
    Weights
        See `with_emulated_errors`.
    """
    region, k = region_of(posterior, sample), posterior.partition.n_regions
    plain = weights_of_sample(sample, region, k)
    mass, covariance = _regression(sample, region, posterior)
    if not (mass > 0).all() or not np.isfinite(covariance).all():
        return plain
    total = mass.sum()
    weight, factor = mass / total, error_factor(sample.ratio)
    jacobian = (np.eye(k) - weight[:, None]) / total
    weight_se = factor * np.sqrt(np.maximum(np.diag(jacobian @ covariance @ jacobian.T), 0.0))
    log_se = factor * np.sqrt(np.diag(covariance)) / mass
    log_evidence = np.log(mass) + sample.shift
    return replace(
        plain,
        weight=weight,
        weight_se=weight_se if k > 1 else np.zeros(1),
        log_evidence=log_evidence,
        log_evidence_se=log_se,
        total=float(np.log(total)) + sample.shift,
        total_se=float(factor * np.sqrt(covariance.sum()) / total),
        from_proposals=log_se**2,
        iterations=tuple(log_evidence[:, None]),
    )


def _regression(
    sample: WeightedSample,
    region: np.ndarray,
    posterior: EmulatedPosterior,
) -> tuple[np.ndarray, np.ndarray]:
    """Masses of the regions, shape (K,), relative to the largest ratio, and their covariance.

    The covariance is that of the jackknife: coefficients that few draws determine, and residuals
    that vary, are accounted for (HC3 of MacKinnon and White 1985,
    doi:10.1016/0304-4076(85)90158-7).
    """
    k, n = posterior.partition.n_regions, len(sample)
    inside = np.flatnonzero(np.isfinite(sample.x).all(axis=1))
    control = np.full((n, k), -1.0)
    x = sample.x[inside]
    own = posterior.partition.label(x)
    emulated = posterior.emulator.log_density(x) - posterior.weights.log_evidence[own]
    control[inside, own] += np.exp(emulated - sample.log_q[inside])
    design = np.column_stack([np.ones(n), control])
    y = sample.ratio[:, None] * (region[:, None] == np.arange(k))
    left, singular, right = np.linalg.svd(design, full_matrices=False)
    rank = int(np.sum(singular > SINGULAR * singular[0]))
    left, singular, right = left[:, :rank], singular[:rank], right[:rank]
    mass = right[:, 0] / singular @ (left.T @ y)
    fitted = left @ (left.T @ y)
    # Leaving draw i out changes the intercept by so much.
    leverage = np.minimum(np.square(left).sum(axis=1), MAX_LEVERAGE)
    change = ((left / singular) @ right[:, 0] / (1.0 - leverage))[:, None] * (y - fitted)
    return mass, change.T @ change


def missing_draws(weights: Weights, target_se: float) -> float:
    """Return by which factor the judged draws are too few for the errors that are asked for."""
    worst = max(
        float(weights.weight_se.max()) / target_se,
        weights.total_se / (LOG_EVIDENCE_FACTOR * target_se),
    )
    return max(1.0, worst**2)


def with_emulated_errors(weights: Weights, posterior: EmulatedPosterior) -> Weights:
    """Add the errors of the emulated evidences, which the ratios are relative to, in quadrature.

    Parameters
    ----------
    weights : Weights
        What `judged_weights` returned.
    posterior : EmulatedPosterior
    """
    emulated = posterior.weights
    se = np.hypot(weights.weight_se, emulated.weight_se)
    log_se = np.hypot(weights.log_evidence_se, emulated.log_evidence_se)
    return replace(
        weights,
        weight_se=se,
        log_evidence_se=log_se,
        interval=weight_intervals(weights.weight, se),
        total_se=float(np.hypot(weights.total_se, emulated.total_se)),
        from_draws=emulated.log_evidence_se**2,
        bounds=evidence_bounds(weights.log_evidence, log_se),
    )
